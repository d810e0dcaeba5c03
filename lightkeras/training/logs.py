"""Metric sums on the device, and Keras' logs that read them only when somebody looks."""

import functools
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from lightkeras.distribution.replicas import all_reduce_sum
from lightkeras.metrics import WeightedMean
from lightkeras.training.per_example import as_metrics
from lightkeras.training.step import pack


class Carried(Protocol):
    """The metrics that a loop carries from step to step, on the device.

    Attributes:
        kinds: What is known of each metric, by name.
        carried: A structure of tensors.
        values: What the metrics are computed from.
        non_finite: The first update whose loss was not a finite number, or -1, int64 (metrics,).
    """

    kinds: dict[str, Any]
    carried: Any
    values: tf.Tensor
    non_finite: tf.Tensor

    def reset(self) -> None:
        """Begins an epoch or evaluation."""

    def make(self, step: Callable[[Any], Any], batch: Any, carried: Any) -> Any:
        """Makes a step, and reduces what it returns over the replicas; called in the replica context, on every one."""

    def add(self, carried: Any, reduced: Any, update: tf.Tensor) -> Any:
        """Returns what is carried on after the update of this number, in the graph."""

    def results(self, values: Any) -> dict[str, Any]:
        """Returns the metrics by name."""

    def between(self, before: Any, values: Any) -> Any:
        """Returns the values of an interval: those at its begin (None: of the epoch) and its end are given."""

    def units(self) -> float:
        """Returns how much of what a task counts was seen in this epoch."""


class MetricSums:
    """Sums and weights of the metrics over many steps, kept on the device.

    Args:
        kinds: The class of every metric by name.

    Attributes:
        values: Sums and weights, float64 (metrics, 2).
        non_finite: The first update whose sum was not a finite number, or -1, int64 (metrics,).
    """

    def __init__(self, kinds: dict[str, type[WeightedMean]]):
        self.kinds = kinds
        self.reset()

    def reset(self) -> None:
        """Sets all sums to zero."""
        self.values = tf.zeros((len(self.kinds), 2), tf.float64)
        self.non_finite = tf.fill((len(self.kinds),), tf.constant(-1, tf.int64))

    @property
    def carried(self) -> tuple[tf.Tensor, tf.Tensor]:
        """The tensors that a loop carries from step to step."""
        return self.values, self.non_finite

    @carried.setter
    def carried(self, carried: tuple[tf.Tensor, tf.Tensor]) -> None:
        self.values, self.non_finite = carried

    def make(self, step: Callable[[Any], Any], batch: Any, carried: Any) -> tf.Tensor:
        """Makes a step, and adds up the sums of all replicas: float32 (metrics, 2)."""
        return all_reduce_sum(pack(as_metrics(step(batch), batch), self.kinds))

    def add(self, carried: tuple[tf.Tensor, tf.Tensor], reduced: tf.Tensor, update: tf.Tensor) -> tuple:
        """Adds the sums of a step, and notes the update if one of them is not finite."""
        values, non_finite = carried
        bad = ~tf.math.is_finite(reduced[:, 0]) & (non_finite < 0)
        return values + tf.cast(reduced, tf.float64), tf.where(bad, update, non_finite)

    def between(self, before: np.ndarray | None, values: np.ndarray) -> np.ndarray:
        """Subtracts the sums at the begin of an interval."""
        return values if before is None else values - before

    def units(self) -> float:
        """Returns the weight of the first loss in this epoch so far: what a task's `unit` counts."""
        return float(self.values.numpy()[0, 1])

    def results(self, values) -> dict[str, float]:
        """Divides sums (metrics, 2): `self.values`, or the difference of two such."""
        return {
            name: kind.from_sums(row).result() for (name, kind), row in zip(self.kinds.items(), values, strict=True)
        }


class Logs(dict):
    """Metric values by name, read from the device on the first look; then like any dict.

    Keys exist from the start. Copying or pickling gives a plain dict.
    """

    def __init__(self, sums: Carried):
        super().__init__(dict.fromkeys(sums.kinds))
        self._pending = (sums, sums.values)

    def _read(self) -> None:
        if self._pending:
            (sums, values), self._pending = self._pending, None
            super().update(sums.results(values.numpy()))

    def __reduce__(self):
        return dict, (dict(self),)


def _read_first(name: str):
    """Makes the method `name` of a dict that reads the values first."""
    method = getattr(dict, name)

    @functools.wraps(method)
    def read_first(self, *args, **kwargs):
        self._read()
        return method(self, *args, **kwargs)

    return read_first


for _name in (
    "__getitem__", "__setitem__", "__delitem__", "__iter__", "__reversed__", "__repr__", "__eq__", "__ne__", "__or__",
    "__ror__", "__ior__", "get", "items", "keys", "values", "copy", "update", "setdefault", "pop", "popitem", "clear",
):  # fmt: skip
    setattr(Logs, _name, _read_first(_name))
