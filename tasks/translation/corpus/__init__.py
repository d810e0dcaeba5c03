"""Pairs of sentences: files, cleaning, and splits."""

from tasks.translation.corpus.cleaning import CLEANING, clean_as_tutorial
from tasks.translation.corpus.encoding import Corpus, encode_in_memory
from tasks.translation.corpus.opening import open_corpus
from tasks.translation.corpus.pairs import Pairs
from tasks.translation.corpus.reading import find_faults, read_pairs
from tasks.translation.corpus.splits import split_pairs

__all__ = [
    "CLEANING",
    "Corpus",
    "Pairs",
    "clean_as_tutorial",
    "encode_in_memory",
    "find_faults",
    "open_corpus",
    "read_pairs",
    "split_pairs",
]
