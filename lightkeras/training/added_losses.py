"""Losses that layers add: `add_loss` and `activity_regularizer`, counted as Keras counts them on a whole batch.

A scalar is a mean over the rows that the layer saw: those of micro-batches and replicas are averaged by their rows. Of
values per row, Keras takes the sum.
"""

import contextlib
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import tensorflow as tf

from lightkeras.training.optimizers import LOSS
from lightkeras.training.present_rows import has_rows, present_rows
from lightkeras.utils import internals
from lightkeras.utils.checks import ArgumentError

Added = dict[str, tf.Tensor]  # by optimizer name; those of all parts add up


class _Local(threading.local):
    present: tf.Tensor | None = None


_local = _Local()


class OfPresentRows:
    """An activity regularizer of the rows that are no padding; Keras divides its sum by the number of all rows."""

    def __init__(self, plain: Any):
        self.plain, self.users = plain, 0

    def __call__(self, outputs: tf.Tensor) -> tf.Tensor:
        present = _local.present
        if present is None or not has_rows(outputs, present):
            return self.plain(outputs)
        kept = tf.reshape(present, tf.concat([tf.shape(present), [1] * (outputs.shape.rank - 1)], axis=0))
        loss = self.plain(tf.where(kept, outputs, tf.zeros_like(outputs)))
        return tf.math.divide_no_nan(loss * tf.cast(tf.size(present), loss.dtype), _count(present, loss.dtype))


@contextlib.contextmanager
def collecting(task: keras.Model, batch: Any) -> Iterator[None]:
    """Layers of a task add losses in the `with` block, of a part of a batch."""
    internals.clear_losses(task)
    layers = [layer for layer in internals.flatten_layers(task) if layer.activity_regularizer is not None]
    for layer in layers:  # threads of other replicas may be within
        if not isinstance(layer.activity_regularizer, OfPresentRows):
            layer.activity_regularizer = OfPresentRows(layer.activity_regularizer)
        layer.activity_regularizer.users += 1
    before, _local.present = _local.present, present_rows(batch) if layers else None
    try:
        yield
    finally:
        _local.present = before
        for layer in layers:
            layer.activity_regularizer.users -= 1
            if not layer.activity_regularizer.users:
                layer.activity_regularizer = layer.activity_regularizer.plain


def added_losses(task: keras.Model, batch: Any, whole: Any, names: Iterable[str]) -> Added:
    """Returns what layers added, as parts of the sum over the global batch, by the optimizer that it belongs to.

    Args:
        task: The task.
        batch: The part of the batch that the layers saw.
        whole: Returns the rows of the global batch that are no padding: float32 ().
        names: The names of the optimizers.

    Raises:
        ArgumentError: A layer that adds a loss belongs to none of several optimizers.
    """
    found = [(layer, loss) for layer in internals.flatten_layers(task) for loss in internals.added_losses(layer)]
    added: Added = {}
    for layer, loss in found:  # all are read by now: `whole` waits for other replicas, which use the same layers
        name = _owner(task, layer, list(names))
        added[name] = added.get(name, 0.0) + _share(tf.cast(loss, tf.float32), present_rows(batch), whole)
    return added


def _share(loss: tf.Tensor, present: tf.Tensor, whole: Any) -> tf.Tensor:
    if has_rows(loss, present):
        rows = tf.reduce_sum(tf.reshape(loss, (tf.size(present), -1)), axis=1)
        return tf.reduce_sum(tf.where(present, rows, tf.zeros_like(rows)))
    return tf.math.multiply_no_nan(tf.reduce_sum(loss), tf.math.divide_no_nan(_count(present), whole()))


def count_rows(batch: Any) -> tf.Tensor:
    """Counts the rows of a batch that are no padding: float32 ()."""
    return _count(present_rows(batch))


def _count(present: tf.Tensor, dtype: Any = tf.float32) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(present, dtype))


def _owner(task: keras.Model, layer: keras.layers.Layer, names: list[str]) -> str:
    """Returns the optimizer that an added loss is for: the only one, or that of the layer `self.NAME` around it."""
    if len(names) == 1:
        return names[0]
    for name in names:
        around = getattr(task, name, None)
        if isinstance(around, keras.layers.Layer) and layer in internals.flatten_layers(around):
            return name
    raise ArgumentError(
        "Expected a layer that adds a loss to lie in the layer `self.NAME` of one of the optimizers "
        f"{', '.join(names)}. Received: {layer.path or layer.name}. Return the loss from the loss function, and call "
        "`self.minimize` and `self.evaluate_loss` with regularize=False."
    )


def names_of_losses(metrics: Iterable[str]) -> list[str]:
    """Returns the names that optimizers have by the names of the losses; all of them where no loss has a name."""
    return [LOSS] if LOSS in metrics else [name.removesuffix("_loss") for name in metrics if name.endswith("_loss")]
