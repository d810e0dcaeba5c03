"""The global random generators are seeded for a while, and put back."""

# ruff: noqa: NPY002  (the global generator of NumPy is what this is about)

import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.toys import Classifier, PointsData, quiet

import lightkeras as lk
from lightkeras.utils.seeds import seeded


def draw() -> list[float]:
    return [random.random(), np.random.rand(), float(tf.random.uniform([])), float(keras.random.uniform([]))]


def test_generators_are_put_back():
    keras.utils.set_random_seed(3)
    first, second = draw(), draw()
    keras.utils.set_random_seed(3)
    assert draw() == first
    with seeded(9):
        inside = draw()
    assert draw() == second
    with seeded(9):
        assert draw() == inside != first


class SplitData(PointsData):
    """Splits at random in the ways that people do, without a seed."""

    def __init__(self, way: str):
        super().__init__()
        self.way = way

    def setup(self, stage):
        super().setup(stage)
        self.order = {
            "numpy": lambda: np.random.permutation(37),
            "python": lambda: random.sample(range(37), 37),
            "tensorflow": lambda: tf.random.shuffle(tf.range(37)).numpy(),
            "keras": lambda: keras.random.shuffle(np.arange(37)).numpy(),
            "in val_dataset": lambda: np.arange(37),
        }[self.way]()

    def _part(self, rows, shuffle):
        self.rows = rows
        return lk.AddressedDataset.from_arrays({"x": self.x[rows], "y": self.y[rows]}, 4, shuffle)

    def train_dataset(self):
        order = np.random.permutation(37) if self.way == "in val_dataset" else self.order
        self.trained = set(map(int, order[:25]))
        return self._part(order[:25], True)

    def val_dataset(self):
        order = np.random.permutation(37) if self.way == "in val_dataset" else self.order
        self.validated = set(map(int, order[25:]))
        return self._part(order[25:], False)


@pytest.mark.parametrize("way", ["numpy", "python", "tensorflow", "keras", "in val_dataset"])
def test_a_random_split_is_the_same_in_every_stage_and_after_a_resume(way, root):
    trainer, data, task = quiet(root, max_steps=2, seed=None), SplitData(way), Classifier()
    trainer.fit(task, data)
    held_out = data.validated
    assert len(held_out) == 12 and not held_out & data.trained
    for use in (
        lambda other: quiet(root, seed=None).validate(Classifier(), other, trainer.run_dir),
        lambda other: quiet(root, seed=None).test(task, other),
        lambda other: quiet(root, seed=None, max_steps=4).fit(Classifier(), other, ckpt_path="last"),
    ):
        other = SplitData(way)
        use(other)
        assert other.validated == held_out


def test_other_seeds_give_other_splits(root):
    found = []
    for seed in (1, 2):
        data = SplitData("numpy")
        quiet(root, max_steps=1, seed=seed).fit(Classifier(), data)
        found.append(data.validated)
    assert found[0] != found[1]
