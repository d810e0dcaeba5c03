"""`self.log` in loss functions and steps: the exact means, however the run is cut."""

import numpy as np
import pytest
import tensorflow as tf
from helpers.small import Small, in_order, linear, made, points, updated

import lightkeras as lk

CUTS = {"whole": {}, "4 micro-batches": {"micro_batches": 4}, "2 replicas": {"devices": 2}}


def losses_of(task, batch, training):
    error = task.network(batch["x"])[:, 0] - batch["y"]
    weight, tokens = batch["weight"], batch["weight"] * batch["tokens"]
    task.log("squares", error**2)
    task.log("by_tokens", (tf.reduce_sum(tokens * error**2), tf.reduce_sum(tokens)))
    task.log("mean", tf.math.divide_no_nan(tf.reduce_sum(weight * error**2), tf.reduce_sum(weight)))
    if training:
        task.log("in_training", 2.5)
    return error**2


def train(task, batch):
    task.log("rows", tf.ones_like(batch["y"]))
    return task.minimize(task.losses_of, batch)


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_what_is_logged_is_exact(cut):
    arrays = points(13)
    data = in_order(arrays, 8)
    task = made(Small(linear(), losses_of, train=train), data, **cut)
    task.optimizers["loss"].learning_rate.assign(0.0)
    logs = dict(updated(task, data, 2))
    squares = (arrays["x"] @ np.array([0.1, 0.2, 0.3], np.float32) - arrays["y"]) ** 2
    mean = np.mean(squares)
    by_tokens = np.average(squares, weights=arrays["tokens"])
    expected = {"squares": mean, "mean": mean, "by_tokens": by_tokens, "in_training": 2.5, "rows": 1.0, "loss": mean}
    assert logs == pytest.approx(expected, rel=1e-5)
    del expected["rows"], expected["in_training"]
    assert task.evaluate(arrays, batch_size=8, verbose=0, return_dict=True) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "log, error, message",
    [
        (lambda t: t.log("a", 1.0, prog_bar=True), TypeError, "no argument `prog_bar`: every value is logged"),
        (lambda t: t.log("a", 1.0, often=True), TypeError, r"Expected `log\(name, value\)`\. Received: often"),
        (lambda t: [t.log("a", 1.0), t.log("a", 2.0)], ValueError, "once in a step. Received: 'a' twice"),
        (lambda t: t.log("loss", 1.0), ValueError, "once in a step. Received: 'loss' twice"),
        (lambda t: t.log("a", tf.ones(3)), ValueError, r"a with shape \(3,\)"),
        (lambda t: t.log("a", lk.TaskModule), TypeError, "Received: a=<class"),
    ],
)
def test_what_cannot_be_logged_is_refused_before_training(log, error, message):
    def losses(task, batch, training):
        log(task)
        return task.network(batch["x"])[:, 0]

    with pytest.raises(error, match=message):
        made(Small(linear(), losses), in_order(points()))


def test_there_is_nothing_to_log_outside_of_a_step():
    with pytest.raises(ValueError, match=r"loss function, `train_step` or `test_step`\. Received: 'a' elsewhere"):
        Small(linear(), losses_of).log("a", 1.0)
