"""Random numbers by address: the words of the published algorithm, moments, and independence."""

import numpy as np
import pytest
import tensorflow as tf

import lightkeras as lk
from lightkeras.random import normal, threefry, uniform


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


def addresses(indices, epoch=0):
    indices = np.asarray(indices)
    return tf.constant(np.stack([indices, np.full_like(indices, epoch)], axis=1), tf.int64)


def test_moments_and_shares_are_standard_normal():
    numbers = normal(addresses(np.arange(20_000), 3), 51).numpy().astype(np.float64)
    assert numbers.shape == (20_000, 51)
    moments = [(numbers**power).mean() for power in (1, 2, 3, 4)]
    np.testing.assert_allclose(moments, [0, 1, 0, 3], atol=0.03)  # six standard errors of the fourth
    edges = np.linspace(-3, 3, 25)
    shares = [np.mean(numbers < edge) for edge in edges]
    expected = [0.5 * (1 + float(tf.math.erf(edge / np.sqrt(2)))) for edge in edges]
    np.testing.assert_allclose(shares, expected, atol=0.003)


def test_neighbouring_addresses_are_independent():
    now = normal(addresses(np.arange(2000), 0), 100).numpy()
    later = normal(addresses(np.arange(2000), 1), 100).numpy()
    other = normal(addresses(np.arange(2000), 0), 100, stream=1).numpy()
    seeds = [normal(addresses(np.arange(2000), 0), 100, seed=seed).numpy() for seed in (1, 2, 2**31 - 1)]
    everything = np.concatenate([now, later, other, *seeds])
    assert len(np.unique(everything, axis=0)) == 12000
    by_seed = [(now, seeds[0]), (seeds[0], seeds[1]), (later, seeds[0]), (now, seeds[2])]
    for first, second in ((now[:-1], now[1:]), (now, later), (now, other), (now[:, :-1], now[:, 1:]), *by_seed):
        correlation = np.mean(first * second)
        assert abs(correlation) < 5 / np.sqrt(first.size)
    columns = np.corrcoef(now, rowvar=False) - np.eye(100)
    assert np.abs(columns).max() < 6 / np.sqrt(2000)


def test_a_row_does_not_depend_on_the_batch():
    whole = normal(addresses(np.arange(12), 5), 7)
    parts = [normal(addresses(part, 5), 7) for part in ([7, 3], [11], [0, 1, 2, 9])]
    again = tf.gather(whole, [7, 3, 11, 0, 1, 2, 9])
    np.testing.assert_allclose(tf.concat(parts, 0), again, rtol=1e-6, atol=1e-6)  # log and cos by vector or one by one


def test_compiled_numbers_are_the_same():
    keys = addresses(np.arange(300), 2)
    eager = normal(keys, 9)
    np.testing.assert_array_equal(tf.function(normal)(keys, 9), eager)
    compiled = tf.function(lambda keys: normal(keys, 9), jit_compile=True)(keys)
    np.testing.assert_allclose(compiled, eager, rtol=1e-5, atol=1e-6)


def test_the_numbers_are_pinned():
    """Other numbers would end every resumed GAN elsewhere: they must not change unnoticed."""
    expected = [[0.7897255, 0.47320345, -0.2668368], [-0.92660075, 0.58986604, 0.4842756]]
    np.testing.assert_allclose(normal(addresses([5], 3), 51)[0, :3], expected[0], rtol=1e-6)
    np.testing.assert_allclose(normal(addresses([5], 3), 100, 1 << 31, seed=7)[0, :3], expected[1], rtol=1e-6)


def test_uniform_numbers_fill_the_open_interval():
    numbers = uniform(addresses(np.arange(20_000), 3), 5, stream=1).numpy()
    assert numbers.shape == (20_000, 5) and numbers.dtype == np.float32
    assert 0 < numbers.min() < 1e-4 and 1 - 1e-4 < numbers.max() < 1
    shares = np.histogram(numbers, bins=20, range=(0, 1))[0] / numbers.size
    np.testing.assert_allclose(shares, 0.05, atol=0.0042)  # six standard errors
    np.testing.assert_array_equal(uniform(addresses([7, 3], 3), 5, stream=1), numbers[[7, 3]])


@pytest.mark.parametrize(
    ("keys", "arguments", "message"),
    [
        (np.zeros((3, 3), np.int64), {}, r"`keys` to be of shape \(rows, 2\)"),
        (np.zeros((3, 2), np.int64), {"dim": 0}, "`dim` to be a positive int"),
        (np.zeros((3, 2), np.int64), {"seed": 2**32}, r"`seed` to be below 2\*\*32"),
        (np.zeros((3, 2), np.int64), {"stream": -1}, "`stream` to be a non-negative int"),
    ],
)
def test_bad_arguments_are_rejected(keys, arguments, message):
    for draw in (lk.random.normal, lk.random.uniform):
        with pytest.raises(ValueError, match=message):
            draw(tf.constant(keys), **{"dim": 2, **arguments})
