"""Arrays on disk (`np.load(file, mmap_mode="r")`, `np.memmap`, h5py, zarr): read by rows, never copied whole."""

from typing import Any

import numpy as np
import tensorflow as tf

from lightkeras.utils.pages import PageRelease, find_memmap


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
        self._pages = PageRelease(array)
        self._row_bytes = np.dtype(array.dtype).itemsize * (self.shape[1:].num_elements() or 0)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Returns the rows of `indices` (rows,); they are read in the order of the disk."""
        places, inverse = np.unique(indices, return_inverse=True)
        rows = np.asarray(self.array[places]).astype(self._dtype, copy=False)[inverse]
        self._pages.count(len(places) * self._row_bytes, reads=len(places))
        return rows

    def gather(self, indices: tf.Tensor) -> tf.Tensor:
        """Returns the rows of `indices` (rows,) as a tensor, in a graph."""
        rows = tf.numpy_function(self.read, [indices], self.dtype, stateful=False)
        return tf.ensure_shape(rows, (indices.shape[0], *self.shape[1:]))


def is_on_disk(array: Any) -> bool:
    """Returns whether an array is read from the disk when it is used."""
    return type(array).__module__.split(".")[0] in ("h5py", "zarr") or find_memmap(array) is not None
