"""Layers in their fast formulation, shared by the tasks."""

from .attention import AdditiveAttention, AttentionDecoder
from .recurrent import GRU, LSTM
from .token_head import TokenHead

__all__ = ["GRU", "LSTM", "AdditiveAttention", "AttentionDecoder", "TokenHead"]
