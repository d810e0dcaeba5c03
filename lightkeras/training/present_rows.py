"""Padding kept out of Keras' metrics: the rows of weight 0 of a batch do not count in an update."""

import functools
import inspect
from typing import Any

import keras
import tensorflow as tf

from lightkeras.data.batches import weights_of


def present_rows(batch: Any) -> tf.Tensor:
    """Returns which rows of a batch have a weight other than 0: bool (rows,)."""
    parts = [tf.reshape(part, (tf.shape(part)[0], -1)) for part in keras.tree.flatten(weights_of(batch))]
    return functools.reduce(tf.logical_or, [tf.reduce_any(part != 0, axis=1) for part in parts])


def without_padding(
    metric: keras.metrics.Metric, update: Any, args: tuple, kwargs: dict, batch: Any
) -> inspect.BoundArguments:
    """Returns the arguments of `update(*args, **kwargs)`, such that padding changes nothing.

    Keras' metrics get a `sample_weight` of 0 for rows of padding, and of 1 for the others where none is given. From the
    arguments of a metric with an `update_state` of its own, which may ignore weights, the rows are taken out. A scalar
    that a `Mean` gets without a weight counts for the rows of the batch that are no padding.
    """
    bound = inspect.signature(update).bind(*args, **kwargs)
    present, given = present_rows(batch), bound.arguments
    by_keras = type(metric).update_state.__module__.startswith("keras.")
    if not by_keras or "sample_weight" not in bound.signature.parameters:
        given.update({name: _take(value, present) for name, value in given.items()})
        return bound
    first = next(iter(given))
    target, weight = tf.convert_to_tensor(given[first]), given.get("sample_weight")
    if weight is not None:
        given["sample_weight"] = _zero(tf.convert_to_tensor(weight), present)
    elif target.shape.rank == 0 and isinstance(metric, keras.metrics.Mean):
        count = tf.reduce_sum(tf.cast(present, metric.dtype))
        given.update({first: tf.where(count > 0, target, tf.zeros_like(target)), "sample_weight": count})
    elif has_rows(target, present):
        given["sample_weight"] = _ones(metric, target, present)
    return bound


def has_rows(value: Any, present: tf.Tensor) -> bool:
    """Returns whether the first axis of a tensor is the rows of the batch."""
    return tf.is_tensor(value) and bool(value.shape.rank) and value.shape[:1].is_compatible_with(present.shape)


def _take(value: Any, present: tf.Tensor) -> Any:
    """Takes the rows that are present out of every tensor in `value` that has the batch's rows."""

    def take(one: Any) -> Any:
        return tf.boolean_mask(one, present) if has_rows(one, present) else one

    return keras.tree.map_structure(take, value)


def _zero(weight: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
    if not has_rows(weight, present):
        return weight
    return tf.where(_along(present, weight), weight, tf.zeros_like(weight))


def _ones(metric: keras.metrics.Metric, target: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
    """Returns weights of 1 and 0: one a row, or one an element where the metric flattens its arguments."""
    if isinstance(metric, keras.metrics.IoU):
        target = target if metric.sparse_y_true else tf.reduce_max(target, axis=metric.axis)
    elif target.shape.rank <= 2 or isinstance(metric, keras.metrics.Mean):
        return tf.cast(present, metric.dtype)
    return tf.cast(tf.broadcast_to(_along(present, target), tf.shape(target)), metric.dtype)


def _along(present: tf.Tensor, tensor: tf.Tensor) -> tf.Tensor:
    """Gives `present` as many axes as `tensor` has."""
    return tf.reshape(present, tf.concat([tf.shape(present), [1] * (tensor.shape.rank - 1)], axis=0))
