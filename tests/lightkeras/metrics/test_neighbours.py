"""Nearest images and coverage, by hand and against all pairs."""

import numpy as np
import pytest

from lightkeras.metrics import neighbours


def test_the_nearest_of_all_references(monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", 7)
    numbers = np.random.default_rng(3)
    images, references = (numbers.integers(0, 256, (n, 5, 5, 3), np.uint8) for n in (11, 40))
    images[4] = references[33]
    pairs = np.linalg.norm((images[:, None] / 255.0 - references[None] / 255.0).reshape(11, 40, -1), axis=2)
    nearest, distances = neighbours.find_nearest(images, references)
    np.testing.assert_array_equal(nearest, pairs.argmin(axis=1))
    np.testing.assert_allclose(distances, pairs.min(axis=1), rtol=1e-5)
    assert distances[4] == 0


def line(*values):
    """Images of one pixel."""
    return np.array(values, np.uint8).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize(
    ("generated", "expected"),
    [
        ((0, 10, 200, 210), 1.0),  # as the real ones
        ((5,), 0.5),  # the second pair has none near
        ((100,), 0.0),  # farther from each than its nearest real one, 10 away
        ((0, 213), 0.5),  # 10 is as far from 0 as from its neighbour; 213 is 13 from 200
    ],
)
def test_coverage_by_hand(generated, expected):
    """Of 0, 10, 200 and 210, each has its nearest real one at 10."""
    assert neighbours.coverage(line(0, 10, 200, 210), line(*generated), neighbours=1) == expected


def test_coverage_needs_images():
    with pytest.raises(ValueError, match="`real` to be at least 2 images"):
        neighbours.coverage(line(1), line(1))
    with pytest.raises(ValueError, match="`generated` to be at least one image"):
        neighbours.coverage(line(1, 2), line(1)[:0])
