"""Sequences from a model that scores the next token: sampling, greedy search, beam search."""

from .beams import beam_search
from .sampling import check_sampling, generate, sample
from .search import Hypotheses, check_search, greedy_search, sample_search

__all__ = [
    "Hypotheses",
    "beam_search",
    "check_sampling",
    "check_search",
    "generate",
    "greedy_search",
    "sample",
    "sample_search",
]
