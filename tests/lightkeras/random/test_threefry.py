"""The words of the published algorithm."""

import tensorflow as tf

from lightkeras.random import threefry


def test_threefry_gives_the_words_of_random123():
    """The known answers of Random123's kat_vectors, threefry2x32 of 20 rounds."""
    ones, zeros = (0xFFFFFFFF, 0xFFFFFFFF), (0, 0)
    for key, counter, expected in (
        (zeros, zeros, (0x6B200159, 0x99BA4EFE)),
        (ones, ones, (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ):
        words = [tuple(tf.constant(word, tf.uint32) for word in pair) for pair in (key, counter)]
        assert tuple(int(word) for word in threefry(*words)) == expected


def test_words_of_all_shapes_have_one_trace():
    key, traces = (tf.constant(1, tf.uint32), tf.constant(2, tf.uint32)), []
    for columns in (3, 4):
        threefry(key, (tf.zeros(columns, tf.uint32), key[0]))
        traces.append(threefry.experimental_get_tracing_count())
    assert traces[0] == traces[1]
