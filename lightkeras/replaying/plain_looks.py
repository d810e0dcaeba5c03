"""Looks at the update of a plain Keras model, before it is made."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lightkeras.data.batches import row_count
from lightkeras.replaying.layers import noting_outputs, summarize, to_statistics
from lightkeras.replaying.looks import Look, are_finite, as_graph
from lightkeras.replaying.origin import Origin, find_in_data, find_in_passes, find_in_weights
from lightkeras.replaying.rows import compute_rows
from lightkeras.training.optimizers import LOSS


def has_keras_step(model: keras.Model) -> bool:
    """Returns whether the model is trained by Keras' own step: rows of another one have no loss of their own."""
    return type(model).train_step is keras.Model.train_step


def look_at_model(model: keras.Model, batch: Any, eagerly: bool, keep: bool) -> Look:
    """Looks at an update of a model that Keras' own `train_step` makes; changes nothing but states of layers."""
    batch = _with_weights(batch)
    variables = model.trainable_variables
    shapes: dict[str, tuple] = {}

    def loss_of(batch: Any) -> tf.Tensor:
        x, y, weight = batch
        outputs = model(x, training=True) if _takes_training(model) else model(x)
        return model.compute_loss(x=x, y=y, y_pred=outputs, sample_weight=weight, training=True)

    def whole(batch):
        with noting_outputs() as outputs, tf.GradientTape() as tape:
            loss = loss_of(batch)
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        shapes.update({name: tuple(one.shape) for name, one in outputs.items()})
        found = {v.path: tf.convert_to_tensor(g) for v, g in zip(variables, gradients, strict=True) if g is not None}
        return loss, found, {name: summarize(one) for name, one in outputs.items()}, outputs if keep else {}

    def of_row(batch, hot):
        x, y, weight = batch
        with tf.GradientTape() as tape:
            hot = hot * tf.cast(tf.size(hot), hot.dtype)  # Keras divides by the rows
            loss = loss_of((x, y, keras.tree.map_structure(lambda one: _reweigh(one, hot), weight)))
            loss -= tf.add_n([tf.zeros(()), *model.losses])
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        norm = tf.linalg.global_norm([tf.convert_to_tensor(one) for one in gradients if one is not None])
        return {LOSS: tf.stack([tf.cast(loss, tf.float32), tf.cast(norm, tf.float32), tf.constant(1.0)])}

    def made(function: Callable) -> Callable:
        run = function if eagerly else as_graph(function)
        states = [variable for variable in model.variables if not variable.trainable]
        before = [np.array(one) for one in states]

        def call(*args):
            found = run(*args)
            for variable, value in zip(states, before, strict=True):
                variable.assign(value)
            return found

        return call

    def find_origin() -> Origin | None:
        known = find_in_data(batch) or find_in_weights(model.weights)
        return known or find_in_passes(lambda: [loss_of(batch)], variables)

    loss, gradients, summaries, outputs = made(whole)(batch)
    rows = compute_rows(made(of_row), batch)
    return Look(
        {LOSS: float(loss)}, rows, to_statistics(summaries, shapes),
        {path: np.asarray(one) for path, one in gradients.items()},
        {name: np.asarray(one) for name, one in outputs.items()},
        None if are_finite([loss, *gradients.values()]) else find_origin(),
    )  # fmt: skip


def _with_weights(batch: Any) -> tuple[Any, Any, Any]:
    x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
    count = row_count((x, y, None)) or tf.shape(keras.tree.flatten(x)[0])[0]
    return x, y, tf.ones([count]) if weight is None else keras.tree.map_structure(tf.convert_to_tensor, weight)


def _reweigh(weights: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    shape = tf.concat([tf.shape(factors), [1] * (weights.shape.rank - 1)], axis=0)
    return tf.cast(weights, factors.dtype) * tf.reshape(factors, shape)


def _takes_training(model: keras.Model) -> bool:
    return "training" in model.call.__code__.co_varnames if hasattr(model.call, "__code__") else True
