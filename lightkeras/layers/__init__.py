"""Recurrent and attention layers in a fast formulation, and the layers that read and score tokens."""

from lightkeras.layers.attention import AdditiveAttention
from lightkeras.layers.attention_decoder import AttentionDecoder
from lightkeras.layers.recurrent import GRU, LSTM
from lightkeras.layers.token_decoder import TokenDecoder
from lightkeras.layers.token_head import TokenHead

__all__ = ["GRU", "LSTM", "AdditiveAttention", "AttentionDecoder", "TokenDecoder", "TokenHead"]
