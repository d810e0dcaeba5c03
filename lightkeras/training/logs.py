"""Metric sums on the device, and Keras' logs that read them only when somebody looks."""

import functools
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from lightkeras.distribution.replicas import all_reduce_sum
from lightkeras.metrics import WeightedMean
from lightkeras.training.keras_metrics import Watched, pack_states, unpack_states, updating
from lightkeras.training.logged import call
from lightkeras.training.step import pack
from lightkeras.utils.checks import ArgumentError


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
        raise NotImplementedError

    def between(self, before: Any, values: Any) -> Any:
        """Returns the values of an interval: those at its begin (None: of the epoch) and its end are given."""

    def units(self) -> float:
        """Returns how much of what a task counts was seen in this epoch."""
        raise NotImplementedError


class MetricSums:
    """The metrics of many steps, kept on the device: sums with weights, and the states of Keras' metrics.

    Args:
        sums: The class of every sum by name.
        watched: Keras' metrics.

    Attributes:
        kinds: The class of every sum, and the metric behind every result of Keras' metrics, by name.
        values: Sums and weights, and below them the states of Keras' metrics, float64 (rows, 2).
        non_finite: The first update whose sum was not a finite number, or -1, int64 (sums,).

    Raises:
        ArgumentError: Two metrics have a name.
    """

    def __init__(self, sums: dict[str, type[WeightedMean]], watched: Iterable[Watched] = ()):
        self.sums, self.watched = sums, tuple(watched)
        for one in self.watched:
            one.settle()
        results = [(name, one) for one in self.watched for name in one.names]
        _require_own_names([*sums, *(name for name, _ in results)])
        self.kinds: dict[str, Any] = {**sums, **dict(results)}
        self.reset()

    def like(self) -> "MetricSums":
        """Returns new metrics of the same kinds."""
        return MetricSums(self.sums, self.watched)

    def reset(self) -> None:
        """Begins an epoch or evaluation."""
        sums = np.zeros((len(self.sums), 2))
        self.carried = (
            tf.constant(np.concatenate([sums, pack_states({one: one.initial for one in self.watched}, np)])),
            tf.fill((len(self.sums),), tf.constant(-1, tf.int64)),
        )

    @property
    def carried(self) -> tuple[tf.Tensor, tf.Tensor]:
        """The tensors that a loop carries from step to step."""
        return self.values, self.non_finite

    @carried.setter
    def carried(self, carried: tuple[tf.Tensor, tf.Tensor]) -> None:
        self.values, self.non_finite = carried
        for one in self.watched:
            one.live = self

    def make(self, step: Callable[[Any], Any], batch: Any, carried: Any) -> list[tf.Tensor]:
        """Makes a step, and adds up the sums of all replicas: float32 (sums, 2); below them, the states after it."""
        if not self.watched:
            return [all_reduce_sum(pack(call(step, batch), self.sums))]
        before = carried[0][len(self.sums) :]
        alone = tf.distribute.get_replica_context().num_replicas_in_sync == 1
        initial = {one: [tf.constant(value) for value in one.initial] for one in self.watched}
        with updating(batch, unpack_states(before, self.watched) if alone else initial) as updates:
            sums = pack(call(step, batch), self.sums)
        after = pack_states(updates.states, tf)
        if alone:
            return [sums, after]
        sums, change = all_reduce_sum(
            [tf.cast(sums, tf.float64), after - pack_states(initial, tf)]
        )  # in one collective
        return [sums, before + change]

    def add(self, carried: tuple[tf.Tensor, tf.Tensor], reduced: list[tf.Tensor], update: tf.Tensor) -> tuple:
        """Adds the sums of a step, and notes the update if one of them is not finite."""
        (values, non_finite), (sums, *states) = carried, reduced
        bad = ~tf.math.is_finite(sums[:, 0]) & (non_finite < 0)
        added = (values[: len(self.sums)] if states else values) + tf.cast(sums, tf.float64)
        return tf.concat([added, *states], axis=0) if states else added, tf.where(bad, update, non_finite)

    def between(self, before: np.ndarray | None, values: np.ndarray) -> np.ndarray:
        """Subtracts the sums at the begin of an interval; states of Keras' metrics are of the epoch so far."""
        count = len(self.sums)
        return values if before is None else np.concatenate([values[:count] - before[:count], values[count:]])

    def units(self) -> float:
        """Returns the weight of the first loss in this epoch so far: what a task's `unit` counts."""
        return float(self.values.numpy()[0, 1])

    def results(self, values: np.ndarray) -> dict[str, float]:
        """Divides sums, and computes the results of Keras' metrics: of `self.values`, or of an interval."""
        found = {
            name: kind.from_sums(row).result() for (name, kind), row in zip(self.sums.items(), values, strict=False)
        }
        states = unpack_states(tf.constant(values[len(self.sums) :]), self.watched)
        return found | {name: value for one, state in states.items() for name, value in one.results(state).items()}

    def state(self, watched: Watched) -> list[tf.Tensor]:
        """Returns the present state of one of Keras' metrics."""
        return unpack_states(self.values[len(self.sums) :], self.watched)[watched]

    def set_state(self, watched: Watched, state: Any) -> None:
        """Sets the state of one of Keras' metrics."""
        count = len(self.sums)
        states = {**unpack_states(self.values[count:], self.watched), watched: state}
        self.values = tf.concat([self.values[:count], pack_states(states, tf)], axis=0)


def _require_own_names(names: list[str]) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise ArgumentError(
            "Expected every metric of a step, logged, returned or a keras.metrics.Metric, to have a name of its own. "
            f"Received: {', '.join(twice)} more than once. Keras' metrics take a `name`."
        )


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
