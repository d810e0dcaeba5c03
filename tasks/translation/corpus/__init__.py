"""Pairs of sentences: files, cleaning, and splits."""

from tasks.translation.corpus.cleaning import CLEANING, clean_as_tutorial
from tasks.translation.corpus.reading import read_aligned, read_pairs
from tasks.translation.corpus.splits import split_pairs

__all__ = ["CLEANING", "clean_as_tutorial", "read_aligned", "read_pairs", "split_pairs"]
