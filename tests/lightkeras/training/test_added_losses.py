"""`add_loss` and `activity_regularizer`, beside Keras' own `fit` on one device."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.small import Small, in_order, made, points, updated, weights

CUTS = {
    "whole": {},
    "4 micro-batches": {"micro_batches": 4},
    "2 replicas": {"devices": 2},
    "2 replicas, 2 micro-batches": {"devices": 2, "micro_batches": 2},
}
every_cut = pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)


class Adding(keras.layers.Layer):
    """Adds the mean over the rows of the squared inputs, or the values of the rows."""

    def __init__(self, by_row=False):
        super().__init__()
        self.by_row = by_row

    def call(self, x):
        squares = tf.reduce_sum(x**2, axis=-1)
        self.add_loss(squares / 100 if self.by_row else tf.reduce_mean(squares) / 10)
        return x


def network(*layers):
    """Two dense layers, with regularizers of all kinds, around other layers."""
    start = keras.initializers.Constant(np.linspace(-1, 1, 9).reshape(3, 3))
    of_outputs = keras.regularizers.L1L2(0.01, 0.02)
    hidden = keras.layers.Dense(
        3, "tanh", kernel_initializer=start, activity_regularizer=of_outputs, kernel_regularizer="l2"
    )
    return keras.Sequential([keras.Input((3,)), hidden, *layers, keras.layers.Dense(1, kernel_initializer="ones")])


def losses_of(task, batch, training):
    return keras.losses.mean_squared_error(batch["y"][:, None], task.network(batch["x"], training=training))


def trained(layers, losses, arrays, train=None, run_eagerly=False, **cut):
    data = in_order(arrays, 8)
    task = made(Small(layers, losses, lambda: keras.optimizers.Adam(0.1), train), data, **cut)
    return task, updated(task, data, len(data), run_eagerly=run_eagerly)


def trained_by_keras(model, arrays):
    model.compile(keras.optimizers.Adam(0.1), loss="mse")
    history = model.fit(arrays["x"], arrays["y"][:, None], batch_size=8, shuffle=False, verbose=0)
    return history.history["loss"][0], model.evaluate(arrays["x"], arrays["y"][:, None], batch_size=8, verbose=0)


def assert_near(task, model):
    for value, other in zip(weights(task), model.get_weights(), strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-5, atol=1e-6)


@every_cut
def test_they_train_as_in_keras_with_a_short_last_batch(cut):
    arrays = points(21)
    task, logs = trained(lambda: {"network": network(Adding(by_row=True))}, losses_of, arrays, **cut)
    model = network(Adding(by_row=True))
    loss, evaluated = trained_by_keras(model, arrays)
    assert logs["loss"] == pytest.approx(loss, rel=1e-6)
    assert_near(task, model)
    kernel = model.layers[0].kernel
    ours = task.evaluate({name: arrays[name] for name in ("x", "y")}, batch_size=8, verbose=0)
    assert ours + float(kernel.regularizer(kernel)) == pytest.approx(evaluated, rel=1e-5)


@pytest.mark.parametrize("cut", list(CUTS.values())[1:3], ids=list(CUTS)[1:3])
def test_a_scalar_counts_as_the_mean_of_its_rows(cut):
    arrays = points(16)
    task, logs = trained(lambda: {"network": network(Adding())}, losses_of, arrays, **cut)
    model = network(Adding())
    assert logs["loss"] == pytest.approx(trained_by_keras(model, arrays)[0], rel=1e-6)
    assert_near(task, model)


def by_tokens(task, batch, training):
    """A loss that counts something else than rows, very unevenly."""
    tokens = batch["tokens"] * batch["weight"]
    return tf.reduce_sum(losses_of(task, batch, training) * tokens), tf.reduce_sum(tokens)


@pytest.mark.parametrize("cut", list(CUTS.values())[1:3], ids=list(CUTS)[1:3])
def test_the_rows_count_whatever_the_loss_counts(cut):
    arrays = points(21)
    layers = lambda: {"network": network(Adding(by_row=True))}  # noqa: E731
    whole, loss = trained(layers, by_tokens, arrays)
    task, logs = trained(layers, by_tokens, arrays, **cut)
    assert logs["loss"] == pytest.approx(loss["loss"], rel=1e-5)
    for value, other in zip(weights(task), weights(whole), strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-5, atol=1e-6)


def test_a_loss_function_can_leave_them_out_or_choose():
    def without(task, batch):
        return task.minimize(task.losses_of, batch, regularize=False)

    def chosen(task, batch, training):
        losses = losses_of(task, batch, training)
        return losses + tf.add_n(task.network.layers[1].losses)

    arrays = points(16)
    bare = network()
    bare.layers[0].activity_regularizer = bare.layers[0].kernel.regularizer = None
    task, logs = trained(lambda: {"network": network(Adding())}, losses_of, arrays, without)
    assert logs["loss"] == pytest.approx(trained_by_keras(bare, arrays)[0], rel=1e-6)
    some = network(Adding())
    some.layers[0].activity_regularizer = some.layers[0].kernel.regularizer = None
    task, logs = trained(lambda: {"network": network(Adding())}, chosen, arrays, without, micro_batches=2)
    assert logs["loss"] == pytest.approx(trained_by_keras(some, arrays)[0], rel=1e-6)
    assert_near(task, some)
    assert task.network.layers[0].activity_regularizer.l1 > 0  # put back


def test_of_several_optimizers_it_is_that_of_the_layer_around():
    def layers():
        return {"first": network(), "second": keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])}

    def losses(task, batch, training):
        return {f"{name}_loss": 0 * getattr(task, name)(batch["x"]) for name in ("first", "second")}

    def optimizers():
        return {name: keras.optimizers.SGD(0.1) for name in ("first", "second")}

    data = in_order(points(8))
    logs = updated(made(Small(layers, losses, optimizers), data), data)
    plain = network()
    plain(points(8)["x"])
    assert logs["first_loss"] == pytest.approx(float(sum(plain.losses)), rel=1e-6) and logs["second_loss"] == 0
    outside = lambda: {**layers(), "other": Adding()}  # noqa: E731
    task = Small(outside, lambda t, b, training: {**losses(t, b, training), "x": t.other(b["x"])}, optimizers)
    with pytest.raises(
        ValueError, match=r"layer `self\.NAME` of one of the optimizers first, second\. Received: .*adding"
    ):
        made(task, data)
