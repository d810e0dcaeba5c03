"""Looks at the updates within a step of a task: each call of `minimize`, before it is made."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from lightkeras.random.keys import keyed_draws, named_draws_only, split_draws
from lightkeras.replaying.layers import LayerStatistics, noting_outputs, summarize, to_statistics
from lightkeras.replaying.origin import Origin, find_in_data, find_in_passes, find_in_weights
from lightkeras.replaying.rows import RowValues, compute_rows, reweigh
from lightkeras.task import TaskModule
from lightkeras.training import keras_metrics, logged, step
from lightkeras.training.compute import parts_function
from lightkeras.training.optimizers import LOSS, loss_name
from lightkeras.training.per_example import as_metrics


@dataclasses.dataclass(frozen=True)
class Look:
    """One update of one or several optimizers, as it is about to be made.

    Attributes:
        losses: The loss of the whole batch by its name.
        rows: Losses and gradients of the rows.
        layers: What the layers return, in their order.
        gradients: The mean gradients by the path of the variable, before clipping.
        activations: What the layers return, by name; empty unless it is kept.
        origin: Where the first NaN or infinity arises; None where there is none.
    """

    losses: dict[str, float]
    rows: RowValues
    layers: list[LayerStatistics]
    gradients: dict[str, np.ndarray]
    activations: dict[str, np.ndarray]
    origin: Origin | None


def look_at_step(task: TaskModule, batch: Any, addresses: Any, eagerly: bool, keep: bool) -> list[Look]:
    """Makes the step of a task on one device, and looks at each update in it before it is made.

    Args:
        task: The task. Its state changes as by the step.
        batch, addresses: The whole batch.
        eagerly: Run it op by op.
        keep: Keep the activations.
    """
    looks: list[Look] = []
    original = task.minimize

    def minimize(loss_function: Callable, batch: Any, regularize: bool = True) -> Any:
        looker = _Looker(task, loss_function, regularize, eagerly)
        looks.append(looker.look(batch, keep))
        return looker.call(lambda batch: original(loss_function, batch, regularize), batch)

    with keyed_draws(addresses, task.seed, "train"), _replaced(task, minimize):
        logged.call(task.train_step, batch, task)
    return looks


@contextlib.contextmanager
def _replaced(task: TaskModule, minimize: Callable) -> Iterator[None]:
    """Puts a function in the place of the method `minimize`; Keras does not see it."""
    task.__dict__["minimize"] = minimize
    try:
        yield
    finally:
        del task.__dict__["minimize"]


class _Looker:
    def __init__(self, task: TaskModule, loss_function: Callable, regularize: bool, eagerly: bool):
        self.task, self.loss_function, self.regularize, self.eagerly = task, loss_function, regularize, eagerly
        self.within_part = split_draws(lambda addresses: addresses[None])
        self.states = [variable for variable in task.variables if not variable.trainable]

    # ---- calls as in a step

    def _made(self, function: Callable) -> Callable:
        """Returns a function that is called as a step calls it: within keyed draws, with metrics of its own."""
        initial = {one: one.initial for one in self.task.train_sums.watched}

        def run(*args):
            states = {one: [tf.constant(value) for value in values] for one, values in initial.items()}
            with self.within_part(0), keras_metrics.updating(args[0], states):
                return function(*args)

        return run if self.eagerly else as_graph(run)

    def call(self, function: Callable, batch: Any) -> Any:
        """Calls a function, which may change the task."""
        return self._made(function)(batch)

    def _aside(self, function: Callable) -> Callable:
        """Returns a function that leaves the task's states as they are."""
        made = self._made(function)

        def call(*args):
            with self._kept():
                return made(*args)

        return call

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        before = [np.array(variable) for variable in self.states]
        try:
            yield
        finally:
            for variable, value in zip(self.states, before, strict=True):
                variable.assign(value)

    # ---- what there is to see

    def look(self, batch: Any, keep: bool) -> Look:
        """Looks at the update that the loss function makes of a batch."""
        kinds: dict[str, bool] = {}
        shapes: dict[str, tuple] = {}

        def forward(batch):
            with noting_outputs() as outputs:
                raw = _named(self._raw(batch))
            kinds.update({name: not isinstance(value, tuple) for name, value in raw.items()})
            shapes.update({name: tuple(one.shape) for name, one in outputs.items()})
            return {name: summarize(one) for name, one in outputs.items()}, outputs if keep else {}

        summaries, outputs = self._aside(forward)(batch)
        losses, gradients = self._aside(self._differentiate)(batch)
        rows = compute_rows(self._aside(self._row_function(kinds, list(losses))), batch)
        return Look(
            {name: float(value) for name, value in losses.items()}, rows, to_statistics(summaries, shapes),
            {path: np.asarray(one) for path, one in gradients.items()},
            {name: np.asarray(one) for name, one in outputs.items()},
            None if are_finite([*losses.values(), *gradients.values()]) else self._find_origin(batch, list(losses)),
        )  # fmt: skip

    def _find_origin(self, batch: Any, names: list[str]) -> Origin | None:
        def forward() -> list[tf.Tensor]:
            raw = _named(self._raw(batch))
            return [sums.total for sums in as_metrics({name: raw[name] for name in names}, batch, self.task).values()]

        owners = {loss_name(name): name for name in self.task.optimizers}
        variables = [variable for name in names for variable in self.task.optimizers.variables(owners[name])]
        known = find_in_data(batch) or find_in_weights(self.task.weights)
        if known:
            return known
        states = {one: [tf.constant(value) for value in one.initial] for one in self.task.train_sums.watched}
        with self._kept(), self.within_part(0), keras_metrics.updating(batch, states):
            return find_in_passes(forward, variables)

    def _raw(self, batch: Any) -> Any:
        """Returns what the loss function returns, before anything is added up."""
        found = []

        def call(batch, training):
            found.append(self.loss_function(batch, training=training))
            return found[-1]

        logged.call(call, batch, self.task, training=True)
        return found[-1]

    def _differentiate(self, batch: Any) -> tuple[dict, dict]:
        """Returns the mean losses, and the mean gradients by the paths of the variables."""
        optimizers = self.task.optimizers
        function = parts_function(self.task, self.loss_function, batch, True, self.regularize)
        part = step.accumulate(function, batch, optimizers, self.regularize)
        losses, gradients = {}, {}
        for name, sums in part.gradients.items():
            loss, scale = part.metrics[loss_name(name)], optimizers.loss_scales.get(name)
            losses[loss_name(name)] = loss.total / loss.weight
            factor = 1.0 / (loss.weight * (scale.factor() if scale else 1.0))
            for variable, gradient in zip(optimizers.variables(name), sums, strict=True):
                if gradient is not None:
                    gradients[variable.path] = tf.cast(gradient, tf.float32) * factor
        return losses, gradients

    def _row_function(self, kinds: dict[str, bool], names: list[str]) -> Callable:
        optimizers = self.task.optimizers
        owners = {loss_name(name): name for name in optimizers}
        whole = all(kinds.get(name, False) for name in names)  # values per example: other rows may stay as they are

        def values_of_row(batch, hot):
            weighted = reweigh(batch, hot)
            with tf.GradientTape(persistent=True) as tape:
                raw = _named(self._raw(batch if whole else weighted))
                sums = as_metrics({name: raw[name] for name in names}, weighted, self.task)
            found = {}
            for name, (total, weight) in sums.items():
                scale = optimizers.loss_scales.get(owners[name])
                factor = scale.factor() if scale else tf.constant(1.0)
                variables = [variable.value for variable in optimizers.variables(owners[name])]
                with named_draws_only():
                    gradients = tape.gradient(total, variables, factor)
                dense = [tf.cast(tf.convert_to_tensor(one), tf.float32) for one in gradients if one is not None]
                norm = tf.linalg.global_norm(dense) / factor
                found[name] = tf.stack([total / weight, norm / weight, weight])
            return found

        return values_of_row


def are_finite(values: list[Any]) -> bool:
    """Returns whether all numbers are finite."""
    return all(np.isfinite(np.asarray(value)).all() for value in values)


def as_graph(function: Callable) -> Callable:
    """Compiles a function that is traced once: as a `partial`, it is not taken for one that is traced too often."""
    return tf.function(functools.partial(function), autograph=False)


def _named(outputs: Any) -> dict[str, Any]:
    return outputs if isinstance(outputs, dict) else {LOSS: outputs}
