"""Layers in their fast formulation, shared by the tasks."""

from .attention import AdditiveAttention, AttentionDecoder
from .head import TokenHead
from .recurrent import GRU, LSTM

__all__ = ["GRU", "LSTM", "AdditiveAttention", "AttentionDecoder", "TokenHead"]
