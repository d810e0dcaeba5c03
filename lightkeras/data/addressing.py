"""The order of an epoch, and the rows that each worker and replica takes of a batch."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

Batch = dict[str, tf.Tensor]


WEIGHT = "weight"


PADDING = -1


ABSENT = np.iinfo(np.int64).min  # in a table of batches of differing sizes: no row at all


_ORDER, _BATCHES = 0, 1  # what a permutation is of: the examples, the batches


class Shard(NamedTuple):
    """The rows of a global batch that one worker reads: blocks `first` to `first + count` of `total` equal blocks.

    A block is what one replica takes in one step.
    """

    first: int = 0
    count: int = 1
    total: int = 1


WHOLE = Shard()


def permutation(seed: int, epoch: int, size: int, of: int = _ORDER) -> np.ndarray:
    """The order of an epoch: a permutation of `range(size)`, int64 (size,), keyed by (seed, epoch) and `of` alone.

    Philox is counter-based (Salmon et al. 2011), so neighbouring keys give unrelated orders.
    """
    return np.random.Generator(np.random.Philox(key=[seed, epoch], counter=[0, 0, 0, of])).permutation(size)


def _blocks(table: np.ndarray, shard: Shard, micro_batches: int) -> np.ndarray:
    """The rows of `shard` of every batch of `table` (steps, rows): (steps * blocks, rows of a block).

    A batch of fewer rows than the table has room for is cut alike, and its blocks end with `ABSENT`.
    """
    room = table.shape[1] // shard.total
    blocks = np.full((len(table), shard.count, room), ABSENT, np.int64)
    present = (table != ABSENT).sum(axis=1)
    for rows in np.unique(present):
        of_size = present == rows
        cut = (-1, micro_batches, shard.total, rows // shard.total // micro_batches)
        whole = table[of_size, :rows].reshape(cut).swapaxes(1, 2)  # (steps, blocks, micro-batches, rows)
        mine = whole[:, shard.first : shard.first + shard.count]
        blocks[of_size, :, : rows // shard.total] = mine.reshape(len(mine), shard.count, -1)
    return blocks.reshape(-1, room)


def _with_content(table: np.ndarray) -> np.ndarray:
    """`table` (steps, rows) with padding that names an example of its batch, which fits its width: -1 - example."""
    example = table.max(axis=1, keepdims=True)
    return np.where(table == PADDING, -1 - example, table)


def _content(indices: tf.Tensor) -> tf.Tensor:
    """The examples whose content the rows have, that of padding included: i for -1 - i, so 0 for -1."""
    return tf.maximum(indices, -1 - indices)


def _weighted(batch: Batch, indices: tf.Tensor) -> Batch:
    """`batch` with the weight of its rows: 0 where the index is padding."""
    if not isinstance(batch, dict):
        raise TypeError(f"Expected a batch to be a dict of tensors. Received: {type(batch).__name__}")
    if WEIGHT in batch:
        raise ValueError(f'Expected a batch without "{WEIGHT}", which is added. Received: {sorted(batch)}')
    return {**batch, WEIGHT: tf.cast(indices >= 0, tf.float32)}


def _batch_by(fetch: Callable, *address) -> Callable[[tf.Tensor], Batch]:
    """The batch of a row of indices, by a function of `from_batches` at an address."""

    def batch(indices):
        made = _weighted(fetch(_content(indices), *address), indices)
        _check_rows(made, indices.shape[0])
        return made

    return batch


def _check_rows(batch: Batch, rows: int) -> None:
    wrong = [f"{name} with shape {tensor.shape}" for name, tensor in batch.items() if tensor.shape[:1] != (rows,)]
    if wrong:
        raise ValueError(f"Expected every entry of a batch to have {rows} rows. Received: {', '.join(wrong)}")
