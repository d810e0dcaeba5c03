"""What keys a draw: the step it is made in, its stage, its place in the step."""

import numpy as np
import pytest
import tensorflow as tf

import lightkeras as lk
from lightkeras.random.keys import KeyedBatches, keyed_draws, named_draws_only, split_draws

ADDRESS = tf.constant([[4, 1], [7, 1], [2, 1], [-1, 1]], tf.int64)
BATCH = {"x": tf.zeros((4, 3)), "weight": tf.ones(4)}


def drawn(*streams, address=ADDRESS, seed=0, stage="train", batch=BATCH):
    """The draws of a step, one for each of `streams`: (draws, rows, 2)."""
    with keyed_draws(address, seed, stage):
        return np.stack([lk.random.normal(batch, 2, stream=stream) for stream in streams])


def test_draws_of_a_step_are_independent_and_a_name_is_the_same_draw():
    first, second, named, again, number = drawn(None, None, "noise", "noise", 3)
    assert len(np.unique(np.concatenate([first, second, named, number]))) == 4 * 8
    np.testing.assert_array_equal(named, again)
    np.testing.assert_array_equal(drawn("noise", None)[[1, 0]], [first, named])  # a name does not count


def test_seed_stage_and_address_key_a_draw():
    whole = drawn(None)[0]
    for other in (
        drawn(None, seed=1)[0],
        drawn(None, stage="val")[0],
        drawn(None, address=tf.add(ADDRESS, [[0, 1]]))[0],
    ):
        assert not np.any(other == whole)
    np.testing.assert_allclose(
        drawn(None, address=ADDRESS[2:], batch=(tf.zeros((2, 1)), None))[0], whole[2:], rtol=1e-5
    )


def test_the_epoch_is_told_from_the_seed_and_neighbours_are_uncorrelated():
    indices = tf.range(4000, dtype=tf.int64)
    batch = tf.zeros((4000, 1))
    epochs = [tf.stack([indices, tf.fill((4000,), tf.constant(epoch, tf.int64))], 1) for epoch in (0, 1)]
    draws = np.concatenate(
        [drawn(None, None, "a", "b", address=a, seed=s, batch=batch).reshape(4, -1) for a in epochs for s in (0, 1)]
    )
    correlations = np.corrcoef(draws) - np.eye(len(draws))
    assert np.abs(correlations).max() < 5 / np.sqrt(8000)
    neighbours = [np.mean(draw[:-2] * draw[2:]) for draw in draws]
    assert np.abs(neighbours).max() < 5 / np.sqrt(8000)


def test_parts_draw_as_the_whole():
    def split(address):
        return tf.reshape(address, (2, 2, 2))

    whole = drawn(None, None, None)
    with keyed_draws(ADDRESS, 0, "train"):
        np.testing.assert_allclose(lk.random.normal(BATCH, 2), whole[0], rtol=1e-5)
        keyed_part = split_draws(split)
        for _ in range(2):  # as a loop in a graph is traced twice
            parts = []
            for index in range(2):
                with keyed_part(index):
                    parts.append(lk.random.normal(tf.zeros((2, 1)), 2))
            np.testing.assert_allclose(tf.concat(parts, 0), whole[1], rtol=1e-5)
        np.testing.assert_allclose(lk.random.normal(BATCH, 2), whole[2], rtol=1e-5)


def test_batches_of_a_score_key_draws_while_they_are_in_use():
    pairs = tf.data.Dataset.from_tensor_slices((np.zeros((2, 4, 3), np.float32), tf.stack([ADDRESS, ADDRESS + 1])))
    batches = KeyedBatches(pairs, 5, "val")
    for _ in range(2):
        draws = [lk.random.normal(batch, 2) for batch in batches]
        np.testing.assert_array_equal(draws[0], drawn(None, seed=5, stage="val")[0])
        np.testing.assert_array_equal(draws[1], drawn(None, seed=5, stage="val", address=ADDRESS + 1)[0])
    batch = next(iter(batches))
    assert batches.take(1).element_spec.shape == (4, 3)
    with pytest.raises(ValueError, match="keys outside of a step"):
        lk.random.normal(batch, 2)


# ---- errors


def in_step(function, graph=False):
    def step(address):
        with keyed_draws(address, 0, "train"):
            return function()

    return (tf.function(step, autograph=False) if graph else step)(ADDRESS)


@pytest.mark.parametrize(
    ("batch", "received"),
    [
        (BATCH, "dict"),
        (tf.zeros((4, 2)), r"shape \(4, 2\), float32"),
        (np.zeros((4, 3), int), r"shape \(4, 3\), int64"),
    ],
)
def test_a_batch_outside_of_a_step_is_rejected(batch, received):
    with pytest.raises(ValueError, match=rf"`batch` to be keys outside of a step.*Received: {received}"):
        lk.random.uniform(batch, 2)


def test_keys_within_a_step_and_other_rows_are_rejected():
    with pytest.raises(ValueError, match=r"keys are for draws outside of a step. Received: one tensor of integers"):
        in_step(lambda: lk.random.normal(ADDRESS, 2))
    with pytest.raises(ValueError, match=r"`batch` to be rows of the step's batch, 4. Received: batch=8"):
        in_step(lambda: lk.random.normal(tf.zeros((8, 2)), 2))
    with pytest.raises(ValueError, match="`batch` to be the batch of the step"):
        in_step(lambda: lk.random.normal(None, 2))


@pytest.mark.parametrize("graph", [False, True])
def test_a_function_of_ones_own_may_not_draw(graph):
    own = tf.function(lambda: lk.random.normal(BATCH, 2, stream="a"), autograph=False)
    with pytest.raises(ValueError, match=r"outside of a `tf.function` of your own"):
        in_step(own, graph)


def test_a_draw_in_a_loop_needs_a_name():
    def loop(stream):
        def body(index, total):
            return index + 1, total + lk.random.normal(BATCH, 2, stream=stream)

        return tf.while_loop(lambda index, _: index < 3, body, (0, tf.zeros((4, 2))))[1]

    with pytest.raises(ValueError, match="Expected a `stream` for a draw within a loop or branch"):
        in_step(lambda: loop(None), graph=True)
    for graph in (False, True):
        np.testing.assert_allclose(in_step(lambda: loop("a"), graph), 3 * drawn("a")[0], rtol=1e-5)


def test_a_draw_that_a_gradient_repeats_needs_a_name():
    def gradient(stream):
        x = tf.ones((4, 2))
        noisy = tf.recompute_grad(lambda x: x * x * lk.random.normal(x, 2, stream=stream))
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(noisy(x))
        with named_draws_only():
            return tape.gradient(total, x)

    with pytest.raises(ValueError, match="a function that is computed again for its gradient"):
        in_step(lambda: gradient(None))
    np.testing.assert_allclose(in_step(lambda: gradient("a")), 2 * drawn("a")[0], rtol=1e-5)
