"""Values that `self.log` adds to the metrics of a step, or of the part of a batch that a loss function computes."""

import threading
from collections.abc import Callable
from typing import Any, NoReturn

import keras
import tensorflow as tf

from lightkeras.data.batches import weights_of
from lightkeras.metrics import WeightedMean
from lightkeras.training.per_example import Metrics, as_metrics
from lightkeras.utils.checks import ArgumentError, lightkeras_error
from lightkeras.utils.lightning import reject_arguments

OF_LIGHTNING: dict[str, str] = dict.fromkeys(
    ("prog_bar", "logger", "on_step", "on_epoch", "reduce_fx", "sync_dist", "batch_size", "rank_zero_only"),
    "every value is logged and shown, as the exact mean of an interval and of the epoch",
)


class _Local(threading.local):
    open: "list[tuple[Any, Metrics]]"

    def __init__(self):
        self.open = []  # the batch and the values of each step or part that is being computed


_local = _Local()


class Logging:
    """The method of Lightning's by which a loss function or a step adds metrics."""

    def log(self, name: str, value: Any, **of_lightning: Any) -> None:
        """Adds a metric: in a loss function, `train_step` or `test_step`, as if it were returned with the loss.

        Args:
            name: Its name.
            value: Values per example, or (sum, weight), or a scalar: the mean over the rows that the loss function was
                given (a micro-batch, a replica's part), which counts by the sum of their weights.
            of_lightning: Raises a TypeError that says why Lightning's other arguments are not needed.

        Raises:
            TypeError: The value is something else.
            ArgumentError: There is no step, or it has a metric of this name already.
        """
        reject_arguments(of_lightning, (), OF_LIGHTNING)
        if of_lightning:
            raise lightkeras_error(TypeError)(f"Expected `log(name, value)`. Received: {', '.join(of_lightning)}")
        if not _local.open:
            raise ArgumentError(
                "Expected `log` to be called in a loss function, `train_step` or `test_step`. Received: "
                f"{name!r} elsewhere. A callback adds to the logs that its hooks are given."
            )
        batch, logged = _local.open[-1]
        if name in logged:
            _reject_twice(name)
        logged[name] = _of_rows(value, batch) if _is_scalar(value) else as_metrics({name: value}, batch, self)[name]


def call(function: Callable[..., Any], batch: Any, owner: Any = None, **kwargs: Any) -> Metrics:
    """Returns the sums of what `function(batch, **kwargs)` returns and logs."""
    logged: Metrics = {}
    _local.open.append((batch, logged))
    try:
        outputs = function(batch, **kwargs)
    finally:
        _local.open.pop()
    metrics = as_metrics(outputs, batch, owner)
    for name in logged.keys() & metrics.keys():
        _reject_twice(name)
    return {**metrics, **logged}


def _is_scalar(value: Any) -> bool:
    return isinstance(value, int | float) or (tf.is_tensor(value) and value.shape.rank == 0)


def _of_rows(value: Any, batch: Any) -> WeightedMean:
    """Counts a scalar as the mean of the rows: by the sum of their weights; not at all where that is 0."""
    weight = tf.add_n([tf.reduce_sum(part) for part in keras.tree.flatten(weights_of(batch))])
    return WeightedMean(tf.math.multiply_no_nan(tf.cast(value, tf.float32), weight), weight)


def _reject_twice(name: str) -> NoReturn:
    raise ArgumentError(f"Expected every name to be logged or returned once in a step. Received: {name!r} twice")
