"""Data that is streamed: a `tf.data.Dataset` of batches, or anything that can only be iterated over.

Epoch e is pass e over the data; endless data goes on in one pass. A run resumes by reading past the batches that it has
used. It goes on to the same bits if the pass gives the same batches again, which the digest of its first batch shows.
"""

import copy
import functools
import math
import time
from typing import Any

import numpy as np
import tensorflow as tf

from lightkeras.data.addressing import PADDING, WHOLE, Shard, cut_blocks, row_addresses
from lightkeras.data.batched import BatchedDataset, Reading
from lightkeras.data.batches import add_weight, batch_spec, map_batch, named_entries, unpacked
from lightkeras.data.fingerprint import describe_spec
from lightkeras.data.forms import find_form
from lightkeras.data.passes import Passes
from lightkeras.utils import internals
from lightkeras.utils.checks import ArgumentError, require
from lightkeras.utils.messages import logger

ENDLESS = math.inf
COUNTING_SECONDS = 2.0  # a longer count is reported


class StreamedDataset(BatchedDataset):
    """Batches of a `tf.data.Dataset`, in its order.

    A batch with fewer rows than the first is padded with rows of weight 0, so that shapes are static.

    Args:
        batches: The data set: batches in one of the forms of Keras' `fit`.
        length: Batches of a pass: an int, `ENDLESS`, or None if only reading will tell.
        what: Names the data in messages.
        one_pass: Whether the data cannot be begun anew for each epoch.
    """

    shuffle = False

    def __init__(
        self, batches: tf.data.Dataset, length: float | None, what: str = "tf.data.Dataset", one_pass: bool = False
    ):
        self.batches, self.length, self.what = batches, length, what
        self.one_pass = one_pass or length == ENDLESS
        self.spec = batch_spec(batches.element_spec)
        self.form = find_form(self.spec)
        shuffles = internals.shuffles(batches)
        self.unseeded = not all(seeded for seeded, _ in shuffles)
        self.passes: Passes = Passes(what, equal=not any(reshuffles for _, reshuffles in shuffles))
        self._rows: list[int] = []
        _require_batched(self.spec, what)

    @property
    def identity(self) -> dict[str, Any]:
        """The kind, the entries and the length."""
        length = None if self.length in (None, ENDLESS) else int(self.length or 0)
        entries = describe_spec(self.spec)
        return {"kind": self.what, "entries": entries, "batches": length, "batch_size": self.batch_size}

    @property
    def reading(self) -> Reading:
        """How the data is read, and what that promises."""
        if self.one_pass and self.length != ENDLESS:
            instead = "A run resumes to the same bits from the start of an epoch only."
            return Reading(f"{self.what}, streamed", instead=instead)
        if self.unseeded:
            instead = "A shuffle in it has no seed: a stopped run is resumed, but not to the same bits."
            return Reading(f"{self.what}, streamed; a resume reads past the batches that were used", instead=instead)
        return Reading(
            f"{self.what}, streamed; a resume reads past the batches that were used",
            " if a pass gives the same batches in another process: a shuffle needs a seed",
        )

    def __len__(self) -> int:
        """Batches of a pass.

        Raises:
            ValueError: The data is endless, or can be read only once.
        """
        if self.length is None and not self.one_pass:
            self.length = self._count()
        known = self.length is not None and self.length != ENDLESS
        if not known:
            raise ArgumentError(
                f"Expected `limit_train_batches` (`limit_val_batches`, ...) to be a number of batches (int): the "
                f"{self.what} has no length. Received: a share of its batches"
            )
        require(self.length != 0, "data", "data with batches", f"an empty {self.what}")
        return int(self.length or 0)

    def _count(self) -> int:
        began = time.perf_counter()
        count = int(self.batches.reduce(np.int64(0), lambda total, *_: total + 1))
        seconds = time.perf_counter() - began
        if seconds > COUNTING_SECONDS:
            logger.info(
                "Counted the %d batches of the %s by reading them, in %.1f s; "
                "`tf.data.experimental.assert_cardinality` or limit_train_batches spares that.",
                count, self.what, seconds,
            )  # fmt: skip
        return count

    @functools.cached_property
    def batch_size(self) -> int:  # type: ignore[override]
        """Rows of a batch: those of the first, where they are not static."""
        static = {entry.shape[0] for entry in named_entries(self.spec).values()}
        if len(static) == 1 and None not in static:
            return static.pop()
        for first in self.batches.take(1):
            return int(next(iter(named_entries(first).values())).shape[0])
        raise ArgumentError(f"Expected `data` to have batches. Received: an empty {self.what}")

    def replace(self, shuffle: bool = False) -> "StreamedDataset":
        """The same: the order is that of the data."""
        return self

    def repeat_first_epoch(self, steps: int) -> "StreamedDataset":
        """The first `steps` batches, kept in memory, in every epoch."""
        return StreamedDataset(self.batches.take(steps).cache(), steps, self.what)

    # ---- streams

    def stream(
        self, seed: int = 0, *, epoch: int = 0, step: int = 0, epochs: int | None = None, steps: int | None = None,
        shard: Shard = WHOLE, micro_batches: int = 1, addresses: bool = False,
    ) -> tf.data.Dataset:  # fmt: skip
        """The batches from (epoch, step) on; see `AddressedDataset.stream`. There is no order to be keyed by `seed`.

        The address of a row is (number of the row in the pass, number of the pass).
        """
        self.require_multiple(shard.total * micro_batches)
        batches = self._pass_on(epoch, step, epochs, steps).map(self._fill)
        if shard.total > 1:
            rows = cut_blocks(np.arange(self.batch_size)[None], shard, micro_batches)
            batches = batches.flat_map(lambda *pair: _cut(pair, rows))
        if not addresses:
            batches = batches.map(lambda batch, address: batch)
        if epochs is None:  # explicit: see AddressedDataset.stream
            batches = batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
        return batches.prefetch(tf.data.AUTOTUNE)

    def prediction_stream(self, strategy: tf.distribute.Strategy, steps: int) -> Any:
        """Also notes the rows of every batch, for `in_order`."""
        noted, noted.batch_size = copy.copy(self), self.batch_size  # known before rows are noted
        noted._rows = self._rows = []

        def note(rows):
            noted._rows.append(int(rows))
            return rows

        def count(*item):
            rows = tf.shape(next(iter(named_entries(unpacked(item)).values())))[0]
            with tf.control_dependencies([tf.numpy_function(note, [rows], tf.int32)]):
                return map_batch(tf.identity, unpacked(item))

        noted.batches = self.batches.map(count)
        return noted.replica_stream(strategy, epochs=1, steps=steps)

    def as_keras(
        self, seed: int = 0, *, epoch: int = 0, step: int = 0, epochs: int | None = None, steps: int | None = None
    ):
        """The batches as they come."""
        batches = self._pass_on(epoch, step, epochs, steps).map(lambda number, index, batch: batch)
        return batches.prefetch(tf.data.AUTOTUNE)

    def _pass_on(self, epoch: int, step: int, epochs: int | None, steps: int | None) -> tf.data.Dataset:
        """Passes over the data, from (epoch, step) on, the last one being that before `epochs`."""
        if self.one_pass:
            return self._go_on(epoch, step, steps)
        if epochs is None:
            self._begin_earlier(epoch)
        total = steps or (None if self.length is None else int(self.length))
        first = self._pass(epoch, step, total)
        if epochs == epoch + 1:
            return first
        later = tf.data.Dataset.range(epoch + 1, np.iinfo(np.int64).max if epochs is None else epochs)
        return first.concatenate(later.flat_map(lambda number: self._pass(number, 0, total)))

    def _go_on(self, epoch: int, step: int, steps: int | None) -> tf.data.Dataset:
        """The one pass that goes through all epochs of `steps` batches. A generator is taken to begin at an epoch."""
        earlier = epoch * (steps or 0)
        if self.length == ENDLESS:
            batches, earlier = self.passes.noted(self.batches, 0, earlier + step), 0
        else:
            batches = self.passes.noted(self.batches, 0, step)
        if steps is None:
            return batches
        return batches.map(lambda _, index, batch: ((index + earlier) // steps, (index + earlier) % steps, batch))

    def _begin_earlier(self, epoch: int) -> None:
        """Begins the passes of earlier epochs: a shuffle with a seed draws another order for each pass."""
        for number in range(epoch):
            began = iter(self.batches)
            if number == 0:
                self.passes.note(0, [np.asarray(entry) for entry in named_entries(next(began)).values()])

    def _pass(self, number: Any, done: int, total: int | None) -> tf.data.Dataset:
        batches = self.batches
        if total is not None:
            batches = batches.take(total).concatenate(self._shortage(number, total)).take(total)
        return self.passes.noted(batches, number, done)

    def _shortage(self, number: Any, total: int) -> tf.data.Dataset:
        """Raises an error if it is read."""

        def fail(epoch):
            raise ArgumentError(
                f"Expected the {self.what} to give {total} batches in every epoch. Received: fewer, in epoch {epoch}"
            )

        def missing(epoch):
            def entry(spec):
                return tf.ensure_shape(tf.numpy_function(fail, [epoch], spec.dtype), spec.shape)

            return tf.nest.map_structure(
                lambda spec: entry(spec) if hasattr(spec, "dtype") else None, self.batches.element_spec
            )

        return tf.data.Dataset.from_tensors(number).map(missing)

    def _fill(self, number: tf.Tensor, index: tf.Tensor, batch: Any) -> tuple[Any, tf.Tensor]:
        """Makes a batch of `batch_size` rows, which copies of the last row with weight 0 fill, and their addresses."""
        size = self.batch_size
        places, first = tf.range(size), index * size
        entries = list(named_entries(batch).values())
        if all(entry.shape[0] == size for entry in entries):
            return add_weight(batch, places), row_addresses(first + tf.cast(places, tf.int64), number)
        rows = tf.shape(entries[0])[0]
        known = tf.cond(rows <= size, lambda: rows, lambda: _refuse_rows(rows, size, self.what))

        def fill(entry):
            filled = tf.cond(rows == size, lambda: entry, lambda: tf.gather(entry, tf.minimum(places, known - 1)))
            return tf.ensure_shape(filled, (size, *entry.shape[1:]))

        indices = tf.where(places < known, first + tf.cast(places, tf.int64), tf.constant(PADDING, tf.int64))
        return add_weight(map_batch(fill, batch), indices), row_addresses(indices, number)

    def in_order(self, rows: np.ndarray) -> np.ndarray:
        """Leaves out the rows of padding."""
        present = np.arange(self.batch_size) < np.array(self._rows)[:, None]  # (batches, rows)
        return np.asarray(rows)[present.ravel()[: len(rows)]]


def _refuse_rows(rows: tf.Tensor, size: int, what: str) -> tf.Tensor:
    def fail(rows):
        raise ArgumentError(
            f"Expected the {what} to have at most {size} rows in a batch, as the first. Received: {rows}"
        )

    return tf.ensure_shape(tf.numpy_function(fail, [rows], tf.int32), ())


def _cut(batch: Any, rows: np.ndarray) -> tf.data.Dataset:
    """The blocks `rows` (blocks, rows of a block) of a batch, one after the other."""
    blocks = tf.data.Dataset.from_tensor_slices(rows)
    return blocks.map(lambda block: map_batch(lambda entry: tf.gather(entry, block), batch))


def _require_batched(spec: Any, what: str) -> None:
    """Recognises data that is not batched, or whose entries a step cannot take."""
    entries = named_entries(spec)
    for name, entry in entries.items():
        how = "`tf.sparse.to_dense`" if isinstance(entry, tf.SparseTensorSpec) else "`.to_tensor()`"
        dense = isinstance(entry, tf.TensorSpec)
        require(dense, "data", f"dense: make {name!r} so by {how} in a map", type(entry).__name__, TypeError)
    shapes = {name: entry.shape for name, entry in entries.items()}
    rows = {shape[0] if shape.rank else "none" for shape in shapes.values() if shape.rank is not None}
    batched = "none" not in rows and len(rows - {None}) <= 1
    received = ", ".join(f"{name} of shape {tuple(shape)}" for name, shape in shapes.items() if shape.rank is not None)
    expected = f"a {what} of batches: call `.batch(batch_size)`"
    if not batched:
        raise ArgumentError(f"Expected `data` to be {expected}. Received: {received}, without a common batch axis")
