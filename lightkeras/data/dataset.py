"""Data that is addressed, not iterated: batch k of epoch e is a pure function of (seed, e, k).

The order of an epoch is a NumPy Philox permutation keyed by (seed, epoch), cut into global batches; a short last
batch is padded with rows of weight 0. Examples of differing lengths are grouped: a batch holds examples of similar
length. A run resumes by starting the stream at (epoch, step), and a replica or worker takes its rows of every global
batch. `tf.data` does the reading, decoding, mapping and prefetching.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from lightkeras.data.addressing import (
    ABSENT,
    BATCHES,
    LARGE,
    PADDING,
    WHOLE,
    Shard,
    cut_batches,
    cut_blocks,
    encode_padding,
    order_at,
    permutation,
    row_addresses,
)
from lightkeras.data.arrays import to_tensors
from lightkeras.data.batched import BatchedDataset
from lightkeras.data.batches import (
    Batch,
    add_weight,
    batch_spec,
    complete_batch,
    examples_to_read,
    gather_rows,
    map_batch,
    named_entries,
    traced_as_it_is,
)
from lightkeras.data.bucketing import check_lengths, choose_widths
from lightkeras.data.forms import find_form, guess_form, split_parts
from lightkeras.data.mapped import MappedArray
from lightkeras.utils.checks import require, require_int


class AddressedDataset(BatchedDataset):
    """A data set cut into global batches, each with an address (epoch, step).

    Make one with `from_arrays` (in memory), `from_batches` (a function of many indices) or `from_examples` (a function
    of one index, such as the reading of a file). A batch is a dict of tensors with the batch axis first, plus
    `"weight"` (batch_size,) float32: 1 for an example, 0 for a row of padding in a short batch. Shapes are static,
    except the time axes of examples with `lengths`.

    With `lengths`, a batch has examples of similar length: the examples of an epoch, in its order, are sorted by the
    width that they are padded to and cut into batches, and the batches are shuffled (without `shuffle` always in the
    same way, so that the first batches differ in nothing from the last). All rows of a batch have one width, on every
    replica. Few widths mean few shapes, so that XLA compiles little.

    Args:
        size: Number of examples.
        batch_size: Examples of one update, over all replicas, workers and micro-batches: the *global* batch.
        load: Function of a `tf.data.Dataset` of (index rows, epochs[, widths]) that returns one of batches; see the
            three constructors.
        shuffle: Whether each epoch has an order of its own.
        lengths: The length of every example, ints (size,), or None: batches are not grouped.
        widths: Widths that examples are padded to, increasing, the last one the longest length or more. None:
            `best_widths`.
        batch_tokens: With `lengths`: the maximum of rows times width in a batch. The number of rows is a multiple of
            `batch_size`, and at least `batch_size`. None: every batch has `batch_size` rows.
        gather_from_memory: None, or a function of a row of indices (rows,) that gathers the same batch as `load` from
            arrays in memory, for a training loop that gathers its batches itself.
    """

    item_rows = 1  # of a source whose items are batches: the rows of one

    def __init__(
        self, size: int, batch_size: int, load: Callable, shuffle: bool = True, lengths: Any = None,
        widths: Sequence[int] | None = None, batch_tokens: int | None = None,
        gather_from_memory: Callable | None = None,
    ):  # fmt: skip
        require_int("batch_size", batch_size)
        require_int("size", size)
        require_int("batch_tokens", batch_tokens, optional=True)
        require(batch_tokens is None or lengths is not None, "batch_tokens", "None without `lengths`", batch_tokens)
        self.size, self.batch_size, self.shuffle = size, batch_size, shuffle
        self.load, self.batch_tokens, self.gather_from_memory = load, batch_tokens, gather_from_memory
        self.lengths: Any = None if lengths is None else check_lengths(lengths, size)
        self.widths: Any = choose_widths(widths, self.lengths)

    def replace(self, **arguments) -> "AddressedDataset":
        """The same examples with other `arguments` of the constructor; a smaller `size` keeps the first examples."""
        names = ("size", "batch_size", "load", "shuffle", "lengths", "widths", "batch_tokens", "gather_from_memory")
        arguments = {**{name: getattr(self, name) for name in names}, **arguments}
        if self.lengths is not None:
            arguments["lengths"] = self.lengths[: arguments["size"]]
        made = AddressedDataset(**arguments)
        made.form, made.identity, made.reading = self.form, self.identity, self.reading
        return made

    # ---- constructors

    @classmethod
    def from_arrays(
        cls, arrays: Any, batch_size: int, shuffle: bool = True, widths: Sequence[int] | None = None,
        batch_tokens: int | None = None,
    ) -> "AddressedDataset":  # fmt: skip
        """Examples in memory: arrays, the example axis first and equally long in all of them.

        They are a dict by name, or as for Keras' `fit` `(x, y)`, `(x, y, sample_weight)` or `x` alone, where `x` and
        `y` may be structures; see `batches` for the form in which steps get them.

        They may be NumPy arrays, tensors, lists, columns or tables of pandas. Floating-point numbers become
        float32, as in Keras' `fit`. A missing value, or values of several kinds or shapes, raise a ValueError that
        names the entry and the example; NaN in an array raises a warning.

        A `tf.RaggedTensor` (size, None) holds sequences. Batches are then grouped by the longest sequence of each
        example, and all sequences of a batch are padded with zeros to one width.

        Arrays on disk (`np.load(file, mmap_mode="r")`, h5py) are not copied: the rows of a batch are read when needed.
        """
        with tf.device("CPU"):  # batches are gathered there: the arrays fill no GPU
            tensors = to_tensors(arrays)
        return cls.from_tensors(tensors, batch_size, shuffle, widths, batch_tokens)

    @classmethod
    def from_tensors(
        cls, tensors: Any, batch_size: int, shuffle: bool = True, widths: Sequence[int] | None = None,
        batch_tokens: int | None = None,
    ) -> "AddressedDataset":  # fmt: skip
        """Examples in memory as `arrays.to_tensors` returns them; see `from_arrays`."""
        entries = named_entries(tensors)
        sizes = {name: int(tensor.shape[0]) if tensor.shape.rank else 0 for name, tensor in entries.items()}
        require(len(set(sizes.values())) == 1, "arrays", "arrays with one common first axis", sizes)
        ragged = [t.row_lengths().numpy() for t in entries.values() if isinstance(t, tf.RaggedTensor)]

        @traced_as_it_is
        def fetch(indices, epoch, *width):
            return map_batch(lambda tensor: gather_rows(tensor, indices, *width), tensors)

        def gather(indices):
            return complete_batch(fetch(examples_to_read(indices), 0), indices)

        lengths, size = np.max(ragged, axis=0) if ragged else None, next(iter(sizes.values()))
        made = cls.from_batches(fetch, size, batch_size, shuffle, lengths, widths, batch_tokens)
        on_disk = any(isinstance(one, MappedArray) for one in entries.values())
        made = made if ragged or on_disk else made.replace(gather_from_memory=gather)
        made.form = find_form(tensors)
        return made

    @classmethod
    def from_batches(
        cls, fetch: Callable[..., Batch], size: int, batch_size: int, shuffle: bool = True, lengths: Any = None,
        widths: Sequence[int] | None = None, batch_tokens: int | None = None,
    ) -> "AddressedDataset":  # fmt: skip
        """Examples made many at a time: `fetch(indices (rows,), epoch ())` returns a dict of (rows, ...) tensors.

        With `lengths`, it is called as `fetch(indices, epoch, width ())` and pads the rows to that width.
        """

        def batch(indices, *address):
            return complete_batch(fetch(examples_to_read(indices), *address), indices)

        def load(rows: tf.data.Dataset) -> tf.data.Dataset:
            return rows.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

        return cls(size, batch_size, load, shuffle, lengths, widths, batch_tokens)

    @classmethod
    def from_examples(
        cls, read: Callable[..., Batch], size: int, batch_size: int, shuffle: bool = True, lengths: Any = None,
        widths: Sequence[int] | None = None,
    ) -> "AddressedDataset":  # fmt: skip
        """Examples made one at a time: `read(index (), epoch ())` returns a dict of tensors of static shape.

        They are read in parallel and stay in order. With `lengths`, it is called as `read(index, epoch, width ())` and
        pads the example to that width.
        """

        def example(index, *address):
            return add_weight(read(examples_to_read(index), *address), index)

        def split_rows(indices, *address):
            repeated = (tf.fill(tf.shape(indices), value) for value in address)
            return tf.data.Dataset.from_tensor_slices((indices, *repeated))

        def load(rows: tf.data.Dataset) -> tf.data.Dataset:
            count = rows.element_spec[0].shape[0]
            examples = rows.flat_map(split_rows)
            examples = examples.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            return examples.batch(count, drop_remainder=True)

        return cls(size, batch_size, load, shuffle, lengths, widths)

    # ---- addresses

    def __len__(self) -> int:
        """Global batches in one epoch, padded ones included."""
        examples, rows = self._parts()
        return int((-(-examples // rows)).sum())

    def _parts(self) -> tuple[np.ndarray, np.ndarray]:
        """An epoch's parts that are cut into batches separately: their examples, and the rows of a batch, (parts,)."""
        if self.batch_tokens is None:
            return np.array([self.size]), np.array([self.batch_size])
        examples = np.bincount(np.searchsorted(self.widths, self.lengths), minlength=len(self.widths))
        multiples = self.batch_tokens // np.maximum(self.widths, 1) // self.batch_size
        return examples, self.batch_size * np.maximum(multiples, 1)

    def _order(self, seed: int, epoch: int) -> np.ndarray:
        """The examples in the order in which they are cut into batches: int64 (size,)."""
        order = self._examples(seed, epoch, 0, self.size)
        if self.lengths is None:
            return order
        widths = np.searchsorted(self.widths, self.lengths).astype(np.int16)
        return order[np.argsort(widths[order], kind="stable")]

    def _examples(self, seed: int, epoch: int, start: int, stop: int) -> np.ndarray:
        """The examples from place `start` to `stop` of an epoch: int64 (stop - start,)."""
        places = np.arange(start, min(stop, self.size))
        return order_at(seed, epoch, self.size, places) if self.shuffle else places

    def indices(self, seed: int, epoch: int) -> np.ndarray:
        """The examples of every batch of an epoch: int64 (steps, rows of the largest), -1 where a row is padding.

        With `batch_tokens`, batches of fewer rows end with `ABSENT`.
        """
        examples, rows = self._parts()
        parts = np.split(self._order(seed, epoch), np.cumsum(examples)[:-1])
        table = np.concatenate([cut_batches(part, n, rows.max()) for part, n in zip(parts, rows, strict=True)])
        if self.lengths is None:
            return table
        key = (seed, epoch) if self.shuffle else (0, 0)
        return table[permutation(*key, len(table), BATCHES)]

    def _stretch(self) -> int:
        """The steps whose indices are made at once: all of an epoch, unless it has very many examples."""
        all_at_once = self.lengths is not None or self.size <= LARGE
        return len(self) if all_at_once else max(1, LARGE // 16 // self.batch_size)

    def _table(self, seed: int, epoch: int, first: int, end: int) -> np.ndarray:
        """The rows of `indices` from step `first` to `end`."""
        if first == 0 and end >= len(self):
            return self.indices(seed, epoch)
        rows = self.batch_size
        return cut_batches(self._examples(seed, epoch, first * rows, end * rows), rows, rows)

    def batch_widths(self, table: np.ndarray) -> np.ndarray:
        """The width of every batch of `indices` (steps, rows): int64 (steps,); 0 where batches are not grouped."""
        if self.lengths is None:
            return np.zeros(len(table), np.int64)
        longest = np.append(self.lengths, 0)[np.maximum(table, PADDING)].max(axis=1)  # padding, -1, takes the last, 0
        return np.asarray(self.widths, np.int64)[np.searchsorted(self.widths, longest)]

    def in_order(self, rows: np.ndarray) -> np.ndarray:
        """Puts one row per row of every batch, padding included, into the order of the examples.

        Args:
            rows: Outputs for the first batches of a data set that is not shuffled, one after the other: (rows, ...).

        Returns:
            An array (size, ...): the outputs for example 0, 1, ...; fewer if these are not all batches.

        Raises:
            ValueError: The data set is shuffled.
        """
        require(not self.shuffle, "shuffle", "False for rows to be put in order", self.shuffle)
        table = self.indices(0, 0)
        table = table[table != ABSENT][: len(rows)]
        real = np.flatnonzero(table >= 0)
        return np.asarray(rows)[real[np.argsort(table[real])]]

    # ---- streams

    @functools.cached_property
    def element_spec(self) -> Any:
        """A structure of `tf.TensorSpec` of a global batch: `load` is traced for a row of indices, without a table."""
        if self.batch_tokens is not None:  # rows of indices differ in length
            return super().element_spec
        address = (np.int64(0),) if self.lengths is None else (np.int64(0),) * 2
        rows = tf.data.Dataset.from_tensors((np.zeros(self.batch_size, np.int64), *address))
        return batch_spec(self.load(rows).element_spec)

    def stream(
        self, seed: int = 0, *, epoch: int = 0, step: int = 0, epochs: int | None = None, steps: int | None = None,
        shard: Shard = WHOLE, micro_batches: int = 1, addresses: bool = False,
    ) -> tf.data.Dataset:  # fmt: skip
        """The batches from address (epoch, step) on, as a `tf.data.Dataset` of dicts.

        Args:
            seed: Keys the order of every epoch.
            epoch: Epoch to begin in.
            step: Batch of that epoch to begin at.
            epochs: Epoch to end before; None for an endless stream.
            steps: Batches of each epoch that are used; None for all.
            shard: The rows of each batch to take; every element of the stream holds one block of them.
            micro_batches: Parts that every block is cut into later. The first parts of all blocks are together the
                first part of the whole batch, and so on: a micro-batch has the same rows on any number of devices.
            addresses: Give pairs: a batch, and the address of each of its rows, int64 (rows, 2); see `row_addresses`.

        Raises:
            ValueError: `batch_size` cannot be cut into equal parts.
        """
        self.require_multiple(shard.total * micro_batches)

        stretch = self._stretch()

        @functools.lru_cache(maxsize=2)  # the stream of the addresses comes for it after that of the batches
        def cut_stretch(number, first):
            begin, end = (step if number == epoch else 0), len(self) if steps is None else steps
            table = self._table(seed, number, first, first + stretch)[max(0, begin - first) : max(0, end - first)]
            widths = np.repeat(self.batch_widths(table), shard.count)  # every block has the width of its batch
            table = table if self.lengths is None else encode_padding(table)
            blocks = cut_blocks(table, shard, micro_batches)
            return blocks, np.full(len(blocks), number, np.int64), widths

        def copy_stretch(number, first):  # TensorFlow computes in the memory of arrays that it is given
            return [array.copy() for array in cut_stretch(int(number), int(first))]

        @traced_as_it_is
        def epoch_blocks(number):
            if stretch == len(self):
                return stretch_blocks(number, 0)
            begin = tf.where(number == epoch, tf.constant(step // stretch * stretch, tf.int64), 0)
            firsts = tf.data.Dataset.range(begin, len(self) if steps is None else min(steps, len(self)), stretch)
            return firsts.flat_map(traced_as_it_is(lambda first: stretch_blocks(number, first)))

        def stretch_blocks(number, first):
            table, *address = tf.numpy_function(copy_stretch, [number, first], [tf.int64] * 3, stateful=False)
            table = tf.ensure_shape(table, (None, int(self._parts()[1].max()) // shard.total))
            address = [tf.ensure_shape(one, (None,)) for one in (address if self.lengths is not None else address[:1])]
            blocks = tf.data.Dataset.from_tensor_slices((table, *address))
            if self.batch_tokens is not None:
                blocks = blocks.map(traced_as_it_is(lambda indices, *address: (indices[indices != ABSENT], *address)))
            return blocks

        numbers = tf.data.Dataset.range(epoch, np.iinfo(np.int64).max if epochs is None else epochs)
        rows = numbers.flat_map(epoch_blocks)
        batches = self.load(rows)
        if addresses:
            batches = tf.data.Dataset.zip((batches, rows.map(row_addresses)))
        if epochs is None:  # explicit, or a distributed iterator synchronises on the end of data, without static shapes
            batches = batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
        return batches.prefetch(tf.data.AUTOTUNE)

    def index_table(self, seed: int, epoch: int, steps: int | None = None, micro_batches: int = 1) -> np.ndarray:
        """The rows of indices that `gather_from_memory` takes for the batches of an epoch: int64 (steps, rows)."""
        return cut_blocks(self.indices(seed, epoch)[:steps], WHOLE, micro_batches)

    def repeat_first_epoch(self, steps: int) -> "AddressedDataset":
        """The first epoch, unshuffled, in every epoch; `load` is told so, as data may differ by the epoch."""

        def load(rows: tf.data.Dataset) -> tf.data.Dataset:
            return self.load(rows.map(lambda indices, epoch, *width: (indices, tf.zeros_like(epoch), *width)))

        return self.replace(load=load, shuffle=False)

    def as_keras(self, **address) -> tf.data.Dataset:
        """The batches of `stream(**address)` as Keras' `fit` has them: as they were brought, the last one short."""

        def load(rows: tf.data.Dataset) -> tf.data.Dataset:
            return tf.data.Dataset.zip(self.load(rows), rows).map(lambda batch, row: self.unpad(batch, row[0]))

        return self.replace(load=load).stream(**address)

    def unpad(self, batch: Batch, indices: tf.Tensor) -> Any:
        """Makes of the batch of a row of indices (rows,) the one that was brought, without the rows of padding."""
        brought = split_parts(batch, self.form or guess_form(batch))
        if self.lengths is None and self.size % self.batch_size == 0:
            return brought  # of static shape
        count = tf.reduce_sum(tf.cast(indices >= 0, tf.int32))
        return map_batch(lambda entry: entry[:count], brought)
