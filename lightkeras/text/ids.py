"""Ids of tokens: the four special ones that every vocabulary of words or subwords begins with, and their checks."""

from typing import Any

import numpy as np

from lightkeras.utils.checks import ArgumentError, require

PAD, UNKNOWN, START, END = range(4)
SPECIAL_TOKENS = ("<pad>", "<unk>", "<s>", "</s>")  # by id
FIRST_WORD = len(SPECIAL_TOKENS)  # the first id of an ordinary word


def as_ids(ids: Any) -> np.ndarray:
    """Converts an integer array or list (length,) to an array.

    Raises:
        ValueError: `ids` are not integers in one dimension.
    """
    ids = np.asarray(ids)
    integers = ids.size == 0 or np.issubdtype(ids.dtype, np.integer)
    require(ids.ndim == 1 and integers, "ids", "integers of shape (length,)", f"{ids.dtype} {ids.shape}")
    return ids


def require_range(ids: np.ndarray, size: int, first: int = 0) -> None:
    """Raises ValueError unless all `ids` (length,) are from 0 to `size - 1`; `first` is the position of the first."""
    if ids.size and (ids.min() < 0 or ids.max() >= size):
        bad = int(np.argmax((ids < 0) | (ids >= size)))
        raise ArgumentError(
            f"Expected `ids` to be from 0 to {size - 1}. Received: {ids[bad]} at position {first + bad}"
        )


def ids_before_end(ids: Any, size: int) -> np.ndarray:
    """Returns the ids before the first `END`, without padding and `START`.

    Args:
        ids: An integer array or list (length,).
        size: The size of the vocabulary.

    Raises:
        ValueError: `ids` are not integers in one dimension, or one of those before the end is not in the vocabulary.
    """
    ids = as_ids(ids)
    ends = np.flatnonzero(ids == END)
    ids = ids[: ends[0]] if len(ends) else ids
    require_range(ids, size)
    return ids[(ids != PAD) & (ids != START)]
