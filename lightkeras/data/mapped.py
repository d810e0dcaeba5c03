"""Arrays on disk (`np.load(file, mmap_mode="r")`, `np.memmap`, h5py, zarr): read by rows, never copied whole."""

import mmap
import threading
from typing import Any

import numpy as np
import tensorflow as tf

RELEASE_BYTES = 2**27  # pages read since the last release that are kept in memory
FAULT_BYTES = 2**16  # a page fault brings its neighbours


class MappedArray:
    """Reads rows of an array on disk.

    The operating system counts the pages that were read as memory of this process until it needs them elsewhere. They
    are given back after every 128 MB, so that the resident size stays flat; the system's cache keeps them.

    Args:
        array: The array, examples first. Floating-point numbers become float32.

    Attributes:
        shape, dtype: As of a tensor.
    """

    def __init__(self, array: Any):
        self.array = array
        self.shape = tf.TensorShape(array.shape)
        floating = np.issubdtype(array.dtype, np.floating)
        self._dtype = np.dtype(np.float32) if floating else np.dtype(array.dtype).newbyteorder("=")
        self.dtype = tf.string if self._dtype.kind in "SUO" else tf.as_dtype(self._dtype)
        self._map, self._lock, self._touched = _releasable_map(array), threading.Lock(), 0
        self._row_bytes = np.dtype(array.dtype).itemsize * (self.shape[1:].num_elements() or 0)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Returns the rows of `indices` (rows,); they are read in the order of the disk."""
        places, inverse = np.unique(indices, return_inverse=True)
        rows = np.asarray(self.array[places]).astype(self._dtype, copy=False)[inverse]
        self._release(len(places))
        return rows

    def gather(self, indices: tf.Tensor) -> tf.Tensor:
        """Returns the rows of `indices` (rows,) as a tensor, in a graph."""
        rows = tf.numpy_function(self.read, [indices], self.dtype, stateful=False)
        return tf.ensure_shape(rows, (indices.shape[0], *self.shape[1:]))

    def _release(self, rows: int) -> None:
        if self._map is None:
            return
        with self._lock:
            self._touched += rows * (self._row_bytes + FAULT_BYTES)
            if self._touched > RELEASE_BYTES:
                self._touched = 0
                self._map.madvise(mmap.MADV_DONTNEED)


def is_on_disk(array: Any) -> bool:
    """Returns whether an array is read from the disk when it is used."""
    return type(array).__module__.split(".")[0] in ("h5py", "zarr") or _find_memmap(array) is not None


def _find_memmap(array: Any) -> np.memmap | None:
    """Finds the memory-mapped array that `array` is, or is a view of."""
    found = None
    while isinstance(array, np.ndarray):
        found, array = (array if isinstance(array, np.memmap) else found), array.base
    return found if isinstance(array, mmap.mmap) else None


def _releasable_map(array: Any) -> mmap.mmap | None:
    """Returns the map whose pages can be given back: not that of a copy-on-write array, which may have changes."""
    memmap = _find_memmap(array)
    if memmap is None or memmap.mode == "c" or not hasattr(mmap, "MADV_DONTNEED"):
        return None
    base = memmap
    while isinstance(base, np.ndarray):
        base = base.base
    return base
