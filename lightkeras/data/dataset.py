"""Data that is addressed, not iterated: batch k of epoch e is a pure function of (seed, e, k).

The order of an epoch is a NumPy Philox permutation keyed by (seed, epoch), cut into global batches; a short last
batch is padded with rows of weight 0. Examples of differing lengths are grouped: those of a batch have similar ones.
So a run resumes by starting the stream at (epoch, step), and a replica or worker takes its rows of every global batch.
`tf.data` does the reading, decoding, mapping and prefetching.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from lightkeras.data.addressing import (
    _BATCHES,
    ABSENT,
    PADDING,
    WHOLE,
    Batch,
    Shard,
    _batch_by,
    _blocks,
    _content,
    _weighted,
    _with_content,
    permutation,
)
from lightkeras.data.bucketing import _checked_lengths, _checked_widths
from lightkeras.utils import internals
from lightkeras.utils.checks import nearest_multiples, require, require_int


class AddressedDataset:
    """A data set cut into global batches, each with an address (epoch, step).

    Make one with `from_arrays` (in memory), `from_batches` (a function of many indices) or `from_examples` (a function
    of one index, such as the reading of a file). A batch is a dict of tensors with the batch axis first, plus
    `"weight"` (batch_size,) float32: 1 for an example, 0 for a row of padding in a short batch. Shapes are static, but
    for the time axes of examples with `lengths`.

    With `lengths`, a batch has examples of similar length: those of an epoch, in its order, are sorted by the width
    that they are padded to, cut into batches, and the batches are put in an order of their own (not shuffled: in a
    fixed one, so that the first batches are no other than the last). A batch has one width for all its rows, whoever
    takes them; few widths keep the shapes, and what XLA compiles, few.

    Args:
        size: Number of examples.
        batch_size: Examples of one update, over all replicas, workers and micro-batches: the *global* batch.
        load: Function of `(dataset of index rows, epoch tensors)`; see the three constructors.
        shuffle: Whether each epoch has an order of its own.
        lengths: The length of every example, ints (size,), or None: batches are not grouped.
        widths: What lengths are padded to, increasing, the last one the longest or more. None: `best_widths`.
        gather_from_memory: None, or a function of a row of indices (rows,) that gives its batch from arrays in memory:
            what `load` does with it, for a training loop that gathers its batches itself.
        batch_tokens: With `lengths`: a batch has as many rows as there are rows times width in so many, at most, and a
            multiple of `batch_size`; `batch_size` rows at least. None: every batch has `batch_size` rows.
    """

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
        self.lengths = None if lengths is None else _checked_lengths(lengths, size)
        self.widths = _checked_widths(widths, self.lengths)
        self._once = {}

    def replace(self, **arguments) -> "AddressedDataset":
        """The same examples with other `arguments` of the constructor; the first ones, where `size` is smaller."""
        names = ("size", "batch_size", "load", "shuffle", "lengths", "widths", "batch_tokens", "gather_from_memory")
        kept = {name: getattr(self, name) for name in names}
        arguments = {**kept, **arguments}
        if self.lengths is not None:
            arguments["lengths"] = self.lengths[: arguments["size"]]
        return AddressedDataset(**arguments)

    @classmethod
    def from_arrays(
        cls, arrays: dict[str, Any], batch_size: int, shuffle: bool = True, widths: Sequence[int] | None = None,
        batch_tokens: int | None = None,
    ) -> "AddressedDataset":  # fmt: skip
        """Examples in memory: arrays by name, the example axis first and of one length in all of them.

        A `tf.RaggedTensor` (size, None) holds sequences: batches are grouped by the longest one that an example has,
        and all sequences of a batch are padded to its width with zeros.
        """
        require(isinstance(arrays, dict), "arrays", "a dict of arrays by name", type(arrays).__name__, TypeError)
        with tf.device("CPU"):  # it is gathered from there, and fills no GPU
            tensors = {name: _on_this_device(array) for name, array in arrays.items()}
        sizes = {name: int(tensor.shape[0]) if tensor.shape.rank else 0 for name, tensor in tensors.items()}
        require(len(set(sizes.values())) == 1, "arrays", "arrays with one common first axis", sizes)
        ragged = [t.row_lengths().numpy() for t in tensors.values() if isinstance(t, tf.RaggedTensor)]

        def fetch(indices, epoch, *width):
            return {name: _rows_of(tensor, indices, *width) for name, tensor in tensors.items()}

        lengths = np.max(ragged, axis=0) if ragged else None
        made = cls.from_batches(fetch, next(iter(sizes.values())), batch_size, shuffle, lengths, widths, batch_tokens)
        return made if ragged else made.replace(gather_from_memory=_batch_by(fetch, 0))

    @classmethod
    def from_batches(
        cls, fetch: Callable[..., Batch], size: int, batch_size: int, shuffle: bool = True, lengths: Any = None,
        widths: Sequence[int] | None = None, batch_tokens: int | None = None,
    ) -> "AddressedDataset":  # fmt: skip
        """Examples made many at a time: `fetch(indices (rows,), epoch ())` gives a dict of (rows, ...) tensors.

        With `lengths` it is `fetch(indices, epoch, width ())`, and the rows are to be padded to that width.
        """

        def load(rows: tf.data.Dataset) -> tf.data.Dataset:
            def batch(indices, *address):
                return _batch_by(fetch, *address)(indices)

            return rows.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

        return cls(size, batch_size, load, shuffle, lengths, widths, batch_tokens)

    @classmethod
    def from_examples(
        cls, read: Callable[..., Batch], size: int, batch_size: int, shuffle: bool = True, lengths: Any = None,
        widths: Sequence[int] | None = None,
    ) -> "AddressedDataset":  # fmt: skip
        """Examples made one at a time: `read(index (), epoch ())` gives a dict of tensors of static shape.

        They are read in parallel and stay in order. With `lengths` it is `read(index, epoch, width ())`, and the
        example is to be padded to that width.
        """

        def load(rows: tf.data.Dataset) -> tf.data.Dataset:
            def example(index, *address):
                return _weighted(read(_content(index), *address), index)

            def examples(indices, *address):
                same = (tf.fill(tf.shape(indices), value) for value in address)
                return tf.data.Dataset.from_tensor_slices((indices, *same))

            count = rows.element_spec[0].shape[0]
            flat = rows.flat_map(examples).map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            return flat.batch(count, drop_remainder=True)

        return cls(size, batch_size, load, shuffle, lengths, widths)

    def __len__(self) -> int:
        """Global batches in one epoch, padded ones included."""
        return int(self._cut()[2].sum())

    def _cut(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Examples, rows of a batch, and batches of every part of an epoch that is cut by itself: (parts,) each."""
        if self.batch_tokens is None:
            examples, rows = np.array([self.size]), np.array([self.batch_size])
        else:
            examples = np.bincount(np.searchsorted(self.widths, self.lengths), minlength=len(self.widths))
            multiples = self.batch_tokens // np.maximum(self.widths, 1) // self.batch_size
            rows = self.batch_size * np.maximum(multiples, 1)
        return examples, rows, -(-examples // rows)

    def indices(self, seed: int, epoch: int) -> np.ndarray:
        """The examples of every batch of an epoch: int64 (steps, rows of the largest), -1 where a row is padding.

        With `batch_tokens`, batches of fewer rows end with `ABSENT`.
        """
        order = permutation(seed, epoch, self.size) if self.shuffle else np.arange(self.size)
        if self.lengths is not None:
            classes = np.searchsorted(self.widths, self.lengths).astype(np.int16)
            order = order[np.argsort(classes[order], kind="stable")]
        parts, most = zip(*self._cut(), strict=True), int(self._cut()[1].max())
        tables, done = [], 0
        for examples, rows, batches in parts:
            table = np.full(batches * rows, PADDING, np.int64)
            table[:examples] = order[done : done + examples]
            done += examples
            absent = ((0, 0), (0, most - rows))
            tables.append(np.pad(table.reshape(batches, rows), absent, constant_values=ABSENT))
        table = np.concatenate(tables)
        if self.lengths is not None:
            table = table[permutation(*((seed, epoch) if self.shuffle else (0, 0)), len(table), _BATCHES)]
        return table

    def widths_of(self, table: np.ndarray) -> np.ndarray:
        """The width of every batch of `indices` (steps, rows): int64 (steps,); 0 where batches are not grouped."""
        if self.lengths is None:
            return np.zeros(len(table), np.int64)
        longest = np.append(self.lengths, 0)[np.maximum(table, PADDING)].max(axis=1)  # padding, -1, has the last one, 0
        return np.asarray(self.widths, np.int64)[np.searchsorted(self.widths, longest)]

    def in_order(self, rows: np.ndarray) -> np.ndarray:
        """The rows of all batches of a data set that is not shuffled, one after the other, in the examples' order.

        Args:
            rows: What was made of every row of every batch, padding included: (rows of all batches, ...).

        Returns:
            An array (size, ...): of example 0, 1, ...
        """
        require(not self.shuffle, "shuffle", "False for rows to be put in order", self.shuffle)
        table = self.indices(0, 0)
        table = table[table != ABSENT]
        made = np.flatnonzero(table >= 0)
        return np.asarray(rows)[made[np.argsort(table[made])]]

    def stream(
        self, seed: int = 0, *, epoch: int = 0, step: int = 0, epochs: int | None = None, steps: int | None = None,
        shard: Shard = WHOLE, micro_batches: int = 1,
    ) -> tf.data.Dataset:  # fmt: skip
        """The batches from address (epoch, step) on, as a `tf.data.Dataset` of dicts.

        Args:
            seed: Keys the order of every epoch.
            epoch: Epoch to begin in.
            step: Batch of that epoch to begin at.
            epochs: Epoch to end before; None goes on forever.
            steps: Batches of each epoch that are used; None for all.
            shard: The rows of each batch to give; every element holds one block of them.
            micro_batches: Parts that every block is cut into later. The first parts of all blocks are together the
                first part of the whole batch, and so on: a micro-batch has the same rows on any number of devices.
        """
        parts = shard.total * micro_batches
        require(
            self.batch_size % parts == 0, "batch_size",
            f"a multiple of {parts} (replicas x micro_batches), such as {nearest_multiples(self.batch_size, parts)}",
            self.batch_size,
        )  # fmt: skip
        size, grouped = int(self._cut()[1].max()) // shard.total, self.lengths is not None

        def rows(number):
            table = self.indices(seed, int(number))[step if number == epoch else 0 : steps]
            widths = np.repeat(self.widths_of(table), shard.count)  # of the whole batch: the same for every block
            table = _with_content(table) if grouped else table
            return _blocks(table, shard, micro_batches), widths

        def of_epoch(number):
            table, widths = tf.numpy_function(rows, [number], (tf.int64, tf.int64), stateful=False)
            table, widths = tf.ensure_shape(table, (None, size)), tf.ensure_shape(widths, (None,))
            blocks = tf.data.Dataset.from_tensor_slices((table, widths))
            if self.batch_tokens is not None:
                blocks = blocks.map(lambda indices, width: (indices[indices != ABSENT], width))
            return blocks.map(lambda indices, width: (indices, number, width) if grouped else (indices, number))

        numbers = tf.data.Dataset.range(epoch, np.iinfo(np.int64).max if epochs is None else epochs)
        batches = self.load(numbers.flat_map(of_epoch))
        if epochs is None:  # said aloud: else several workers ask one another for the end, and lose the static shapes
            batches = batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
        return batches.prefetch(tf.data.AUTOTUNE)

    def replica_stream(self, strategy: tf.distribute.Strategy, **address):
        """`stream(**address)` for every replica of `strategy`, each with its rows of the global batch."""
        total = strategy.num_replicas_in_sync
        if total == 1 and not internals.has_workers(strategy):
            return self.stream(**address)

        return strategy.distribute_datasets_from_function(lambda context: self._of_worker(context, total, address))

    def cached_stream(self, strategy: tf.distribute.Strategy, steps: int, by_replica: bool) -> Any:
        """The first `steps` batches, for one evaluation after the other: to make a pipeline traces its functions anew.

        Args:
            strategy: Whose replicas, or whose workers, take them.
            steps: Batches.
            by_replica: Whether they are those of `replica_stream`, rather than of `worker_stream`.
        """
        key = (strategy, steps, by_replica)
        if key not in self._once:
            make = self.replica_stream if by_replica else self.worker_stream
            self._once[key] = make(strategy, epochs=1, steps=steps)
        return self._once[key]

    def worker_stream(self, strategy: tf.distribute.Strategy, **address) -> tf.data.Dataset:
        """`stream(**address)` with this worker's rows of every batch, a replica's at a time; one process has all."""
        if not internals.has_workers(strategy):
            return self.stream(**address)
        return self._of_worker(internals.input_context(strategy), strategy.num_replicas_in_sync, address)

    def index_table(self, seed: int, epoch: int, steps: int | None = None, micro_batches: int = 1) -> np.ndarray:
        """What `gather_from_memory` takes for every batch of `stream`'s epoch: int64 (steps, rows)."""
        return _blocks(self.indices(seed, epoch)[:steps], WHOLE, micro_batches)

    def _of_worker(self, context: tf.distribute.InputContext, total: int, address: dict) -> tf.data.Dataset:
        local = total // context.num_input_pipelines
        return self.stream(**address, shard=Shard(context.input_pipeline_id * local, local, total))

    @property
    def element_spec(self) -> dict[str, tf.TensorSpec]:
        """Shapes and dtypes of a global batch."""
        return self.stream(epochs=1).element_spec


def _on_this_device(array: Any) -> tf.Tensor | tf.RaggedTensor:
    if isinstance(array, tf.RaggedTensor):
        require(array.shape.rank == 2, "arrays", "ragged with two axes (examples, time)", f"ragged {array.shape}")
        return tf.nest.map_structure(tf.identity, array, expand_composites=True)
    return tf.convert_to_tensor(array)


def _rows_of(tensor: tf.Tensor | tf.RaggedTensor, indices: tf.Tensor, *width: tf.Tensor) -> tf.Tensor:
    rows = tf.gather(tensor, indices)
    if not isinstance(rows, tf.RaggedTensor):
        return rows
    shape = tf.stack([tf.size(indices, tf.int64), *width])
    return tf.ensure_shape(rows.to_tensor(shape=shape), (indices.shape[0], None))
