"""Sequences of examples: anything with `len()` and `[]`, such as a list of paths with a function that reads one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from lightkeras.data.batched import Reading
from lightkeras.data.batches import map_batch, named_entries
from lightkeras.data.dataset import AddressedDataset
from lightkeras.data.fingerprint import digest
from lightkeras.data.forms import find_form, weigh_classes
from lightkeras.data.items import THREADS, ItemSpec, Reader
from lightkeras.utils.checks import require, require_int


class Examples:
    """Examples that a function makes of the entries of a list, such as paths of files.

    Args:
        entries: Anything with `len()` and `[]`.
        function: Makes an example of an entry: a dict, x, (x, y) or (x, y, sample_weight) of arrays.
        threads: Threads that call the function at the same time.
    """

    def __init__(self, entries: Any, function: Callable[[Any], Any], threads: int = THREADS):
        sized = hasattr(entries, "__len__") and hasattr(entries, "__getitem__")
        require(sized, "entries", "anything with len() and []", type(entries).__name__, TypeError)
        require(callable(function), "function", "a function of an entry", function, TypeError)
        require_int("threads", threads)
        self.entries, self.function, self.threads = entries, function, threads

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Any:
        return self.function(self.entries[index])


def is_sequence(data: Any) -> bool:
    """Returns whether data has `len()` and `[]`, and is neither a dict nor a text."""
    return (
        hasattr(data, "__len__") and hasattr(data, "__getitem__") and not isinstance(data, dict | str | bytes | tuple)
    )


def from_sequence(
    source: Any, batch_size: int, shuffle: bool, class_weight: dict[int, float] | None = None
) -> AddressedDataset:
    """Makes a data set of the items of `source`; they are read in parallel, and stay in order.

    Raises:
        ValueError: There are no items, or the first cannot be read.
    """
    what, size = type(source).__name__, len(source)
    require(size > 0, "data", "data with examples", f"an empty {what}")
    many = getattr(source, "__getitems__", None)  # torch's and Hugging Face's, for many items at once
    reader = Reader(what, source.__getitem__, source.threads if isinstance(source, Examples) else THREADS, many)
    first = reader.read(0)
    spec, weigh = ItemSpec(what, [first]), weigh_classes(class_weight)

    def read(indices: np.ndarray) -> list[np.ndarray]:
        items = reader.read_all(indices)
        entries = {number: spec.flatten(number, item) for number, item in items.items()}
        return [np.stack(rows) for rows in zip(*(entries[number] for number in indices.tolist()), strict=True)]

    def fetch(indices, epoch):
        known = list(spec.entries.values())
        arrays = tf.numpy_function(read, [indices], [one.dtype for one in known], stateful=False)
        shaped = [tf.ensure_shape(a, (indices.shape[0], *one.shape)) for a, one in zip(arrays, known, strict=True)]
        return weigh(spec.pack(shaped))

    made = AddressedDataset.from_batches(fetch, size, batch_size, shuffle)
    made.form = find_form(weigh(map_batch(lambda entry: tf.constant(entry[None]), first)))
    describe_items(made, reader, first, size)
    return made


def describe_items(made: AddressedDataset, reader: Reader, first: Any, size: int) -> None:
    """Sets what identifies a data set of items, and what it promises: item 0 is read once more."""
    seen = digest(named_entries(first).values())
    same = seen == digest(named_entries(reader.read(0)).values())
    entries = [f"{name} {array.dtype} {array.shape}" for name, array in named_entries(first).items()]
    made.identity = {"kind": reader.what, "items": size, "entries": entries, **({"digest": seen} if same else {})}
    differs = (
        "Item 0 differs each time that it is read: a resumed run does not give the same bits. "
        "Draw by `lk.random` in the step instead."
    )
    how = f"{reader.what} of {size:,} items, by index, read in parallel"
    made.reading = Reading(how, " if an item is always the same", "" if same else differs)
