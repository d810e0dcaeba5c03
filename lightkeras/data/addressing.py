"""The order of an epoch, the rows of a batch that each worker and replica takes, and the address of each row."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

PADDING = -1  # a row without an example
ABSENT = np.iinfo(np.int64).min  # in a table of batches of differing sizes: no row at all
LARGE = 2**22  # examples of an epoch whose order is kept in memory
_ROUNDS = 6
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


def order_at(seed: int, epoch: int, size: int, places: np.ndarray) -> np.ndarray:
    """The examples at some places of an epoch's order, int64 as `places`: of many examples, the order takes no memory.

    Up to `LARGE` examples it is `permutation`. Above, a Feistel network over the next power of four, keyed by
    (seed, epoch), permutes numbers. Those beyond `size` are permuted again until they are below it: cycle walking
    (Black and Rogaway 2002).
    """
    if size <= LARGE:
        return permutation(seed, epoch, size)[places]
    half = np.uint64((int(size - 1).bit_length() + 1) // 2)
    keys = np.random.Philox(key=[seed, epoch]).random_raw(_ROUNDS)
    found, left = places.astype(np.uint64), np.arange(len(places))
    while len(left):
        found[left] = _feistel(found[left], half, keys)
        left = left[found[left] >= size]
    return found.astype(np.int64)


def _feistel(numbers: np.ndarray, half: np.uint64, keys: np.ndarray) -> np.ndarray:
    """Permutes uint64 numbers below 4 ** half."""
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = numbers >> half, numbers & mask
    for key in keys:
        mixed = (right ^ key) * np.uint64(0xBF58476D1CE4E5B9)  # the mixing of SplitMix64
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        left, right = right, left ^ ((mixed ^ (mixed >> np.uint64(31))) & mask)
    return (left << half) | right


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


@tf.autograph.experimental.do_not_convert
def row_addresses(indices: tf.Tensor, epoch: tf.Tensor, *width: tf.Tensor) -> tf.Tensor:
    """The address of each row of a batch: int64 (rows, 2), (index of the example, epoch); (-1, epoch) for padding."""
    examples = tf.maximum(indices, PADDING)
    return tf.stack([examples, tf.fill(tf.shape(examples), epoch)], axis=1)


def address_spec(rows: int | None) -> tf.TensorSpec:
    """The spec of the addresses beside a batch of `rows`: int64 (rows, 2)."""
    return tf.TensorSpec((rows, 2), tf.int64, "address")


def number_rows(batches: tf.data.Dataset, epoch: int = 0) -> tf.data.Dataset:
    """Puts beside each batch the addresses of its rows, of data that are read in their order: pairs.

    The address of a row is (number of the row in the epoch, epoch): int64 (rows, 2).
    """

    def number(before, batch):
        first = next(one for one in tf.nest.flatten(batch) if one is not None)
        rows = first.bounding_shape()[0] if isinstance(first, tf.RaggedTensor) else tf.shape(first, tf.int64)[0]
        indices = before + tf.range(rows)
        addresses = tf.ensure_shape(row_addresses(indices, tf.constant(epoch, tf.int64)), (first.shape[0], 2))
        return before + rows, (batch, addresses)

    return batches.scan(tf.constant(0, tf.int64), number)
