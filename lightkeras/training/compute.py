"""A call of a loss function on a batch or a part of it: what it returns, and what layers add."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from lightkeras.distribution.replicas import all_reduce_sum
from lightkeras.training import keras_metrics, logged
from lightkeras.training.added_losses import Added, added_losses, collecting, count_rows, names_of_losses
from lightkeras.training.per_example import LossFunction, Metrics


def parts_function(
    task: keras.Model, loss_function: LossFunction, batch: Any, training: bool, regularize: bool = True
) -> Callable[[Any], tuple[Metrics, Added]]:
    """Returns a function that computes the sums of a part of this replica's `batch`, and the losses that layers add."""

    def whole() -> tf.Tensor:
        return all_reduce_sum(count_rows(batch))

    return lambda part: compute(task, loss_function, part, whole, training, regularize)


def compute(
    task: keras.Model,
    loss_function: LossFunction,
    batch: Any,
    whole: Callable[[], tf.Tensor],
    training: bool,
    regularize: bool = True,
) -> tuple[Metrics, Added]:
    """Returns the sums of `loss_function(batch, training)`, and the losses that layers added meanwhile.

    Args:
        task: The task.
        loss_function: The loss function.
        batch: A part of the batch.
        whole: Counts the rows of the global batch that are no padding.
        training: Given to the loss function.
        regularize: Count what layers added.
    """
    with collecting(task, batch), keras_metrics.of_part(batch):
        metrics = logged.call(loss_function, batch, task, training=training)
    names = list(task.optimizers) or names_of_losses(metrics)
    return metrics, added_losses(task, batch, whole, names) if regularize else {}
