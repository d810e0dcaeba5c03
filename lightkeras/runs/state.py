"""A whole run as arrays and JSON, and back.

The state holds every weight, optimizer slot and seed generator, and what layers keep beside variables (arrays), and the
position, the partial sums of the epoch, every callback's state, and the recorded arguments of task and data (JSON).
"""

import functools
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from lightkeras.checkpoint import Checkpoint, CheckpointError
from lightkeras.data import DataModule
from lightkeras.data.batches import spec_from_json, spec_to_json
from lightkeras.runs.folder import open_checkpoint, read_metrics
from lightkeras.training import layer_state
from lightkeras.utils import internals
from lightkeras.utils.checks import lightkeras_error
from lightkeras.utils.hparams import describe, read_arguments
from lightkeras.utils.paths import as_path
from lightkeras.utils.trust import TrustError, class_path, import_class, is_imported, trusting

if TYPE_CHECKING:
    from lightkeras.task import TaskModule

CHANGEABLE = ("task", "data", "seed", "data_state")  # may differ in a resumed run, by name; steps per epoch may not


def capture(task: "TaskModule", data: DataModule, callbacks: dict, seed: int) -> tuple[dict[str, np.ndarray], dict]:
    """Copies the state of the run to the host: (arrays, JSON state)."""
    arrays = {name: _host_copy(variable) for name, variable in task.state_variables().items()}
    arrays |= layer_state.capture(task)
    arrays["sums/values"] = task.train_sums.values.numpy()
    arrays["sums/non_finite"] = task.train_sums.non_finite.numpy()
    known = {**identity(task, data, seed), "data_state": data.state_dict()}
    position = {"step": task.global_step, "steps_per_epoch": task.steps_per_epoch, "averages": task.average_names()}
    if data.trained_on is not None and data.trained_on.passes and task.global_step:
        known["passes"] = data.trained_on.passes.state((task.global_step - 1) // task.steps_per_epoch)
    return arrays, {**known, "spec": spec_to_json(task.spec), **position, "callbacks": callbacks}


def _host_copy(variable) -> np.ndarray:
    """Copies the variable: on a CPU an array may share the variable's memory."""
    array = np.asarray(variable)
    return array if array.flags.owndata else array.copy()


def restore_weights(task: "TaskModule", saved: Checkpoint) -> None:
    """Restores the model's weights (not the optimizers'): averages where a weight has one.

    In a model with other dropout, which has other seed generators, these keep their state.

    Raises:
        CheckpointError: The checkpoint's weights are not this model's; the first differences are named.
    """
    averages = {weight: saved.arrays[average] for weight, average in saved.state.get("averages", {}).items()}
    variables = {name: v for name, v in task.state_variables().items() if name.startswith("model/")}
    arrays = {**saved.arrays, **averages}
    if not variables.keys() <= arrays.keys():
        variables, arrays = _weights(variables), _weights(arrays)
        if [Path(name).name for name in variables] == [Path(name).name for name in arrays]:
            arrays = dict(zip(variables, arrays.values(), strict=True))  # their numbers count the generators too
    _assign(variables, arrays, saved.path)
    layer_state.restore(task, saved.arrays, saved.path)
    task.optimizers.start_averages()


def restore_trained(task: "TaskModule", data: DataModule, saved: Checkpoint) -> None:
    """Restores the weights of a trained task, which must have the same class and vocabulary.

    Raises:
        CheckpointError: The checkpoint is of another task class, or its data state (vocabulary) differs.
    """
    named = saved.state["task"]["class_path"]
    own = class_path(task.described_class)
    moved = "__main__" in (named.partition(".")[0], own.partition(".")[0]) or "<locals>" in named
    same = moved and named.rpartition(".")[2] == own.rpartition(".")[2]
    now = {"task": named if same else own, "data_state": json.loads(json.dumps(data.state_dict()))}
    then = {"task": named, "data_state": saved.state["data_state"]}
    if found := [f"{name}: {change}" for name, change in differences(now, then)]:
        raise CheckpointError(f"Expected {saved.path} to be of this task and data. Received: {'; '.join(found)}")
    restore_weights(task, saved)


def resume(task: "TaskModule", data: DataModule, saved: Checkpoint, seed: int, allowed: Iterable[str]) -> None:
    """Restores the whole task, which must be the saved one but for the values `allowed` to differ.

    If arguments of the task differ, the optimizers keep the learning rates of `configure_optimizers`.
    """
    now = {"data_state": data.state_dict(), "steps_per_epoch": task.steps_per_epoch}
    changed = require_same(saved, {**identity(task, data, seed), **now}, allowed)
    restore(task, saved, keep_rates=any(name.startswith("task.") for name in changed))
    if data.trained_on is not None and data.trained_on.passes:
        data.trained_on.passes.expect(saved.state.get("passes", {}))


def _weights(named: dict[str, Any]) -> dict[str, Any]:
    def is_weight(name: str) -> bool:
        return name.startswith("model/") and not name.endswith("/seed_generator_state")

    return {name: value for name, value in named.items() if is_weight(name)}


def restore(task: "TaskModule", saved: Checkpoint, keep_rates: bool = False) -> None:
    """Restores the whole task: weights, slots, position, partial sums.

    Args:
        task: The task, built, with its optimizers.
        saved: The run's checkpoint.
        keep_rates: The optimizers keep their current learning rates.
    """
    _require_same_metrics(task, saved)
    optimizers = task.optimizers.values()
    rates = {id(internals.learning_rate_variable(optimizer)) for optimizer in optimizers} if keep_rates else set()
    variables = {name: v for name, v in task.state_variables().items() if id(v) not in rates}
    _assign(variables, saved.arrays, saved.path)
    layer_state.restore(task, saved.arrays, saved.path)
    task.global_step = saved.state["step"]
    task.train_sums.values = tf.constant(saved.arrays["sums/values"])
    task.train_sums.non_finite = tf.constant(saved.arrays["sums/non_finite"])


def load_task(
    saved: Checkpoint | str | os.PathLike, expected: type["TaskModule"], trust: Iterable[str] = ()
) -> "TaskModule":
    """Loads a trained task; see `TaskModule.load_from_checkpoint`.

    Args:
        saved: The opened checkpoint, or the folder of a checkpoint or run.
        expected: The class that the task must have.
        trust: Packages whose classes the checkpoint may name (see `utils.trust`).
    """
    task, data, saved = load_run(saved, expected, trust)
    build(task, data, spec_from_json(saved.state["spec"]), saved)
    restore_weights(task, saved)
    task.global_step, task.seed = saved.state["step"], saved.state["seed"]
    task.read_run_facts = functools.partial(run_facts, saved.path, saved.state)
    return task


def run_facts(path: str, values: dict[str, Any]) -> dict[str, Any]:
    """Returns what an export says of the run of a checkpoint: its data, and the last value of every metric up to it."""
    step = values["step"]
    return {"step": step, "metrics": read_metrics(as_path(path).parent.parent, step), "data": values["data"]}


def load_run(
    saved: Checkpoint | str | os.PathLike, expected: type["TaskModule"], trust: Iterable[str] = ()
) -> tuple["TaskModule", DataModule, Checkpoint]:
    """Instantiates task and data from a checkpoint, not built yet; returns the opened checkpoint too."""
    saved = saved if isinstance(saved, Checkpoint) else open_checkpoint(saved)
    try:
        task_class = _task_class(saved.state["task"]["class_path"], expected, trust)
        trust = trusting(trust, task_class)
        data_class = _data_class(saved.state["data"]["class_path"], task_class, trust)
        arguments = [read_arguments(saved.state[part]["init_args"], trust) for part in ("task", "data")]
    except (TrustError, lightkeras_error(ImportError)) as error:
        raise CheckpointError(
            f"Expected a checkpoint of {class_path(expected)}. Received: {saved.path}. {error}"
        ) from error
    task, data = task_class(**arguments[0]), data_class(**arguments[1])
    data.load_state_dict(saved.state["data_state"])
    return task, data, saved


def _task_class(path: str, expected: type["TaskModule"], trust: Iterable[str]) -> type["TaskModule"]:
    """Returns the class `expected` if it has the saved name: its module may have another name than in training."""
    if path.rpartition(".")[2] == expected.__name__:
        return expected
    return import_class(path, expected, trusting(trust, expected))


def _data_class(path: str, task_class: type["TaskModule"], trust: Iterable[str]) -> type[DataModule]:
    """Returns the class of the data: the task's own where the saved one is of a script or notebook."""
    own = task_class.data_module
    same_name = path.rpartition(".")[2] == own.__name__ and own is not DataModule
    return own if same_name and not is_imported(path) else import_class(path, DataModule, trust)


def build(task: "TaskModule", data: DataModule, spec: Any, saved: Checkpoint | None = None) -> None:
    """Creates the task's layers and variables under the current strategy, for the state of `saved` if given."""
    with internals.names_from_the_start():
        task.configure_model(data)
        if saved:
            layer_state.prepare(task, saved.arrays)
        task.build_from(spec)
    task.remember_data(data)


def _require_same_metrics(task: "TaskModule", saved: Checkpoint) -> None:
    names, count = ", ".join(task.train_sums.kinds), len(saved.arrays["sums/non_finite"])
    known, found = tuple(task.train_sums.values.shape), saved.arrays["sums/values"].shape
    if known != found:
        raise CheckpointError(
            f"Expected {saved.path} to hold sums of this run's metrics: {names}. Received: sums of {count} metrics, an "
            f"array of {found}, not {known}. Resume a run with the metrics and the log_gradient_norm that it had."
        )


def _assign(variables: dict[str, Any], arrays: dict[str, np.ndarray], path: str) -> None:
    wrong = [
        f"{name}: expected {tuple(v.shape)}, received {arrays[name].shape if name in arrays else 'nothing'}"
        for name, v in variables.items()
        if name not in arrays or arrays[name].shape != tuple(v.shape)
    ]
    if wrong:
        raise CheckpointError(f"Expected {path} to hold this model's variables. {'; '.join(wrong[:5])}")
    for name, variable in variables.items():
        variable.assign(arrays[name])


def identity(task: "TaskModule", data: DataModule, seed: int) -> dict:
    """Returns what identifies a run and is known before its data is read."""
    return {"task": task.describe_arguments(), "data": describe(data), "seed": seed}


def require_same(saved: Checkpoint, now: dict, allowed: Iterable[str] = ()) -> list[str]:
    """Rejects the resume of a run as another one.

    Args:
        saved: The run's checkpoint.
        now: Any part of the run's state now: only these keys are compared.
        allowed: Names of values that may differ ("data.init_args.source"), or of all that lies under one ("data").

    Returns:
        The names of the values that differ.

    Raises:
        CheckpointError: Something differs (arguments, vocabulary, seed, steps per epoch); the differences are listed.
    """
    found = dict(differences(json.loads(json.dumps(now)), {key: saved.state.get(key) for key in now}))
    refused = [name for name in found if not any(f"{name}.".startswith(f"{known}.") for known in allowed)]
    if refused:
        shown = "; ".join(f"{name}: {found[name]}" for name in refused[:10])
        by_name = all(name.split(".")[0] in CHANGEABLE for name in refused)
        how = f". If this is intended, allow it by name: allow_changes={refused}" if by_name else ""
        raise CheckpointError(f"Expected the run of {saved.path} to be resumed as it was. Received: {shown}{how}")
    return list(found)


def differences(now: Any, saved: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Yields (name, "old then, new now") of everything that differs between two JSON values."""
    if isinstance(now, dict) and isinstance(saved, dict):
        for key in {**now, **saved}:
            yield from differences(now.get(key), saved.get(key), f"{where}.{key}" if where else key)
    elif now != saved:
        yield where, f"{_shorten(saved)} then, {_shorten(now)} now"


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
