"""A call of a loss function on a batch or a part of it: what it returns, and what layers add."""

from typing import Any

import keras

from lightkeras.training import keras_metrics
from lightkeras.training.per_example import LossFunction, Metrics, as_metrics
from lightkeras.utils import internals
from lightkeras.utils.checks import ArgumentError


def compute(task: keras.Model, loss_function: LossFunction, batch: Any, training: bool) -> Metrics:
    """Returns the sums of `loss_function(batch, training)`."""
    internals.clear_losses(task)
    with keras_metrics.of_part(batch):
        outputs = loss_function(batch, training=training)
    metrics = as_metrics(outputs, batch, task)
    adding = [layer.path or layer.name for layer in internals.flatten_layers(task) if internals.added_losses(layer)]
    if adding:
        raise ArgumentError(
            "Expected every loss to be returned by the loss function, as a sum beside its weight. Received: "
            f"`add_loss` or `activity_regularizer` in {', '.join(adding)}"
        )
    return metrics
