"""The training data without some rows of one batch."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from lightkeras.data import stages
from lightkeras.data.batches import map_batch, traced_as_it_is
from lightkeras.data.dataset import AddressedDataset
from lightkeras.data.module import DataModule
from lightkeras.utils.checks import ArgumentError, require


def require_rows(rows: list[int], examples: np.ndarray | None) -> np.ndarray:
    """Returns the numbers of the examples in `rows` of a batch.

    Raises:
        ValueError: The batch has no such rows, or its examples have no numbers.
    """
    if examples is None:
        raise ArgumentError("Expected data whose examples have numbers, for `without`. Received: streamed data")
    known = np.flatnonzero(examples >= 0)
    expected = f"different rows of the batch, from 0 to {known.max()}, not all of them"
    right = len(set(rows)) == len(rows) and set(rows) < set(known.tolist())
    require(right, "without", expected, rows)
    return examples[rows]


@contextlib.contextmanager
def leaving_out(data: DataModule, epoch: int, examples: np.ndarray) -> Iterator[None]:
    """Makes `examples` count nothing in an epoch of the training data of a module, in the `with` block.

    In their places stand copies of another example of the batch, with a weight of 0: what is in them, be it NaN, is not
    even read. A plain Keras model gets a shorter batch.
    """
    make, removed = data.train_dataset, tf.constant(examples, tf.int64)

    def is_removed(indices, number):
        return tf.reduce_any(indices[:, None] == removed, axis=1) & (number == epoch)

    @traced_as_it_is
    def mask(indices, number, *width):
        gone = is_removed(indices, number)
        other = tf.reduce_max(tf.where(gone, tf.constant(-1, tf.int64), indices))
        return tf.where(gone, -1 - other, indices), number, *width

    def train_dataset() -> AddressedDataset:
        dataset: Any = stages.convert(make(), data, "train_dataset")
        made = dataset.replace(load=lambda rows: dataset.load(rows.map(mask)), gather_from_memory=None)

        @traced_as_it_is
        def drop(batch, row):
            indices = row[0][row[0] >= 0]
            kept = ~is_removed(indices, row[1])
            return map_batch(lambda entry: tf.boolean_mask(entry, kept), dataset.unpad(batch, row[0]))

        def as_keras(**address):
            def load(rows):
                return tf.data.Dataset.zip(dataset.load(rows), rows).map(drop)

            return dataset.replace(load=load).stream(**address)

        vars(made)["as_keras"] = as_keras
        return made

    vars(data)["train_dataset"] = train_dataset
    try:
        yield
    finally:
        del vars(data)["train_dataset"]
