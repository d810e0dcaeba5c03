"""(sum, weight) metrics in the graph. The division comes last, on the host, once everything is added up."""

import math
from typing import Any, NamedTuple

import numpy as np


class WeightedMean(NamedTuple):
    """A weighted mean before its division: `total / weight`.

    Args:
        total: Scalar sum of the quantity over the examples (tokens, pixels) of a batch.
        weight: Scalar sum of their weights.
    """

    total: Any
    weight: Any

    @classmethod
    def result(cls, total: float, weight: float) -> float:
        """The metric's value from the sums over everything; NaN where the weight is 0."""
        return float(np.float64(total) / weight) if weight else math.nan


class Perplexity(WeightedMean):
    """`exp(total / weight)` of a negative log-likelihood in nats and its number of tokens."""

    @classmethod
    def result(cls, total: float, weight: float) -> float:
        """exp of the mean; inf where that is beyond a float."""
        with np.errstate(over="ignore"):
            return float(np.exp(np.float64(WeightedMean.result(total, weight))))


class BitsPerCharacter(WeightedMean):
    """`total / weight / ln 2` of a negative log-likelihood in nats and its number of characters."""

    @classmethod
    def result(cls, total: float, weight: float) -> float:
        """The mean in bits."""
        return WeightedMean.result(total, weight) / math.log(2)
