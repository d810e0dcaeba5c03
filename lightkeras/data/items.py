"""Items of Python sources: read by threads, checked against the first ones, and put into arrays."""

import concurrent.futures
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lightkeras.data.batches import named_entries
from lightkeras.data.forms import find_form
from lightkeras.utils.checks import ArgumentError

THREADS = min(16, (os.cpu_count() or 1) + 4)  # of sources that say nothing themselves: most wait for a disk


def to_arrays(item: Any) -> Any:
    """Converts the entries of an item to arrays: floating-point numbers to float32, strings to objects."""
    if isinstance(item, dict):
        return {name: to_arrays(one) for name, one in item.items()}
    if isinstance(item, tuple):
        return tuple(None if one is None else to_arrays(one) for one in item)
    array = np.asarray(item)
    if array.dtype.kind in "US":
        return array.astype(object)
    return array.astype(np.float32) if array.dtype.kind == "f" else array


class ItemSpec:
    """What all items of a source have in common.

    Args:
        what: Names the source in messages.
        items: The first items, as `to_arrays` returns them. Axes in which they differ are free.
        batched: Whether items are batches, whose first axis is free.

    Attributes:
        structure: A `tf.TensorSpec` for each entry, in the structure of an item.
    """

    def __init__(self, what: str, items: list[Any], batched: bool = False):
        self.what, self._first = what, items[0]
        find_form(items[0])
        for number, item in enumerate(items[1:], 1):
            self._require_structure(number, item)

        def spec(*arrays):
            same_rank = len({array.ndim for array in arrays}) == 1
            sizes = zip(*(array.shape for array in arrays), strict=False)
            shape = [of_axis[0] if len(set(of_axis)) == 1 else None for of_axis in sizes]
            shape = [None, *shape[1:]] if batched else shape
            return tf.TensorSpec(shape if same_rank else None, tf.as_dtype(arrays[0].dtype))

        self.structure = tf.nest.map_structure(lambda *a: None if a[0] is None else spec(*a), *items)
        self.entries: dict[str, tf.TensorSpec] = named_entries(self.structure)

    def flatten(self, number: int, item: Any) -> list[np.ndarray]:
        """Returns the entries of an item, each of the same type and (but for free axes) shape as the first item's.

        Raises:
            ValueError: The item differs; the message names it.
        """
        self._require_structure(number, item)
        arrays = named_entries(item)
        for name, spec in self.entries.items():
            array = arrays[name]
            if not spec.shape.is_compatible_with(array.shape):
                self._refuse(number, f"{name} of shape {_text(spec.shape)}", f"shape {array.shape}")
            known = spec.dtype.as_numpy_dtype
            if array.dtype != known:
                if not np.can_cast(array.dtype, known, "same_kind"):
                    self._refuse(number, f"{name} of {spec.dtype.name}", str(array.dtype))
                arrays[name] = array.astype(known)
        return [arrays[name] for name in self.entries]

    def pack(self, entries: Iterable[tf.Tensor]) -> Any:
        """Puts entries in the structure of an item."""
        found = iter(entries)
        return keras.tree.map_structure(lambda spec: None if spec is None else next(found), self.structure)

    def _require_structure(self, number: int, item: Any) -> None:
        names = list(named_entries(self._first))
        if list(named_entries(item)) != names or type(item) is not type(self._first):
            self._refuse(number, f"the entries {', '.join(names)}", ", ".join(named_entries(item)) or repr(item))

    def _refuse(self, number: int, expected: str, received: str) -> None:
        raise ArgumentError(
            f"Expected item {number} of the {self.what} to have {expected}, as item 0. Received: {received}"
        )


def _text(shape: tf.TensorShape) -> str:
    return str(tuple(shape)) if shape.rank is not None else "any"


class Reader:
    """Reads items by threads.

    Args:
        what: Names the source in messages.
        get: Returns an item by its number.
        threads: Number of threads.
        get_many: Returns a list of items by a list of numbers, where the source can do that at once.
    """

    def __init__(self, what: str, get: Callable[[int], Any], threads: int, get_many: Callable | None = None):
        self.what, self._get, self._get_many, self._threads = what, get, get_many, threads
        self._lock, self._pool = threading.Lock(), None

    def read(self, number: int) -> Any:
        """Returns an item as arrays.

        Raises:
            ValueError: The source raises an error, or the item cannot be arrays; the message names the item.
        """
        try:
            return to_arrays(self._get(number))
        except Exception as error:
            raise ArgumentError(self._explain(number, error)) from error

    def submit(self, number: int) -> "concurrent.futures.Future[Any]":
        """Begins to read an item."""
        with self._lock:
            if self._pool is None:
                self._pool = concurrent.futures.ThreadPoolExecutor(self._threads, "lightkeras-items")
            return self._pool.submit(self.read, number)

    def read_all(self, numbers: np.ndarray) -> dict[int, Any]:
        """Returns items as arrays, by their numbers; each is read once."""
        different = [int(number) for number in dict.fromkeys(numbers.tolist())]
        if self._get_many is not None:
            try:
                return dict(zip(different, map(to_arrays, self._get_many(different)), strict=True))
            except Exception as error:
                for number in different:
                    self.read(number)  # raises an error that names the item, if one is the reason
                raise ArgumentError(self._explain(f"s {different}", error)) from error
        futures = [self.submit(number) for number in different]
        return {number: future.result() for number, future in zip(different, futures, strict=True)}

    def _explain(self, which: int | str, error: Exception) -> str:
        text = " ".join(str(error).split())
        which = f" {which}" if isinstance(which, int) else which
        return f"Expected item{which} of the {self.what} to be readable. Received: {type(error).__name__}: {text}"
