"""Standard normal numbers that are a pure function of seed and example's address, whoever computes them."""

import math

import tensorflow as tf

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_ODD = 0x9E3779B1  # multiplied by it, other seeds stay other words of 32 bits, far from each other


def threefry(key: tuple[tf.Tensor, tf.Tensor], counter: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """Threefry-2x32 of 20 rounds (Salmon et al. 2011): two uint32 words, from a key and a counter of two words each.

    Counter-based: every word stands on its own, with no state. The shapes of key and counter broadcast.
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


def normal(keys: tf.Tensor, dim: int, stream: int = 0, seed: int = 0) -> tf.Tensor:
    """Standard normal numbers, a row for each key: float32 (rows, dim).

    A row depends on nothing but its key and the other arguments: not on the other rows, the batch or the device.

    Args:
        keys: The addresses: integers (rows, 2), each below 2**32.
        dim: Numbers in a row.
        stream: Another stream gives unrelated numbers for the same keys.
        seed: Another seed, below 2**32, does so too.
    """
    words = tf.cast(keys, tf.uint32)
    pairs = tf.cast(tf.range((dim + 1) // 2)[None, :], tf.uint32)  # (1, pairs)
    of_seed = tf.constant(seed * _ODD % 2**32, tf.uint32)
    x, y = threefry((words[:, :1], words[:, 1:] ^ of_seed), (pairs, tf.constant(stream, tf.uint32)))  # (rows, pairs)
    radius = tf.sqrt(-2.0 * tf.math.log(_uniform(x)))  # Box and Muller (1958)
    angle = 2.0 * math.pi * _uniform(y)
    return tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], axis=1)[:, :dim]  # (rows, dim)


def _uniform(words: tf.Tensor) -> tf.Tensor:
    """Float32 in the open interval (0, 1), from the upper 23 bits: the 24th would round to 1."""
    upper = tf.bitwise.right_shift(words, tf.constant(9, tf.uint32))
    return (tf.cast(upper, tf.float32) + 0.5) * 2.0**-23
