"""The pages of memory-mapped arrays: those that were read are given back to the system."""

import mmap
import threading
from typing import Any

import numpy as np

RELEASE_BYTES = 2**27  # pages read since the last release that are kept in memory
FAULT_BYTES = 2**20  # a page fault brings its neighbours, up to a large folio of the page cache


class PageRelease:
    """Gives the pages of a memory-mapped array back to the system after every 128 MB that were read.

    Args:
        array: The array, or a view of it; of other arrays nothing is given back.
    """

    def __init__(self, array: Any):
        self._map, self._lock, self._touched = _releasable_map(array), threading.Lock(), 0
        self.is_map = find_memmap(array) is not None

    def count(self, size: int, reads: int = 1) -> None:
        """Counts `size` bytes that were read at `reads` places."""
        if self._map is None:
            return
        with self._lock:
            self._touched += size + reads * FAULT_BYTES
            if self._touched > RELEASE_BYTES:
                self._touched = 0
                self._map.madvise(mmap.MADV_DONTNEED)


def find_memmap(array: Any) -> np.memmap | None:
    """Finds the memory-mapped array that `array` is, or is a view of; None for other arrays."""
    found = None
    while isinstance(array, np.ndarray):
        found, array = (array if isinstance(array, np.memmap) else found), array.base
    return found if isinstance(array, mmap.mmap) else None


def _releasable_map(array: Any) -> mmap.mmap | None:
    """Returns the map whose pages can be given back: not that of a copy-on-write array, which may have changes."""
    memmap = find_memmap(array)
    if memmap is None or memmap.mode == "c" or not hasattr(mmap, "MADV_DONTNEED"):
        return None
    base = memmap
    while isinstance(base, np.ndarray):
        base = base.base
    return base
