"""Sequences from a model that scores the next token: sampling, greedy search, beam search."""

from lightkeras.decoding.beams import beam_search
from lightkeras.decoding.compiled_search import CompiledSearch, FoundSequence
from lightkeras.decoding.sampling import check_sampling, continue_text, generate, sample
from lightkeras.decoding.search import Hypotheses, check_search, greedy_search, sample_search

__all__ = [
    "CompiledSearch",
    "FoundSequence",
    "Hypotheses",
    "beam_search",
    "check_sampling",
    "check_search",
    "continue_text",
    "generate",
    "greedy_search",
    "sample",
    "sample_search",
]
