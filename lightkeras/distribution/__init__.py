"""Strategies, workers, and sums over replicas."""

from lightkeras.distribution.replicas import all_reduce_sum
from lightkeras.distribution.strategies import make_strategy

__all__ = ["all_reduce_sum", "make_strategy"]
