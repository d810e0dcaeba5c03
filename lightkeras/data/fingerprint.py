"""What identifies data that is brought: its size, its shapes, and a digest of a part of its content."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from lightkeras.data.batches import named_entries
from lightkeras.data.mapped import MappedArray

WHOLE_BYTES = 2**26  # of an array: of a larger one, rows are sampled
SAMPLED_ROWS = 1024


def digest(parts: Iterable[Any]) -> str:
    """Hashes arrays or tensors, with their shapes and types."""
    found = hashlib.sha256()
    for part in parts:
        array = np.asarray(part)
        found.update(f"{array.dtype.str}{array.shape}".encode())
        strings = array.dtype.kind in "OU"
        found.update(repr(array.tolist()).encode() if strings else np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:32]


def digest_arrays(structure: Any) -> str:
    """Hashes arrays; of those larger than 64 MB, 1024 rows that are evenly spread."""
    return digest(part for array in named_entries(structure).values() for part in _sample(array))


def _sample(array: Any) -> Iterable[np.ndarray]:
    if isinstance(array, tf.RaggedTensor):
        yield from _sample(array.flat_values)
        array = array.row_splits
    if array.dtype.size * (array.shape.num_elements() or 0) <= WHOLE_BYTES:
        rows = np.arange(array.shape[0])
    else:
        rows = np.linspace(0, array.shape[0] - 1, SAMPLED_ROWS).astype(np.int64)
    yield array.read(rows) if isinstance(array, MappedArray) else np.asarray(array)[rows]
    yield np.array(array.shape)


def describe_spec(spec: Any) -> list[str]:
    """Writes the entries of a batch without its rows: "x float32 (28, 28)"."""
    return [f"{name} {one.dtype.name} {tuple(one.shape[1:])}" for name, one in named_entries(spec).items()]
