"""Metrics as sums with weights: values by hand, and merging by addition."""

import math

import numpy as np
import pytest

import lightkeras as lk


def test_values_by_hand():
    assert lk.metrics.WeightedMean.result(6.0, 4.0) == 1.5
    assert lk.metrics.Perplexity.result(3 * math.log(10), 3.0) == pytest.approx(10.0)
    assert lk.metrics.BitsPerCharacter.result(8 * math.log(2), 4.0) == pytest.approx(2.0)


@pytest.mark.parametrize("kind", [lk.metrics.WeightedMean, lk.metrics.Perplexity, lk.metrics.BitsPerCharacter])
def test_sums_of_uneven_parts_add_up_to_the_whole(kind):
    nats, weights = np.array([0.5, 1.0, 2.0, 4.0, 0.25]), np.array([1.0, 0.0, 2.0, 1.0, 3.0])
    parts = [((nats * weights)[rows].sum(), weights[rows].sum()) for rows in (slice(0, 1), slice(1, 2), slice(2, 5))]
    mean = np.average(nats, weights=weights)
    whole = {"WeightedMean": mean, "Perplexity": math.exp(mean), "BitsPerCharacter": mean / math.log(2)}[kind.__name__]
    assert kind.result(*np.sum(parts, axis=0)) == pytest.approx(whole)


@pytest.mark.parametrize("kind", [lk.metrics.WeightedMean, lk.metrics.Perplexity, lk.metrics.BitsPerCharacter])
def test_nothing_counted_is_nan(kind):
    result = kind.result(0.0, 0.0)
    assert math.isnan(result) and type(result) is float


def test_beyond_a_float_is_infinite():
    assert lk.metrics.Perplexity.result(1e6, 1.0) == math.inf
    assert lk.metrics.Perplexity.result(math.inf, 2.0) == math.inf
    assert math.isnan(lk.metrics.Perplexity.result(math.nan, 2.0))
