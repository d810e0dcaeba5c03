"""What a loss function returns, as sums with weights: values per example, (sum, weight), or a dict of these."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from lightkeras.data.batches import weights_of
from lightkeras.metrics import WeightedMean
from lightkeras.training.optimizers import LOSS
from lightkeras.utils.checks import ArgumentError, lightkeras_error

Metrics = dict[str, WeightedMean]
LossFunction = Callable[..., Any]  # (batch, training) -> what `as_metrics` takes
WAYS = (
    "Expected a loss function to return values per example (a tensor whose first axis is the batch), or "
    "(sum, weight), or a dict of these by name."
)
BEFORE_THE_MEAN = "Return the values before their mean: keras.losses functions, and objects with reduction=None, do so"


def as_metrics(outputs: Any, batch: Any, owner: Any = None) -> Metrics:
    """Names the outputs of a loss function, and adds them up: outputs without names are the loss.

    Values per example are float32 or cast to it, of shape (rows,) or (rows, ...): the mean is taken over the further
    axes, as Keras does. They are multiplied by the weights of the batch's rows; what a row of weight 0 has counts for
    nothing, be it NaN.

    Args:
        outputs: Values per example, (sum, weight), or a dict of these by name.
        batch: The batch that they were computed from.
        owner: The task, whose `keras.losses` are named where one of them is the reason of an error.

    Raises:
        TypeError: An output is none of these: a bare scalar, for example.
        ValueError: A sum or a weight is not a scalar, or values have another number of rows than the batch.
    """
    named = outputs if isinstance(outputs, dict) else {LOSS: outputs}
    return {name: _as_sums(name, value, batch, owner) for name, value in named.items()}


def _as_sums(name: str, value: Any, batch: Any, owner: Any) -> WeightedMean:
    if _is_pair(value):
        return _as_float32(name, value)
    if isinstance(value, keras.metrics.Metric):
        raise lightkeras_error(TypeError)(
            f"{WAYS} Received: {name}={value!r}. A metric that is an attribute of the task is logged by itself."
        )
    if not isinstance(value, tf.Tensor):
        raise lightkeras_error(TypeError)(f"{WAYS} Received: {name}={value!r}")
    if value.shape.rank == 0:
        found = f"Received: {name}=a scalar of {value.dtype.name}. {BEFORE_THE_MEAN}{_reduced_losses(owner)}."
        raise lightkeras_error(TypeError)(f"{WAYS} {found}")
    weights = weights_of(batch)
    if not tf.is_tensor(weights):
        raise lightkeras_error(TypeError)(
            "Expected one weight for each row of a batch, beside values per example. Received: weights "
            f"{weights!r}. Return {name} as (sum, weight)."
        )
    return sum_rows(name, value, weights)


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2


def _as_float32(name: str, value: tuple) -> WeightedMean:
    kind = type(value) if isinstance(value, WeightedMean) else WeightedMean
    total, weight = (tf.cast(part, tf.float32) for part in value)
    if total.shape.rank or weight.shape.rank:
        raise ArgumentError(
            "Expected a pair from a loss function to be (sum, weight), two scalars: return values per example without "
            f"their weights, or reduce both by a sum. Received: {name} with shapes {total.shape} and {weight.shape}"
        )
    return kind(total, weight)


def sum_rows(name: str, values: tf.Tensor, weights: tf.Tensor) -> WeightedMean:
    """Adds up values (rows, ...) by the weights of the rows (rows,), or by weights with more axes of the values."""
    axes = weights.shape.rank
    values, weights = tf.cast(values, tf.float32), tf.cast(weights, tf.float32)
    if (values.shape.rank or axes) < axes or not values.shape[:axes].is_compatible_with(weights.shape):
        raise ArgumentError(
            f"Expected `{name}` of a loss function to have a value for each of the {weights.shape[0]} rows of the "
            f"batch, whose weights have the shape {weights.shape}. Received: {name} with shape {values.shape}"
        )
    if values.shape.rank != axes:
        values = tf.reduce_mean(tf.reshape(values, tf.concat([tf.shape(values)[:axes], [-1]], axis=0)), axis=axes)
    values = tf.ensure_shape(values, weights.shape)
    return WeightedMean(tf.reduce_sum(tf.math.multiply_no_nan(values, weights)), tf.reduce_sum(weights))


def _reduced_losses(owner: Any) -> str:
    """Names the task's `keras.losses` objects that take a mean: `" (self.loss_object has reduction='mean')"`."""
    objects = (
        {name: value for name, value in vars(owner).items() if isinstance(value, keras.losses.Loss)} if owner else {}
    )
    reduced = [
        f"self.{n} has reduction={o.reduction!r}" for n, o in objects.items() if o.reduction not in (None, "none")
    ]
    return f" ({', '.join(reduced)})" if reduced else ""
