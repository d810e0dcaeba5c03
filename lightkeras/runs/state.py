"""A whole run as arrays and JSON, and back.

The state holds every weight, optimizer slot and seed generator (arrays), and the position, the partial sums of the
epoch, every callback's state, and what makes task and data again (JSON).
"""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from lightkeras.utils import internals

from lightkeras import checkpoint as files
from lightkeras.checkpoint import Checkpoint, CheckpointError
from lightkeras.data.module import DataModule
from lightkeras.utils.hparams import class_path, describe, import_class, make
from lightkeras.runs.folder import find_checkpoint
from lightkeras.task import TaskModule

CHANGEABLE = ("task", "data", "seed", "data_state")  # by name, in a run that goes on; its steps per epoch are not


def capture(task: TaskModule, data: DataModule, callbacks: dict, seed: int) -> tuple[dict[str, np.ndarray], dict]:
    """The run's state now: (arrays, JSON state), copied to the host."""
    arrays = {name: _host_copy(variable) for name, variable in task.state_variables().items()}
    arrays["sums/values"] = task.train_sums.values.numpy()
    arrays["sums/non_finite"] = task.train_sums.non_finite.numpy()
    known = {**identity(task, data, seed), "data_state": data.state_dict()}
    spec = {name: {"shape": list(s.shape), "dtype": s.dtype.name} for name, s in task.spec.items()}
    position = {"step": task.global_step, "steps_per_epoch": task.steps_per_epoch, "averages": task.averages()}
    return arrays, {**known, "spec": spec, **position, "callbacks": callbacks}


def _host_copy(variable) -> np.ndarray:
    """The variable's value in memory of its own: on a CPU an array may look into the variable's."""
    array = np.asarray(variable)
    return array if array.flags.owndata else array.copy()


def spec_of(state: dict) -> dict[str, tf.TensorSpec]:
    """The element spec that the run's model was built from."""
    return {name: tf.TensorSpec(s["shape"], s["dtype"], name) for name, s in state["spec"].items()}


def restore_weights(task: TaskModule, saved: Checkpoint) -> None:
    """Gives the model's weights (not the optimizers') their saved values: the averages of those that have one.

    In a model with other dropout, which has other random generators, these are left as they are.

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
    _assign(variables, dataclasses.replace(saved, arrays=arrays))
    task.begin_averages()


def _weights(named: dict[str, Any]) -> dict[str, Any]:
    def is_weight(name: str) -> bool:
        return name.startswith("model/") and not name.endswith("/seed_generator_state")

    return {name: value for name, value in named.items() if is_weight(name)}


def restore(task: TaskModule, saved: Checkpoint, keep_rates: bool = False) -> None:
    """Gives the whole task its saved state: weights, slots, position, partial sums.

    Args:
        task: The task, built, with its optimizers.
        saved: The run's checkpoint.
        keep_rates: The optimizers keep the learning rates that they were made with.
    """
    _check_metrics(task, saved)
    rates = {id(internals.learning_rate_variable(optimizer)) for optimizer in task.optimizers.values()} if keep_rates else set()
    _assign({name: v for name, v in task.state_variables().items() if id(v) not in rates}, saved)
    task.global_step = saved.state["step"]
    task.train_sums.values = tf.constant(saved.arrays["sums/values"])
    task.train_sums.non_finite = tf.constant(saved.arrays["sums/non_finite"])


def load_task(ckpt_path: str, expected: type = TaskModule) -> TaskModule:
    """The trained task of a run's or checkpoint's folder; see `TaskModule.load_from_checkpoint`."""
    task, data, saved = load_run(ckpt_path, expected)
    build(task, data, spec_of(saved.state))
    restore_weights(task, saved)
    task.global_step = saved.state["step"]
    return task


def load_run(ckpt_path: str, expected: type = TaskModule) -> tuple[TaskModule, DataModule, Checkpoint]:
    """Task and data made again from a checkpoint, not built yet, and the checkpoint."""
    saved = files.load_checkpoint(find_checkpoint(ckpt_path, Path("."), ""))
    kind = import_class(saved.state["task"]["class_path"])
    if not issubclass(kind, expected):
        raise CheckpointError(
            f"Expected a checkpoint of {class_path(expected)}. Received: {saved.path}, of {class_path(kind)}"
        )
    task, data = make(saved.state["task"]), make(saved.state["data"])
    data.load_state_dict(saved.state["data_state"])
    return task, data, saved


def build(task: TaskModule, data: DataModule, spec: dict[str, tf.TensorSpec]) -> None:
    """Creates the task's layers and variables under the current strategy."""
    task.configure_model(data)
    task.build_from(spec)


def _check_metrics(task: TaskModule, saved: Checkpoint) -> None:
    names, count = ", ".join(task.train_sums.kinds), len(saved.arrays["sums/values"])
    if count != len(task.train_sums.kinds):
        raise CheckpointError(
            f"Expected {saved.path} to hold sums of this run's metrics: {names}. Received: sums of {count} metrics. "
            "Continue a run with the metrics and the log_gradient_norm that it had."
        )


def _assign(variables: dict[str, Any], saved: Checkpoint) -> None:
    wrong = [
        f"{name}: expected {tuple(v.shape)}, received {saved.arrays[name].shape if name in saved.arrays else 'nothing'}"
        for name, v in variables.items()
        if name not in saved.arrays or saved.arrays[name].shape != tuple(v.shape)
    ]
    if wrong:
        raise CheckpointError(f"Expected {saved.path} to hold this model's variables. {'; '.join(wrong[:5])}")
    for name, variable in variables.items():
        variable.assign(saved.arrays[name])


def identity(task: TaskModule, data: DataModule, seed: int) -> dict:
    """What makes a run this run, known before its data is read."""
    return {"task": describe(task), "data": describe(data), "seed": seed}


def check_same(path: str, now: dict, allowed: Iterable[str] = ()) -> list[str]:
    """Refuses to continue the run of the checkpoint `path` as another one.

    Args:
        path: The checkpoint.
        now: Any part of the run's state as it is now: only these keys are compared.
        allowed: Names of what may differ ("data.init_args.source"), or of all that lies under one ("data").

    Returns:
        The names of what differs.

    Raises:
        CheckpointError: Something differs (arguments, vocabulary, seed, steps per epoch); the differences are listed.
    """
    saved = files.read_state(path)
    found = dict(differences(json.loads(json.dumps(now)), {key: saved.get(key) for key in now}))
    refused = [name for name in found if not any(f"{name}.".startswith(f"{known}.") for known in allowed)]
    if refused:
        shown = "; ".join(f"{name}: {found[name]}" for name in refused[:10])
        by_name = all(name.split(".")[0] in CHANGEABLE for name in refused)
        how = f". If that is meant, allow it by name: allow_changes={refused}" if by_name else ""
        raise CheckpointError(f"Expected the run of {path} to be continued as it was. Received: {shown}{how}")
    return list(found)


def check_weights_fit(task: TaskModule, data: DataModule, saved: Checkpoint) -> None:
    """Refuses the weights of another task or vocabulary.

    Raises:
        CheckpointError: The checkpoint is of another task class, or its data state (vocabulary) differs.
    """
    now = {"task": class_path(type(task)), "data_state": json.loads(json.dumps(data.state_dict()))}
    then = {"task": saved.state["task"]["class_path"], "data_state": saved.state["data_state"]}
    if found := [f"{name}: {change}" for name, change in differences(now, then)]:
        raise CheckpointError(f"Expected {saved.path} to be of this task and data. Received: {'; '.join(found)}")


def differences(now: Any, saved: Any, where: str = ""):
    """(name, "old then, new now") of everything that differs between two values of JSON."""
    if isinstance(now, dict) and isinstance(saved, dict):
        for key in {**now, **saved}:
            yield from differences(now.get(key), saved.get(key), f"{where}.{key}" if where else key)
    elif now != saved:
        yield where, f"{_short(saved)} then, {_short(now)} now"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
