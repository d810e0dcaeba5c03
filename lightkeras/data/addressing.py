"""The order of an epoch, and the rows of a batch that each worker and replica takes."""

from typing import NamedTuple

import numpy as np

PADDING = -1  # a row without an example
ABSENT = np.iinfo(np.int64).min  # in a table of batches of differing sizes: no row at all
EXAMPLES, BATCHES = 0, 1  # the things that a permutation puts in order


class Shard(NamedTuple):
    """The rows of a global batch that one worker reads: blocks `first` to `first + count` of `total` equal blocks.

    A block holds the rows that one replica takes in one step.
    """

    first: int = 0
    count: int = 1
    total: int = 1


WHOLE = Shard()


def permutation(seed: int, epoch: int, size: int, things: int = EXAMPLES) -> np.ndarray:
    """The order of an epoch: a permutation of `range(size)`, int64 (size,), keyed by (seed, epoch, things) alone.

    Philox is counter-based (Salmon et al. 2011), so neighbouring keys give unrelated orders.
    """
    return np.random.Generator(np.random.Philox(key=[seed, epoch], counter=[0, 0, 0, things])).permutation(size)


def cut_batches(examples: np.ndarray, rows: int, room: int) -> np.ndarray:
    """Cuts `examples` (n,) into batches of `rows`: int64 (batches, room).

    The last batch ends with `PADDING`. The columns from `rows` to `room` are `ABSENT`.
    """
    batches = -(-len(examples) // rows)
    padded = np.full(batches * rows, PADDING, np.int64)
    padded[: len(examples)] = examples
    return np.pad(padded.reshape(batches, rows), ((0, 0), (0, room - rows)), constant_values=ABSENT)


def cut_blocks(table: np.ndarray, shard: Shard, micro_batches: int) -> np.ndarray:
    """Takes the rows of `shard` from every batch of `table` (steps, rows): (steps * blocks, rows of a block).

    A batch with fewer rows than the table is wide is cut into as many blocks, and these end with `ABSENT`.
    """
    room = table.shape[1] // shard.total
    blocks = np.full((len(table), shard.count, room), ABSENT, np.int64)
    present = (table != ABSENT).sum(axis=1)
    for rows in np.unique(present):
        same_size = present == rows
        shape = (-1, micro_batches, shard.total, rows // shard.total // micro_batches)
        parts = table[same_size, :rows].reshape(shape).swapaxes(1, 2)  # (steps, blocks, micro-batches, rows)
        taken = parts[:, shard.first : shard.first + shard.count]
        blocks[same_size, :, : rows // shard.total] = taken.reshape(len(taken), shard.count, -1)
    return blocks.reshape(-1, room)


def encode_padding(table: np.ndarray) -> np.ndarray:
    """`table` (steps, rows) with -1 - i for a row of padding, where i is an example of the same batch.

    That example is as short as the batch is narrow; any other one might not fit. `batches.examples_to_read` decodes it.
    """
    example = table.max(axis=1, keepdims=True)
    return np.where(table == PADDING, -1 - example, table)
