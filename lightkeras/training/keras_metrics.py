"""Keras' metrics in a task's steps: their states are tensors that the loop carries, as it carries sums.

A `keras.metrics.Metric` keeps its state in variables. Here `update_state`, called within a step, takes the state that
the loop carries and gives it back changed, by Keras' own `StatelessScope`. So training and evaluation have states of
their own, every replica has its part of a step, and a checkpoint holds one state, whatever the number of replicas.
"""

import contextlib
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lightkeras.distribution.replicas import num_replicas
from lightkeras.training.present_rows import without_padding
from lightkeras.utils import internals
from lightkeras.utils.checks import ArgumentError

State = list[tf.Tensor]  # in the order of the metric's variables


class Watched:
    """A metric whose state is that of a step while one is made, and else that of the loop that ran last.

    Args:
        metric: The metric. Its methods `update_state`, `result` and `reset_state` are replaced.

    Attributes:
        of_task: Whether it belongs to the task itself, and not to a layer.
        names: The names of its results, once `settle` was called.
        initial: Its state after a reset.
        live: Reads and sets the state outside of steps; None before the first.
    """

    of_task = True

    def __init__(self, metric: keras.metrics.Metric):
        self.metric = metric
        self.plain_update, self.plain_result = metric.update_state, metric.result
        self.plain_reset = metric.reset_state
        self.names: list[str] = []
        self.initial: list[np.ndarray] = []
        self.live: Any = None
        metric.update_state, metric.result, metric.reset_state = self.update_state, self.result, self.reset_state

    @property
    def direction(self) -> str | None:
        """The better direction, "min" or "max", where Keras knows it."""
        return internals.metric_direction(self.metric)

    def settle(self) -> None:
        """Finds out the state after a reset and the names of the results; the metric's variables exist now."""
        if self.names:
            return
        self.require_variables()
        with _at(Inside()), keras.StatelessScope() as scope:
            self.plain_reset()
        values = [(variable, scope.get_current_value(variable)) for variable in self.metric.variables]
        self.initial = [np.asarray(variable if value is None else value) for variable, value in values]
        self.names = list(self.results(self.initial))

    def results(self, state: Any) -> dict[str, float]:
        """Computes the results of a state by name: of a vector, `NAME_0`, `NAME_1`, ..."""
        result = self.result_of(state)
        named = result if isinstance(result, dict) else {self.metric.name: result}
        found = {}
        for name, value in named.items():
            array = np.asarray(value, np.float64)
            single = array.ndim == 0
            found |= {name: float(array)} if single else {f"{name}_{i}": float(v) for i, v in enumerate(array.ravel())}
        return found

    def result_of(self, state: Any) -> Any:
        """Returns what the metric's `result()` returns of a state."""
        with _at(Inside()), keras.StatelessScope(self._mapping(state)):
            return keras.tree.map_structure(tf.convert_to_tensor, self.plain_result())  # a variable is read here

    def updated(self, state: Any, args: tuple, kwargs: dict) -> State:
        """Returns the state after `update_state(*args, **kwargs)`."""
        with _at(Inside()), keras.StatelessScope(self._mapping(state)) as scope:
            self.plain_update(*args, **kwargs)
        return [tf.convert_to_tensor(scope.get_current_value(variable)) for variable in self.metric.variables]

    def _mapping(self, state: Any) -> list:
        return list(zip(self.metric.variables, state, strict=True))

    def require_variables(self) -> None:
        """Rejects a metric with state that no `StatelessScope` sees, or that replicas cannot add up."""
        hidden = [f"a tf.Variable, self.{name}" for name, v in vars(self.metric).items() if isinstance(v, tf.Variable)]
        if num_replicas(tf.distribute.get_strategy()) > 1:
            others = [v.name for v in self.metric.variables if v.aggregation != "sum"]
            hidden += [f"{name}, which replicas cannot add up" for name in others]
        if hidden:
            raise ArgumentError(
                f"Expected the metric {self.metric.name!r} to keep its state in variables that `add_variable` made, "
                f'with aggregation="sum". Received: {", ".join(hidden)}'
            )

    # ---- in place of the metric's methods

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Updates the state of the step, or outside of steps that of the loop that ran last."""
        if _local.place is not None:
            _local.place.update(self, args, kwargs)
        elif self.live and tf.executing_eagerly():
            self.live.set_state(self, self.updated(self.live.state(self), args, kwargs))
        else:
            self.plain_update(*args, **kwargs)

    def result(self) -> Any:
        """Returns the result of the step so far, or outside of steps that of the loop that ran last."""
        if _local.place is not None:
            return _local.place.result(self)
        return self.result_of(self.live.state(self)) if self.live else self.plain_result()

    def reset_state(self) -> None:
        """Resets the state, outside of steps that of the loop that ran last."""
        if _local.place is not None:
            _local.place.reset(self)
        elif self.live:
            self.live.set_state(self, self.initial)
        else:
            self.plain_reset()


# ---- where a metric's methods are called


class Inside:
    """Within a method of a metric of Keras: nothing is replaced."""

    def update(self, watched: Watched, args: tuple, kwargs: dict) -> None:
        watched.plain_update(*args, **kwargs)

    def result(self, watched: Watched) -> Any:
        return watched.plain_result()

    def reset(self, watched: Watched) -> None:
        watched.plain_reset()


class Prediction(Inside):
    """Within `predict_step`, where a metric of the task must not be updated, and one of a layer is not."""

    def update(self, watched: Watched, args: tuple, kwargs: dict) -> None:
        if watched.of_task:
            raise ArgumentError(
                "Expected metrics to be updated in a loss function, `train_step` or `test_step`. Received: "
                f"`update_state` of {watched.metric.name!r} in `predict_step`"
            )


class Discovery(Inside):
    """Within a step that is traced to find out which metrics it updates.

    Attributes:
        batch: What the metrics are updated by: a batch, or a part of it.
        found: The metrics, in their order.
    """

    def __init__(self, batch: Any):
        self.batch, self.found = batch, {}

    def update(self, watched: Watched, args: tuple, kwargs: dict) -> None:
        watched.require_variables()
        bound = without_padding(watched.metric, watched.plain_update, args, kwargs, self.batch)
        with _at(Inside()):
            watched.plain_update(*bound.args, **bound.kwargs)  # makes the variables, if they are not made yet
        self.found[watched] = True

    def reset(self, watched: Watched) -> None:
        raise ArgumentError(
            "Expected metrics to be reset where an epoch or evaluation begins, which happens by itself. Received: "
            f"`reset_state` of {watched.metric.name!r} within a step"
        )


class Updates(Discovery):
    """Within a step of a loop.

    Attributes:
        states: The states of the metrics that the step updates.
    """

    def __init__(self, batch: Any, states: dict[Watched, State]):
        super().__init__(batch)
        self.states = dict(states)

    def update(self, watched: Watched, args: tuple, kwargs: dict) -> None:
        if watched not in self.states:
            raise ArgumentError(
                "Expected a step to update the same metrics each time that it is traced. Received: another one, "
                f"{watched.metric.name!r}"
            )
        bound = without_padding(watched.metric, watched.plain_update, args, kwargs, self.batch)
        self.states[watched] = watched.updated(self.states[watched], bound.args, bound.kwargs)

    def result(self, watched: Watched) -> Any:
        return watched.result_of(self.states[watched]) if watched in self.states else watched.plain_result()


class _Local(threading.local):
    place: Any = None  # an `Inside`; None: outside of steps


_local = _Local()


@contextlib.contextmanager
def _at(place: Any) -> Iterator[Any]:
    """Calls of metrics in the `with` block are in this place."""
    before, _local.place = _local.place, place
    try:
        yield place
    finally:
        _local.place = before


def discovering(batch: Any) -> contextlib.AbstractContextManager[Discovery]:
    """Finds out which metrics the `with` block updates; it is traced on symbolic tensors."""
    return _at(Discovery(batch))


def updating(batch: Any, states: dict[Watched, State]) -> contextlib.AbstractContextManager[Updates]:
    """Updates the `states` in the `with` block, a step on `batch`."""
    return _at(Updates(batch, states))


def predicting() -> contextlib.AbstractContextManager[Prediction]:
    """Rejects updates of the task's metrics in the `with` block."""
    return _at(Prediction())


@contextlib.contextmanager
def of_part(batch: Any) -> Iterator[None]:
    """Metrics are updated in the `with` block by `batch`, a part of the step's."""
    place = _local.place
    if not isinstance(place, Discovery):
        yield
        return
    before, place.batch = place.batch, batch
    try:
        yield
    finally:
        place.batch = before


def step_states() -> list[tf.Tensor]:
    """Returns the present states of the step's metrics as a list, for a loop in the graph; empty outside of a step."""
    return tf.nest.flatten(list(_local.place.states.values())) if isinstance(_local.place, Updates) else []


def set_step_states(flat: list[tf.Tensor]) -> None:
    """Sets the states of the step's metrics to what `step_states` returned, or a loop made of it."""
    if isinstance(_local.place, Updates):
        states = _local.place.states
        packed = tf.nest.pack_sequence_as(list(states.values()), flat)
        _local.place.states = dict(zip(states, packed, strict=True))


def watch(task: keras.Model) -> None:
    """Watches every metric of a task, and of the layers in it."""
    own = internals.own_metrics(task)
    for metric in task.metrics:
        watched = watched_of(metric) or Watched(metric)
        watched.of_task = any(metric is one for one in own)


def watched_of(metric: keras.metrics.Metric) -> Watched | None:
    """Returns what watches a metric, if anything does."""
    owner = getattr(metric.update_state, "__self__", None)
    return owner if isinstance(owner, Watched) else None


def results_of(task: keras.Model) -> dict[str, float]:
    """Returns the results of the metrics by name, of the loops that ran last."""
    found = [watched_of(metric) for metric in task.metrics]
    return {
        name: value for one in found if one and one.live for name, value in one.results(one.live.state(one)).items()
    }


# ---- states as one tensor


def pack_states(states: dict[Watched, Any], of: Any) -> Any:
    """Packs states into pairs of numbers, float64 (pairs, 2): float64 holds what float32 and counts are, exactly.

    Args:
        states: The state of every metric.
        of: `np` or `tf`: what makes the arrays.
    """
    cast = np.asarray if of is np else tf.cast
    flat = [of.reshape(cast(value, of.float64), [-1]) for state in states.values() for value in state]
    odd = sum(value.size for one in states for value in one.initial) % 2
    flat = [*flat, of.zeros(odd, of.float64)]
    return of.reshape(np.concatenate(flat) if of is np else tf.concat(flat, axis=0), (-1, 2))


def unpack_states(packed: tf.Tensor, watched: Iterable[Watched]) -> dict[Watched, State]:
    """Unpacks what `pack_states` packed: the state of each of the metrics."""
    flat, begin, states = tf.reshape(packed, [-1]), 0, {}
    for one in watched:
        states[one] = []
        for value in one.initial:
            part = tf.reshape(flat[begin : begin + value.size], value.shape)
            states[one].append(tf.cast(part, value.dtype))
            begin += value.size
    return states
