"""Metrics as sums with weights: values by hand, and merging by addition."""

import math

import numpy as np
import pytest

import lightkeras as lk


def test_values_by_hand():
    assert lk.metrics.WeightedMean(6.0, 4.0).result() == 1.5
    assert lk.metrics.Perplexity(3 * math.log(10), 3.0).result() == pytest.approx(10.0)
    assert lk.metrics.BitsPerCharacter(8 * math.log(2), 4.0).result() == pytest.approx(2.0)


@pytest.mark.parametrize("kind", [lk.metrics.WeightedMean, lk.metrics.Perplexity, lk.metrics.BitsPerCharacter])
def test_sums_of_uneven_parts_add_up_to_the_whole(kind):
    nats, weights = np.array([0.5, 1.0, 2.0, 4.0, 0.25]), np.array([1.0, 0.0, 2.0, 1.0, 3.0])
    parts = [((nats * weights)[rows].sum(), weights[rows].sum()) for rows in (slice(0, 1), slice(1, 2), slice(2, 5))]
    mean = np.average(nats, weights=weights)
    whole = {"WeightedMean": mean, "Perplexity": math.exp(mean), "BitsPerCharacter": mean / math.log(2)}[kind.__name__]
    assert kind.from_sums(np.sum(parts, axis=0)).result() == pytest.approx(whole)


@pytest.mark.parametrize("kind", [lk.metrics.WeightedMean, lk.metrics.Perplexity, lk.metrics.BitsPerCharacter])
def test_nothing_counted_is_nan(kind):
    result = kind(0.0, 0.0).result()
    assert math.isnan(result) and type(result) is float


def test_beyond_a_float_is_infinite():
    assert lk.metrics.Perplexity(1e6, 1.0).result() == math.inf
    assert lk.metrics.Perplexity(math.inf, 2.0).result() == math.inf
    assert math.isnan(lk.metrics.Perplexity(math.nan, 2.0).result())
