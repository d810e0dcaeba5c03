"""Layers in their fast formulation, shared by the tasks."""

from .recurrent import GRU, LSTM

__all__ = ["GRU", "LSTM"]
