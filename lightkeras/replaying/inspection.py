"""Executes an update of a run again, and collects all that a person wants to see of it."""

import dataclasses
import os
import tempfile
from collections.abc import Iterable
from typing import Any

import numpy as np

from lightkeras.checkpoint import save_checkpoint
from lightkeras.data.batches import row_count
from lightkeras.distribution.replicas import num_replicas
from lightkeras.preview.examples import examples_of
from lightkeras.replaying.comparison import Compared, compare
from lightkeras.replaying.looks import Look, look_at_step
from lightkeras.replaying.moment import Journey, Moment, as_given, quietly
from lightkeras.replaying.plain_looks import has_keras_step, look_at_model
from lightkeras.replaying.recorded import Recorded
from lightkeras.replaying.traveller import Traveller
from lightkeras.replaying.without import leaving_out, require_rows
from lightkeras.runs import state
from lightkeras.task import TaskModule
from lightkeras.training.precision import use_precision
from lightkeras.utils import internals
from lightkeras.utils.checks import require_int


@dataclasses.dataclass(frozen=True)
class VariableUpdate:
    """What an update did to a variable: norms of the weights before it, of the mean gradient before clipping (None
    where there is none), and of the change."""

    path: str
    weights: float
    gradient: float | None
    change: float


@dataclasses.dataclass(frozen=True)
class Inspection:
    """An update of a run, executed again.

    Attributes:
        moment: The run right before it.
        looks: The updates within the step; empty of a model with a `train_step` of its own.
        variables: What the step did to each trained variable.
        rates: Learning rates and loss scales before it.
        compared: The records of the logs, beside metrics.csv.
        updates: The metrics of the step, and of those after it.
        without: The rows that were left out, and the metrics of the same steps then; None where none were.
        examples: What people see of each row, as `show_example` returned it.
    """

    moment: Moment
    looks: list[Look]
    variables: list[VariableUpdate]
    rates: dict[str, float]
    compared: Compared
    updates: list[dict[str, Any]]
    without: tuple[list[int], list[dict[str, Any]]] | None
    examples: list[Any]


def inspect(
    run: str | os.PathLike, step: int, steps: int = 1, *, without: Iterable[int] = (), eager: bool = False,
    keep: bool = False, task: Any = None, data: Any = None, batch_size: int | None = None, shuffle: bool = True,
    class_weight: dict[int, float] | None = None, validation_data: Any = None, trust: Iterable[str] = (),
    **trainer: Any,
) -> Inspection:  # fmt: skip
    """Executes a run again up to an update, looks at it and goes on: what `lightkeras replay` prints.

    Args:
        run, step: As for `replay`.
        steps: Updates that are shown, from `step` on.
        without: Rows of the batch: the losses of the same updates are computed without them too.
        eager: Run the forward and backward pass of the update op by op, as for a debugger.
        keep: Keep what the layers return.
        task, data, batch_size, shuffle, class_weight, validation_data, trust, trainer: As for `replay`.

    Raises:
        ValueError, CheckpointError: As `replay`; or the batch has no such rows.
    """
    require_int("steps", steps)
    recorded = Recorded(run)
    recorded.require_step(step)
    brought = {"validation_data": validation_data, "batch_size": batch_size, "class_weight": class_weight}
    given = as_given(data, shuffle=shuffle, **brought)
    journey = Journey(recorded, step, task, given, trust, trainer)
    traveller = Traveller(step, steps, journey.data)
    with quietly():
        journey.travel(traveller)
    moment = journey.moment()
    other = None
    if rows := list(without):
        examples = require_rows(rows, moment.examples)
        other = (rows, _travel_without(journey, traveller, moment, examples, steps))
    subject = _subject(journey, traveller)
    rates = {**subject.optimizers.learning_rates(), **subject.optimizers.loss_scaling()}
    before = traveller.before
    looks = _look(subject, moment, eager, keep)
    variables = _compare_variables(subject, before, traveller.after, looks)
    state.restore(subject, before)
    return Inspection(
        moment, looks, variables, rates,
        compare(recorded, step, traveller.records, journey.trainer), traveller.updates, other,
        _show_rows(moment),
    )  # fmt: skip


def _travel_without(
    journey: Journey, traveller: Traveller, moment: Moment, examples: np.ndarray, steps: int
) -> list[dict[str, Any]]:
    """Returns the metrics of the same updates without some examples of the first."""
    before, other = traveller.before, Traveller(traveller.step, steps, journey.data, to_row=False)
    with tempfile.TemporaryDirectory() as folder, leaving_out(journey.data, moment.epoch, examples), quietly():
        path = save_checkpoint(folder, traveller.step - 1, before.arrays, before.state)
        journey.travel(other, path)
    return other.updates


def _subject(journey: Journey, traveller: Traveller) -> Any:
    """Returns a task on one device in the state before the update."""
    task, before = journey.task, traveller.before
    if isinstance(task, TaskModule) and num_replicas(task.distribute_strategy) > 1:
        task = _copy_to_one_device(journey)
    state.restore(task, before)
    return task


def _copy_to_one_device(journey: Journey) -> TaskModule:
    old, trainer = journey.task, journey.trainer
    task = type(old)(**old.init_args)
    task.seed = trainer.seed
    with use_precision(trainer.precision):
        state.build(task, journey.data, old.spec)
        with internals.names_from_the_start():
            task.build_optimizers(old.optimizers.settings, old.steps_per_epoch, old.total_steps)
    return task


def _look(subject: Any, moment: Moment, eager: bool, keep: bool) -> list[Look]:
    with use_precision(moment.trainer.precision):
        if isinstance(subject, TaskModule):
            return look_at_step(subject, moment.batch, moment.addresses, eager, keep)
        if has_keras_step(subject.model) and num_replicas(subject.distribute_strategy) == 1:
            return [look_at_model(subject.model, moment.batch, eager, keep)]
    return []


def _compare_variables(subject: Any, before: Any, after: dict[str, np.ndarray], looks: list[Look]) -> list:
    trained = {id(variable) for variable in getattr(subject, "model", subject).trainable_variables}
    gradients = {path: gradient for look in looks for path, gradient in look.gradients.items()}
    found = []
    for name, variable in subject.state_variables().items():
        if id(variable) in trained:
            then = np.asarray(before.arrays[name], np.float64)
            change = _norm(np.asarray(after[name], np.float64) - then)
            gradient = gradients.get(variable.path)
            norm = None if gradient is None else _norm(gradient)
            found.append(VariableUpdate(variable.path, _norm(then), norm, change))
    return found


def _norm(values: np.ndarray) -> float:
    return float(np.linalg.norm(np.asarray(values, np.float64).ravel()))


def _show_rows(moment: Moment) -> list[Any]:
    count = row_count(moment.batch)
    return [moment.data.show_example(one) for one in examples_of(moment.batch, range(count or 0))]
