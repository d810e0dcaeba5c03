"""The loss of tokens: worked by hand, and against Keras' label smoothing."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import lightkeras as lk

LOGITS = np.random.default_rng(0).normal(size=(2, 3, 7)).astype(np.float32)
TARGETS = np.array([[4, 0, 6], [1, 1, 2]], np.int32)
WEIGHTS = np.array([[1, 0, 1], [1, 1, 0.5]], np.float32)


def test_tokens_are_counted_by_their_weights():
    sums = lk.losses.token_sums(tf.constant(LOGITS), tf.constant(TARGETS), tf.constant(WEIGHTS))
    nats = right = 0.0
    for place, target in np.ndenumerate(TARGETS):
        row = LOGITS[place].astype(np.float64)
        nats += WEIGHTS[place] * (np.log(np.exp(row).sum()) - row[target])
        right += WEIGHTS[place] * (row.argmax() == target)
    assert [float(part) for part in sums["loss"]] == pytest.approx([nats, 4.5], rel=1e-6)
    assert [float(part) for part in sums["token_accuracy"]] == pytest.approx([right, 4.5])
    assert lk.metrics.Perplexity(*map(float, sums["perplexity"])).result() == pytest.approx(
        np.exp(nats / 4.5), rel=1e-6
    )


def test_label_smoothing_is_that_of_keras_and_of_the_loss_alone():
    plain, smoothed = (lk.losses.token_sums(tf.constant(LOGITS), tf.constant(TARGETS), WEIGHTS, s) for s in (0.0, 0.3))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.3, reduction=None)
    expected = tf.reduce_sum(loss(tf.one_hot(TARGETS, 7), LOGITS) * WEIGHTS)
    assert float(smoothed["loss"].total) == pytest.approx(float(expected), rel=1e-6)
    assert float(smoothed["loss"].total) != pytest.approx(float(plain["loss"].total), rel=1e-3)
    assert float(smoothed["perplexity"].total) == float(plain["perplexity"].total)


def test_a_share_beyond_one_is_refused():
    with pytest.raises(ValueError, match="label_smoothing"):
        lk.losses.token_sums(tf.constant(LOGITS), tf.constant(TARGETS), WEIGHTS, 1.0)
