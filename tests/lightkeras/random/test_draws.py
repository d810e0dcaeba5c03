"""Random numbers by address: moments, bounds, independence."""

import math

import numpy as np
import pytest
import tensorflow as tf

from lightkeras.random import bernoulli, dropout, integers, normal, uniform
from lightkeras.random.keys import keyed_draws


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
    """Other numbers would end every resumed run elsewhere: they must not change unnoticed."""
    expected = [[0.7897255, 0.31083193, 0.47320345], [-0.92660075, -1.477538, 0.58986604]]
    np.testing.assert_allclose(normal(addresses([5], 3), 51)[0, :3], expected[0], rtol=1e-6)
    np.testing.assert_allclose(normal(addresses([5], 3), 100, stream=1 << 31, seed=7)[0, :3], expected[1], rtol=1e-6)
    with keyed_draws(addresses([5], 3), 7, "train"):
        first, second, named = (normal(tf.zeros((1, 1)), 2, stream=stream)[0] for stream in (None, None, "name"))
    np.testing.assert_allclose(
        [first, second, named], [[-0.00238603, -0.09255805], [1.312653, 0.6618377], [0.6966745, -0.1215802]], rtol=1e-5
    )


def test_uniform_numbers_fill_the_open_interval():
    numbers = uniform(addresses(np.arange(20_000), 3), 5, stream=1).numpy()
    assert numbers.shape == (20_000, 5) and numbers.dtype == np.float32
    assert 0 < numbers.min() < 1e-4 and 1 - 1e-4 < numbers.max() < 1
    shares = np.histogram(numbers, bins=20, range=(0, 1))[0] / numbers.size
    np.testing.assert_allclose(shares, 0.05, atol=0.0042)  # six standard errors
    np.testing.assert_array_equal(uniform(addresses([7, 3], 3), 5, stream=1), numbers[[7, 3]])


def test_uniform_numbers_keep_to_their_bounds():
    keys = addresses(np.arange(20_000), 3)
    middle = np.nextafter(np.float32(100), np.float32(101))  # the only float32 that is inside
    assert np.unique(uniform(keys, 5, 100.0, float(np.nextafter(middle, np.float32(101))))).tolist() == [middle]
    numbers = uniform(keys, (), -3, 5).numpy()
    assert numbers.shape == (20_000,) and -3 < numbers.min() < -2.99 and 4.99 < numbers.max() < 5
    assert numbers.mean() == pytest.approx(1, abs=0.1) and numbers.var() == pytest.approx(64 / 12, rel=0.03)


def test_integers_have_equal_shares():
    numbers = integers(addresses(np.arange(30_000), 1), 7, -1, 2).numpy()
    assert numbers.dtype == np.int32 and numbers.shape == (30_000, 7)
    values, counts = np.unique(numbers, return_counts=True)
    assert values.tolist() == [-1, 0, 1]
    np.testing.assert_allclose(counts / numbers.size, 1 / 3, atol=6 * np.sqrt(2 / 9 / numbers.size))
    assert integers(addresses([1]), (), 3, 4).numpy().tolist() == [3]
    whole = integers(addresses(np.arange(2000)), 8, -(2**31), 0).numpy()
    assert whole.min() < -(2**31) * 0.999 and -(2**31) * 0.001 < whole.max() < 0


def test_integers_are_the_upper_word_of_a_product():
    """Of 2**32 words, as many fall to each of 3 integers, but for one: no bias of a remainder."""
    keys = addresses(np.arange(1000))
    words = integers(keys, 4, 0, 2**31).numpy().astype(np.int64)  # the upper 31 bits of each word
    np.testing.assert_array_equal(integers(keys, 4, 0, 1000), words * 1000 // 2**31)


def test_bernoulli_has_the_given_share():
    keys = addresses(np.arange(20_000))
    numbers = bernoulli(keys, 5, 0.2).numpy()
    assert set(np.unique(numbers)) == {0.0, 1.0} and numbers.dtype == np.float32
    assert numbers.mean() == pytest.approx(0.2, abs=6 * 0.4 / np.sqrt(numbers.size))
    by_row = bernoulli(keys, 5, tf.constant([[0.0], [1.0]] * 10_000)).numpy()
    assert by_row[::2].max() == 0 and by_row[1::2].min() == 1


def test_the_first_numbers_do_not_depend_on_the_shape():
    keys, whole = addresses([3, 9], 2), normal(addresses([3, 9], 2), (6, 4))
    for rows in (1, 3, 5):
        np.testing.assert_allclose(normal(keys, (rows, 4)), whole[:, :rows], rtol=1e-5, atol=1e-6)
    dynamic = tf.function(lambda size: normal(keys, (size, 4)))(tf.constant(3))
    np.testing.assert_allclose(dynamic, whole[:, :3], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(normal(keys), whole[:, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(normal(keys, 2, mean=5.0, stddev=0.5), 5 + 0.5 * whole[:, 0, :2], rtol=1e-6)


def test_dropout_keeps_the_mean():
    inputs = tf.ones((500, 6, 10), tf.float16)
    with keyed_draws(addresses(np.arange(500)), 0, "train"):
        outputs, again = dropout(inputs, 0.25).numpy(), dropout(inputs, 0.25).numpy()
    assert outputs.dtype == np.float16 and np.any(outputs != again)
    assert set(np.unique(outputs)) == {0, np.float16(4 / 3)}
    assert np.mean(outputs == 0) == pytest.approx(0.25, abs=6 * np.sqrt(0.25 * 0.75 / outputs.size))


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda keys: normal(keys, 0), "`shape` to be a positive int"),
        (lambda keys: normal(keys, (2, "a")), "`shape` to be a positive int"),
        (lambda keys: normal(keys, 2, seed=2**32), r"`seed` to be below 2\*\*32"),
        (lambda keys: normal(keys, 2, stream=-1), "`stream` to be a non-negative int"),
        (lambda keys: uniform(keys, 2, 1.0, 1.0), "`maxval` to be above minval=1.0"),
        (lambda keys: uniform(keys, 2, 0, math.inf), "`maxval` to be a finite number"),
        (lambda keys: integers(keys, 2, 5, 5), "`maxval` to be an int of at least 6"),
        (lambda keys: integers(keys, 2, -5, 2**31), r"`maxval` to be at most 2\*\*31 above minval=-5"),
        (lambda keys: integers(keys, 2, 0, 2.0), "`maxval` to be a positive int"),
        (lambda keys: bernoulli(keys, 2, 1.5), "`p` to be a probability"),
        (lambda keys: dropout(keys, 1.0), "`rate` to be a number of at least 0 and below 1"),
    ],
)
def test_bad_arguments_are_rejected(draw, message):
    with pytest.raises(ValueError, match=message):
        draw(addresses([0, 1, 2]))
