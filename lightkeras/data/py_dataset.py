"""Sources whose items are batches: `keras.utils.PyDataset`."""

import concurrent.futures
import contextlib
import copy
import random
import threading
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lightkeras.data.addressing import PADDING, permutation
from lightkeras.data.batches import Batch, add_weight, map_batch, named_entries
from lightkeras.data.dataset import AddressedDataset
from lightkeras.data.forms import find_form, weigh_classes
from lightkeras.data.items import ItemSpec, Reader
from lightkeras.data.passes import Passes
from lightkeras.data.sequences import describe_items
from lightkeras.utils.checks import ArgumentError, require

# ruff: noqa: NPY002  (a source's own methods draw from the global generator)


class ItemBatches(AddressedDataset):
    """Batches that are the items of a source. Row r of item i has the index i * batch_size + r.

    An item with fewer rows than item 0 is padded with rows of weight 0. Items are read by the source's `workers`
    threads, ahead of their use, and used in order. If the source has `on_epoch_begin` or `on_epoch_end`, these are
    called between the epochs, for a resumed run also those of the earlier epochs, with seeded global generators.

    Args:
        source: A `keras.utils.PyDataset`.
        shuffle: Whether each epoch has an order of items of its own.
        class_weight: Weights by class, for (x, y).
    """

    def __init__(self, source: keras.utils.PyDataset, shuffle: bool, class_weight: dict[int, float] | None = None):
        self._source, self._class_weight, self._weigh = source, class_weight, weigh_classes(class_weight)
        what, self._count = type(source).__name__, source.num_batches
        expected = "a PyDataset with a length: `num_batches` (or `__len__`) returns an int"
        require(self._count is not None, "data", expected, f"{what} with num_batches=None")
        require(self._count > 0, "data", "data with batches", f"an empty {what}")
        self._reader = Reader(what, lambda number: _as_tuple(source[number]), max(1, source.workers))
        self._ahead = min(2 * source.workers, source.max_queue_size) if source.workers > 1 else 0
        items = [self._reader.read(number) for number in range(min(2, self._count))]
        self._spec = ItemSpec(what, [map_batch(_require_rows, item) for item in items], batched=True)
        rows = _count_rows(items[0])
        super().__init__(self._count * rows, rows, self._load, shuffle)
        self.item_rows = rows
        self._lock, self._futures, self._orders = threading.Lock(), {}, {}
        self._rows, self._epoch, self._seed = {}, -1, 0
        self.form = find_form(self._weigh(map_batch(tf.constant, items[0])))
        hooks = ("on_epoch_begin", "on_epoch_end")
        self._hooked = any(getattr(type(source), name) is not getattr(keras.utils.PyDataset, name) for name in hooks)
        self.passes = Passes(what) if self._hooked else None
        describe_items(self, self._reader, items[0], self._count)

    def replace(self, shuffle: bool | None = None) -> "ItemBatches":
        """The same items, shuffled or not."""
        made = copy.copy(self)
        made.shuffle = self.shuffle if shuffle is None else shuffle
        made.load, made._lock, made._futures, made._orders = made._load, threading.Lock(), {}, {}
        made._rows, made._epoch = {}, -1
        return made

    def repeat_first_epoch(self, steps: int) -> "ItemBatches":
        """The items in their order, in every epoch."""
        return self.replace(shuffle=False)

    def indices(self, seed: int, epoch: int) -> np.ndarray:
        """The rows of every batch of an epoch: int64 (items, rows)."""
        order = permutation(seed, epoch, self._count) if self.shuffle else np.arange(self._count)
        with self._lock:
            self._seed = seed
            self._orders = {epoch - 1: self._orders.get(epoch - 1), epoch: order}
        return order[:, None] * self.batch_size + np.arange(self.batch_size)

    def as_keras(self, **address) -> tf.data.Dataset:
        """The batches of `stream(**address)` as the source gives them."""
        made = self.replace()
        made.load = lambda rows: rows.map(made._read_whole)
        return made.stream(**address)

    def in_order(self, rows: np.ndarray) -> np.ndarray:
        """Leaves out the rows of padding."""
        require(not self.shuffle, "shuffle", "False for rows to be put in order", self.shuffle)
        counts = np.array([self._rows[number] for number in range(len(rows) // self.batch_size)])
        return np.asarray(rows)[(np.arange(self.batch_size) < counts[:, None]).ravel()]

    # ---- reading

    def _load(self, rows: tf.data.Dataset) -> tf.data.Dataset:
        return rows.map(self._read)  # one after the other: the threads read ahead

    def _read(self, indices: tf.Tensor, epoch: tf.Tensor) -> Batch:
        present, item = self._fetch(indices, epoch)
        return add_weight(self._weigh(item), tf.where(present, indices, PADDING))

    def _read_whole(self, indices: tf.Tensor, epoch: tf.Tensor) -> Any:
        present, item = self._fetch(indices, epoch)
        count = tf.reduce_sum(tf.cast(present, tf.int32))
        return self._weigh(map_batch(lambda entry: entry[:count], item))

    def _fetch(self, indices: tf.Tensor, epoch: tf.Tensor) -> tuple[tf.Tensor, Any]:
        """Reads rows of one item: whether each is present (rows,), and their entries."""
        known, count = list(self._spec.entries.values()), indices.shape[0]
        present, *entries = tf.numpy_function(self._take, [indices, epoch], [tf.bool, *(spec.dtype for spec in known)])
        shaped = [tf.ensure_shape(e, (count, *s.shape[1:])) for e, s in zip(entries, known, strict=True)]
        return tf.ensure_shape(present, (count,)), self._spec.pack(shaped)

    def _take(self, indices: np.ndarray, epoch: np.ndarray) -> list[np.ndarray]:
        """Takes the rows of one item: whether each is present, and the entries."""
        number, places = int(indices[0]) // self.batch_size, indices % self.batch_size
        entries = self._spec.flatten(number, self._item(number, int(epoch)))
        count = len(entries[0])
        if not 0 < count <= self.batch_size or any(len(entry) != count for entry in entries):
            sizes = dict(zip(self._spec.entries, map(len, entries), strict=True))
            raise ArgumentError(
                f"Expected item {number} of the {self._reader.what} to have from 1 to {self.batch_size} rows, as many "
                f"in each entry. Received: {sizes}"
            )
        self._rows[number] = count
        whole = len(places) == count and np.array_equal(places, np.arange(count))
        taken = entries if whole else [entry[np.minimum(places, count - 1)] for entry in entries]
        return [places < count, *taken]

    def _item(self, number: int, epoch: int) -> Any:
        """Returns an item, and begins to read those that follow in the epoch."""
        if epoch != self._epoch:
            self._begin(epoch)
        with self._lock:
            order = self._orders.get(epoch)
        following = [number] if order is None or not self._ahead else _following(order, number, self._ahead)
        self._futures = {
            one: self._futures[one] if one in self._futures else self._reader.submit(one) for one in following
        }
        item = self._futures[number].result()
        if self.passes and order is not None and number == order[0]:
            self.passes.note(epoch, list(named_entries(item).values()))
        return item

    def _begin(self, epoch: int) -> None:
        """Forgets what was read ahead, and calls the source's hooks between the epochs."""
        for future in self._futures.values():
            future.cancel()
        concurrent.futures.wait(self._futures.values())
        self._futures = {}
        if self._hooked:
            self._call_hooks(epoch)
        self._epoch = epoch

    def _call_hooks(self, epoch: int) -> None:
        if epoch < self._epoch:
            return  # an evaluation that begins anew
        for number in range(self._epoch, epoch):
            if number >= 0:
                with _seeded(self._seed, number + 1):
                    self._source.on_epoch_end()
            self._source.on_epoch_begin()


def _following(order: np.ndarray, number: int, ahead: int) -> list[int]:
    place = int(np.flatnonzero(order == number)[0])
    return order[place : place + 1 + ahead].tolist()


def _as_tuple(item: Any) -> Any:
    """A list is a tuple, as in Keras."""
    return tuple(item) if isinstance(item, list) else item


def _require_rows(array: np.ndarray) -> np.ndarray:
    """Frees the axis of the rows, and requires that there is one."""
    require(array.ndim > 0, "data", "a PyDataset whose items are batches, rows first", f"an entry {array!r}")
    return array


def _count_rows(item: Any) -> int:
    return len(next(iter(named_entries(item).values())))


@contextlib.contextmanager
def _seeded(seed: int, epoch: int) -> Iterator[None]:
    """Seeds the global generators of Python and NumPy, by which sources often shuffle; puts back their states."""
    python, numpy = random.getstate(), np.random.get_state()
    random.seed(f"{seed} {epoch}")
    np.random.seed(np.random.SeedSequence([seed, epoch]).generate_state(4))
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
