"""Data as Keras' `fit` would hand it over: in the form it was brought in, the last batch short, not padded."""

from typing import Any

import numpy as np
import tensorflow as tf

from lightkeras.data import AddressedDataset
from lightkeras.data.batches import batch_spec, map_batch, named_entries
from lightkeras.distribution.replicas import num_replicas, one_cpu
from lightkeras.training.loop import MemorySource, Source, StreamSource


class KerasData:
    """A data set in Keras' form.

    Args:
        dataset: The data set.
        strategy: Of the model: each batch is cut into the parts of its replicas, as Keras does it.
    """

    def __init__(self, dataset: Any, strategy: tf.distribute.Strategy):
        self.dataset, self._strategy = dataset, strategy
        self._kept: dict[int, Any] = {}
        self.element_spec = batch_spec(dataset.as_keras(epochs=1).element_spec)

    @property
    def whole_spec(self) -> Any:
        """The spec of a batch that is not short."""

        def fill(spec):
            return tf.TensorSpec([self.dataset.batch_size, *spec.shape[1:]], spec.dtype) if _is_open(spec) else spec

        return map_batch(fill, self.element_spec)

    def stream(self, **address: Any) -> Any:
        """The batches from an address on; see `AddressedDataset.stream`."""
        stream = self.dataset.as_keras(**address)
        one = num_replicas(self._strategy) == 1
        return stream if one else self._strategy.experimental_distribute_dataset(stream)

    def kept_stream(self, steps: int) -> Any:
        """The first `steps` batches, kept for later evaluations: a new pipeline would be traced anew."""
        if steps not in self._kept:
            self._kept[steps] = self.stream(epochs=1, steps=steps)
        return self._kept[steps]

    def first_batch(self) -> Any:
        """The first batch."""
        return next(iter(self.dataset.as_keras(epochs=1, steps=1)))

    def training_source(self, seed: int, steps: int, global_step: int) -> Source:
        """Gathers arrays in memory inside the compiled loop, on one CPU; streams everything else.

        Args:
            seed: Keys the order.
            steps: Batches of an epoch.
            global_step: Updates that are made.
        """
        if self.dataset.gather_from_memory is not None and one_cpu(self._strategy):
            return KerasMemorySource(self.dataset, lambda epoch: self.dataset.index_table(seed, epoch, steps))
        epoch, step = divmod(global_step, steps)
        return KerasStreamSource(self.stream(seed=seed, epoch=epoch, step=step, steps=steps))

    def in_order(self, rows: Any) -> np.ndarray:
        """Puts outputs for the batches, one after the other, into the order of the examples: (rows, ...)."""
        rows = np.asarray(rows.to_tensor() if isinstance(rows, tf.RaggedTensor) else rows)
        if not isinstance(self.dataset, AddressedDataset):
            return rows
        table = self.dataset.indices(0, 0)
        return rows[np.argsort(table[table >= 0][: len(rows)], kind="stable")]


class KerasStreamSource(StreamSource):
    """Batches of a `tf.data` pipeline, without addresses: nothing in a plain model's step is keyed by them."""

    def next(self, opened: Any, index: tf.Tensor) -> tuple[Any, None]:
        return next(opened), None


class KerasMemorySource(MemorySource):
    """Batches gathered inside the compiled loop from arrays in memory, without the rows that are padding.

    Args:
        dataset: The data set.
        index_table: `epoch -> ` the rows of all of its batches, int64 (steps, rows); -1 where a row is padding.
    """

    def __init__(self, dataset: Any, index_table: Any):
        super().__init__(dataset.gather_from_memory, index_table)
        self._dataset = dataset
        self.compiles_whole_loop = dataset.size % dataset.batch_size == 0

    def next(self, opened: Any, index: tf.Tensor) -> tuple[Any, None]:
        table, _, first = opened
        row = tf.gather(table, first + index)
        return self._dataset.unpad(self._gather(row), row), None


def _is_open(spec: Any) -> bool:
    return isinstance(spec, tf.TensorSpec) and bool(spec.shape.rank) and spec.shape[0] is None


def count_rows(batch: Any) -> Any:
    """Returns the rows of a batch, float64 (); 0 for one without rows."""
    entry = next(iter(named_entries(batch).values()))
    if isinstance(entry, tf.RaggedTensor | tf.SparseTensor):
        return tf.cast(entry.nrows() if isinstance(entry, tf.RaggedTensor) else entry.dense_shape[0], tf.float64)
    return tf.cast(tf.shape(entry)[0] if entry.shape.rank != 0 else 0, tf.float64)
