"""Metrics that merge by adding: the division comes last, on the host, once everything is added up."""

import math
from typing import Any, NamedTuple, Protocol, Self

import numpy as np


class Metric(Protocol):
    """A metric before its division: sums that can be added over batches, replicas and workers.

    `WeightedMean` (in the graph and on the host) and `CorpusMetric` (on the host) are metrics.
    """

    @property
    def sums(self) -> np.ndarray:
        """The sums as a vector (k,) float64."""
        raise NotImplementedError

    @classmethod
    def from_sums(cls, sums: np.ndarray) -> Self:
        """Makes the metric from added `sums` (k,)."""
        raise NotImplementedError

    def __add__(self, other: Self) -> Self:
        """Merges two parts of a data set."""
        raise NotImplementedError

    def result(self) -> float:
        """Divides: the value of the metric."""
        raise NotImplementedError


class WeightedMean(NamedTuple):
    """A weighted mean before its division: `total / weight`.

    Args:
        total: Scalar sum of the quantity over the examples (tokens, pixels) of a batch.
        weight: Scalar sum of their weights.
    """

    total: Any
    weight: Any

    @property
    def sums(self) -> np.ndarray:
        """`[total, weight]` (2,) float64."""
        return np.array([float(self.total), float(self.weight)])

    @classmethod
    def from_sums(cls, sums: np.ndarray) -> Self:
        """Makes the metric from `[total, weight]`."""
        return cls(*sums)

    def __add__(self, other: Self) -> Self:
        return type(self)(self.total + other.total, self.weight + other.weight)

    def mean(self) -> float:
        """`total / weight`; NaN where the weight is 0."""
        return float(np.float64(self.total) / self.weight) if self.weight else math.nan

    def result(self) -> float:
        """The value of the metric: the mean, unless a subclass makes something of it."""
        return self.mean()


class Perplexity(WeightedMean):
    """`exp(total / weight)` of a negative log-likelihood in nats and its number of tokens."""

    direction = "min"

    def result(self) -> float:
        """exp of the mean; infinite where that overflows a float."""
        with np.errstate(over="ignore"):
            return float(np.exp(np.float64(self.mean())))


class BitsPerCharacter(WeightedMean):
    """`total / weight / ln 2` of a negative log-likelihood in nats and its number of characters."""

    direction = "min"

    def result(self) -> float:
        """The mean in bits."""
        return self.mean() / math.log(2)
