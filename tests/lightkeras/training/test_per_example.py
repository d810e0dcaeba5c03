"""Losses as values per example, beside Keras' own `compile` and `fit` on one device."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.small import Small, in_order, linear, made, points, updated, weights

import lightkeras as lk
from lightkeras.training.per_example import as_metrics

CUTS = {
    "whole": {},
    "eager": {"run_eagerly": True},
    "4 micro-batches": {"micro_batches": 4},
    "2 replicas, 2 micro-batches": {"devices": 2, "micro_batches": 2},
}
every_cut = pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)


def network():
    """Logits of three classes, with initial weights that are always the same."""
    start = keras.initializers.Constant(np.linspace(-1, 1, 9).reshape(3, 3))
    return keras.layers.Dense(3, kernel_initializer=start)


def examples(size: int):
    arrays = points(size)
    return {"x": arrays["x"], "y": (arrays["tokens"] > 1).astype("int32") + (arrays["y"] > 0)}


def trained_by_keras(arrays, loss, epochs=1, batch_size=8):
    model = keras.Sequential([network()])
    model.compile(keras.optimizers.Adam(0.1), loss=loss)
    history = model.fit(arrays["x"], arrays["y"], batch_size=batch_size, shuffle=False, verbose=0, epochs=epochs)
    return model.get_weights(), history.history["loss"][-1]


def trained(losses, arrays, batch_size=8, run_eagerly=False, **cut):
    """As many updates as the data has batches; the last one is short, and padded."""
    data = in_order(arrays, batch_size)
    task = made(Small(lambda: {"network": network()}, losses, lambda: keras.optimizers.Adam(0.1)), data, **cut)
    logs = updated(task, data, len(data), run_eagerly=run_eagerly)
    return task, weights(task), logs["loss"]


def cross_entropy(task, batch, training):
    return keras.losses.sparse_categorical_crossentropy(batch["y"], task.network(batch["x"]), from_logits=True)


@every_cut
def test_a_function_of_keras_losses_trains_as_in_keras(cut):
    arrays = examples(21)
    _, ours, loss = trained(cross_entropy, arrays, **cut)
    theirs, expected = trained_by_keras(arrays, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert loss == pytest.approx(expected, rel=1e-6)
    for value, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cut", [CUTS["whole"], CUTS["4 micro-batches"]], ids=["whole", "4 micro-batches"])
def test_objects_without_a_reduction_and_further_axes_train_as_in_keras(cut):
    arrays = {**examples(21), "y": np.random.default_rng(1).normal(size=(21, 3, 2)).astype("float32")}

    def losses(task, batch, training):
        """Squared errors (rows, 3): the mean over the further axis is Keras'."""
        made = tf.stack([task.network(batch["x"])] * 2, axis=-1)
        return {"loss": keras.losses.MeanSquaredError(reduction=None)(batch["y"], made)}

    class Stacked(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return tf.reduce_mean(tf.square(y_true - tf.stack([y_pred] * 2, axis=-1)), axis=-1)

    _, ours, loss = trained(losses, arrays, **cut)
    theirs, expected = trained_by_keras(arrays, Stacked())
    assert loss == pytest.approx(expected, rel=1e-6)
    for value, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-5, atol=1e-6)


def test_batches_of_one_row_are_no_scalars():
    arrays = examples(5)
    _, ours, loss = trained(cross_entropy, arrays, batch_size=1)
    loss_object = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    theirs, expected = trained_by_keras(arrays, loss_object, batch_size=1)
    assert loss == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5, atol=1e-6)


@every_cut
def test_a_mix_of_the_forms_is_averaged_by_the_weights_of_each(cut):
    arrays = points(5)
    run_eagerly = cut.get("run_eagerly", False)
    cut = {name: value for name, value in cut.items() if name != "run_eagerly"}

    def losses(task, batch, training):
        error = task.network(batch["x"])[:, 0] - batch["y"]
        tokens = batch["tokens"] * batch["weight"]
        return {
            "loss": (tf.reduce_sum(tokens * error**2), tf.reduce_sum(tokens)),
            "rows": error**2,
            "right": error > 0,
            "half": tf.cast(error, tf.float16),
            "perplexity": lk.metrics.Perplexity(tf.reduce_sum(tokens * error**2), tf.reduce_sum(tokens)),
        }

    data = in_order(arrays, 8)
    task = made(Small(linear(), losses), data, **cut)
    logs = updated(task, data, run_eagerly=run_eagerly)
    error = arrays["x"] @ np.array([0.1, 0.2, 0.3], np.float32) - arrays["y"]
    mean = np.average(error**2, weights=arrays["tokens"])
    expected = {"loss": mean, "rows": np.mean(error**2), "right": np.mean(error > 0), "perplexity": np.exp(mean)}
    assert {name: logs[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert logs["half"] == pytest.approx(np.mean(error), abs=5e-3)


def test_values_of_rows_without_weight_count_for_nothing_be_they_nan():
    batch = {"x": tf.zeros((3, 2)), "weight": tf.constant([1.0, 0.0, 2.0])}
    values = tf.constant([[1.0, 3.0], [np.nan, np.inf], [5.0, 7.0]])
    sums = as_metrics(values, batch)["loss"]
    assert (float(sums.total), float(sums.weight)) == (2 + 2 * 6, 3)
    weighed = {**batch, "weight": tf.constant([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])}
    sums = as_metrics(values, weighed)["loss"]  # weights of time steps
    assert (float(sums.total), float(sums.weight)) == (1 + 5 + 7, 3)
    sums = as_metrics({"kl": tf.constant([4, 5, 6])}, (None, None, tf.constant([1.0, 0.0, 0.5])))["kl"]
    assert (float(sums.total), float(sums.weight)) == (7, 1.5)


def test_rows_that_are_known_only_at_run_time_are_counted():
    @tf.function(input_signature=[tf.TensorSpec((None,)), tf.TensorSpec((None,))], jit_compile=False)
    def total(values, weight):
        return as_metrics(values, {"weight": weight})["loss"].total

    assert float(total(tf.constant([1.0, 2.0]), tf.constant([1.0, 2.0]))) == 5


def test_it_compiles_with_xla():
    function = tf.function(
        lambda values, weight: as_metrics(values, {"weight": weight})["loss"].total, jit_compile=True
    )
    assert float(function(tf.constant([1.0, np.nan]), tf.constant([2.0, 0.0]))) == 2


@pytest.mark.parametrize(
    "returned, error, message",
    [
        (lambda task, batch: tf.ones(7), ValueError, r"each of the 8 rows of the batch.*loss with shape \(7,\)"),
        (lambda task, batch: tf.ones((3, 8)), ValueError, r"Received: loss with shape \(3, 8\)"),
        (lambda task, batch: [1.0] * 8, TypeError, r"values per example.*Received: loss=\[1\.0"),
        (lambda task, batch: None, TypeError, "Received: loss=None"),
        (lambda task, batch: task.mean, TypeError, "Received: loss=.*mean_squared_error"),
        (
            lambda task, batch: task.mean(batch["y"], batch["y"]), TypeError,
            r"a scalar of float32\. Return the values before their mean: .*reduction=None, do so "
            r"\(self\.mean has reduction='sum_over_batch_size'\)",
        ),
        (lambda task, batch: {"loss": tf.ones(8), "a": {"b": tf.ones(8)}}, TypeError, r"Received: a=\{'b'"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_is_named(returned, error, message):
    class WithLosses(Small):
        def configure_model(self, data):
            super().configure_model(data)
            self.mean, self.fine = keras.losses.MeanSquaredError(), keras.losses.MeanSquaredError(reduction="none")

    with pytest.raises(error, match=message):
        made(WithLosses(linear(), lambda task, batch, training: returned(task, batch)), in_order(points()))


def test_weights_of_several_outputs_want_sums():
    batch = (tf.zeros((2, 1)), None, {"a": tf.ones(2), "b": tf.ones(2)})
    with pytest.raises(
        TypeError, match=r"one weight for each row.*Received: weights \{'a'.*Return kl as \(sum, weight"
    ):
        as_metrics({"kl": tf.ones(2)}, batch)
    with pytest.raises(ValueError, match=r"weights have the shape \(2, 3\)\. Received: kl with shape \(2,\)"):
        as_metrics({"kl": tf.ones(2)}, {"weight": tf.ones((2, 3))})
