"""Seeds of the global random generators."""

# ruff: noqa: NPY002  (the global generator of NumPy is what this is about)

import contextlib
import random
from collections.abc import Iterator

import keras
import numpy as np

from lightkeras.utils import internals


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds the global generators of Python, NumPy, TensorFlow and Keras in its `with` block.

    Afterwards the generators are in the states that they had before.

    Args:
        seed: The seed, from 0 to 2**32 - 1.
    """
    python, numpy, others = random.getstate(), np.random.get_state(), internals.random_state()
    keras.utils.set_random_seed(int(seed))
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        internals.set_random_state(others)
