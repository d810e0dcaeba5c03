"""The batches of a plain model as Keras' `fit` would hand them over: in the form they were brought in, not padded."""

from typing import Any

import tensorflow as tf

from lightkeras.data.batches import named_entries
from lightkeras.distribution.replicas import num_replicas, one_cpu
from lightkeras.training.loop import MemorySource, Source, StreamSource


def training_source(
    dataset: Any, strategy: tf.distribute.Strategy, seed: int, steps: int, global_step: int
) -> Source:  # fmt: skip
    """Gathers arrays in memory inside the compiled loop, on one CPU; streams everything else.

    Args:
        dataset: The training data in Keras' form.
        strategy: The model's.
        seed: Keys the order.
        steps: Batches of an epoch.
        global_step: Updates that are made.
    """
    if dataset.gather_from_memory is not None and one_cpu(strategy):
        return MemorySource(dataset.gather_from_memory, lambda epoch: dataset.index_table(seed, epoch, steps))
    epoch, step = divmod(global_step, steps)
    return StreamSource(distribute(dataset.stream(seed, epoch=epoch, step=step, steps=steps), strategy))


def distribute(stream: tf.data.Dataset, strategy: tf.distribute.Strategy) -> Any:
    """Cuts each batch into the parts of the replicas, as Keras does."""
    return stream if num_replicas(strategy) == 1 else strategy.experimental_distribute_dataset(stream)


def count_rows(batch: Any) -> Any:
    """Returns the rows of a batch, int64 (); 0 for one without rows."""
    entry = next(iter(named_entries(batch).values()))
    entry = entry.flat_values if isinstance(entry, tf.SparseTensor) else entry
    if isinstance(entry, tf.RaggedTensor):
        return entry.nrows()
    return tf.shape(entry, tf.int64)[0] if entry.shape.rank != 0 else tf.constant(0, tf.int64)


