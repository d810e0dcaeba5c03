"""A batch: a dict of tensors with the batch axis first, and the weight of every row."""

from collections.abc import Callable

import tensorflow as tf

Batch = dict[str, tf.Tensor]
WEIGHT = "weight"


def weights_of(batch) -> tf.Tensor:
    """Returns the weight of every row: float32 (rows,), or (rows, time) if the data brought such weights."""
    return batch[WEIGHT] if isinstance(batch, dict) else batch[2]


def fetch_batch(fetch: Callable[..., Batch], indices: tf.Tensor, *address: tf.Tensor | int) -> Batch:
    """Calls `fetch(examples (rows,), *address)` for a row of indices, and adds the weights.

    Raises:
        TypeError: The batch is not a dict.
        ValueError: It has a "weight" already, or an entry with another number of rows.
    """
    batch = add_weight(fetch(examples_to_read(indices), *address), indices)
    rows = indices.shape[0]
    wrong = [f"{name} with shape {tensor.shape}" for name, tensor in batch.items() if tensor.shape[:1] != (rows,)]
    if wrong:
        raise ValueError(f"Expected every entry of a batch to have {rows} rows. Received: {', '.join(wrong)}")
    return batch


def examples_to_read(indices: tf.Tensor) -> tf.Tensor:
    """Index of the example to read for each row; padding rows encode one as -1 - i."""
    return tf.maximum(indices, -1 - indices)


def add_weight(batch: Batch, indices: tf.Tensor) -> Batch:
    """Adds the weight of each row: float32, 1 for an example, 0 for padding (a negative index)."""
    if not isinstance(batch, dict):
        raise TypeError(f"Expected a batch to be a dict of tensors. Received: {type(batch).__name__}")
    if WEIGHT in batch:
        raise ValueError(f'Expected a batch without "{WEIGHT}", which is added. Received: {sorted(batch)}')
    return {**batch, WEIGHT: tf.cast(indices >= 0, tf.float32)}


def gather_rows(tensor: tf.Tensor | tf.RaggedTensor, indices: tf.Tensor, *width: tf.Tensor) -> tf.Tensor:
    """Takes rows (rows, ...); ragged ones are padded with zeros to (rows, width)."""
    rows = tf.gather(tensor, indices)
    if not isinstance(rows, tf.RaggedTensor):
        return rows
    shape = tf.stack([tf.size(indices, tf.int64), *width])
    return tf.ensure_shape(rows.to_tensor(shape=shape), (indices.shape[0], None))
