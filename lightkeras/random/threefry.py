"""Counter-based random words by Threefry-2x32 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3")."""

import tensorflow as tf

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA

Words = tuple[tf.Tensor, tf.Tensor]


_WORD = tf.TensorSpec(None, tf.uint32)


@tf.function(input_signature=((_WORD, _WORD), (_WORD, _WORD)), autograph=False)  # traced once in a process
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
