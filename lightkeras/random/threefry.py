"""Counter-based random numbers by Threefry-2x32 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3")."""

import math

import tensorflow as tf

from lightkeras.utils.checks import require, require_int

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_ODD = 0x9E3779B1  # multiplied by it, different seeds stay different words of 32 bits, far from each other

Words = tuple[tf.Tensor, tf.Tensor]


def normal(keys: tf.Tensor, dim: int, stream: int = 0, seed: int = 0) -> tf.Tensor:
    """Draws standard normal numbers, a row for each key: float32 (rows, dim).

    A row depends on its key, `stream` and `seed` alone: not on other rows, the batch or the device. So the noise of an
    example is the same however a batch is cut, if its key is the example's address (index, epoch).

    Args:
        keys: Addresses: integers (rows, 2), each below 2**32.
        dim: Numbers in a row.
        stream: Another stream, below 2**32, gives unrelated numbers for the same keys.
        seed: So does another seed, below 2**32.

    Raises:
        ValueError: `keys` has another shape, or an argument is out of range.
    """
    radius, angle = _uniform_pairs(keys, dim, stream, seed)  # (rows, pairs) each
    radius, angle = tf.sqrt(-2.0 * tf.math.log(radius)), 2.0 * math.pi * angle  # Box and Muller (1958)
    return tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], axis=1)[:, :dim]


def uniform(keys: tf.Tensor, dim: int, stream: int = 0, seed: int = 0) -> tf.Tensor:
    """Draws uniform numbers from the open interval (0, 1), a row for each key: float32 (rows, dim).

    Arguments and errors as of `normal`. With equal arguments, the two functions use the same random words: take another
    `stream` where both must be independent.
    """
    return tf.concat(_uniform_pairs(keys, dim, stream, seed), axis=1)[:, :dim]


def threefry(key: Words, counter: Words) -> Words:
    """Threefry-2x32 of 20 rounds: two uint32 words from a key and a counter of two uint32 words each.

    The function has no state: equal arguments give equal words. The shapes of key and counter broadcast.
    """
    keys = (key[0], key[1], key[0] ^ key[1] ^ tf.constant(_PARITY, tf.uint32))
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    for group in range(5):
        for distance in _ROTATIONS[group % 2]:
            x = x + y
            y = _rotate(y, distance) ^ x
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + tf.constant(group + 1, tf.uint32)
    return x, y


def _rotate(words: tf.Tensor, distance: int) -> tf.Tensor:
    left = tf.bitwise.left_shift(words, tf.constant(distance, tf.uint32))
    return left | tf.bitwise.right_shift(words, tf.constant(32 - distance, tf.uint32))


def _uniform_pairs(keys: tf.Tensor, dim: int, stream: int, seed: int) -> Words:
    """Two tensors of uniform numbers, float32 (rows, pairs), which together have `dim` columns or one more."""
    require(keys.shape.rank == 2 and keys.shape[1] == 2, "keys", "of shape (rows, 2)", keys.shape)
    require_int("dim", dim)
    for name, value in (("stream", stream), ("seed", seed)):
        require_int(name, value, minimum=0)
        require(value < 2**32, name, "below 2**32", value)
    words = tf.cast(keys, tf.uint32)
    key = (words[:, :1], words[:, 1:] ^ tf.constant(seed * _ODD % 2**32, tf.uint32))
    counter = (tf.cast(tf.range((dim + 1) // 2)[None, :], tf.uint32), tf.constant(stream, tf.uint32))
    return tuple(map(_to_uniform, threefry(key, counter)))


def _to_uniform(words: tf.Tensor) -> tf.Tensor:
    """Float32 in the open interval (0, 1), from the upper 23 bits: the 24th would round to 1."""
    upper = tf.bitwise.right_shift(words, tf.constant(9, tf.uint32))
    return (tf.cast(upper, tf.float32) + 0.5) * 2.0**-23
