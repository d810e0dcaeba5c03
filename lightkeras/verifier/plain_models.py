"""The verifier for a plain Keras model: which promises hold for it, and why the others do not."""

import tempfile
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lightkeras.callbacks import ModelCheckpoint
from lightkeras.data import stages
from lightkeras.data.brought import as_data_module
from lightkeras.keras_models.accept import as_task
from lightkeras.keras_models.hidden_state import draws, find_counters, find_hidden_operations
from lightkeras.keras_models.variables import find_variables
from lightkeras.trainer import Trainer, seed_everything
from lightkeras.utils import internals
from lightkeras.verifier.comparison import ROUNDING
from lightkeras.verifier.report import Report, Result
from lightkeras.verifier.short_run import QUIET

STEPS = 3  # of an epoch
CLAIMS = {
    "same_seed": "two runs with one seed are equal",
    "hidden_state": "a checkpoint holds everything that a step changes",
    "resume": "stopped and resumed, a run ends the same",
    "steps_per_execution": "three updates in a call do the same",
    "xla": "compiled by XLA, the step does the same",
    "replicas": "two replicas make the update of one",
    "micro_batches": "two micro-batches make the update of one batch",
}
_OWN = "the model's own step computes its loss and applies its gradients. As a TaskModule it keeps this promise"
_SKIP_RANDOM = ("SKIP", None, None, "not comparable: the step draws random numbers, and XLA draws others")
_LATE = "a state that no variable holds, or numbers drawn from a generator without a seed"


class _Subject:
    """Builds the model anew and trains it briefly."""

    def __init__(self, build: Callable[[], keras.Model], data: dict[str, Any]):
        self._build, self._data = build, data

    def build(self) -> keras.Model:
        """Builds the model, as a new process would."""
        seed_everything(0)
        with internals.names_from_the_start():
            return self._build()

    def train(self, root: str | None = None, ckpt_path: str | None = None, **arguments: Any) -> dict[str, np.ndarray]:
        """Trains the model for two epochs of three steps; returns all of its variables."""
        model = self.build()
        if root is not None:
            callbacks = [ModelCheckpoint(None, save_top_k=0, every_n_steps=1)]
            arguments |= {"enable_checkpointing": True, "default_root_dir": root, "callbacks": callbacks}
        defaults = {"max_epochs": 2, "limit_train_batches": STEPS, "jit_compile": False, "steps_per_execution": 1}
        Trainer(**{**QUIET, **defaults, **arguments}).fit(model, ckpt_path=ckpt_path, **self._data)
        return {name: np.array(variable) for name, variable in find_variables(model).items()}

    @property
    def stop(self) -> int:
        """The update after which a run is stopped: the first of the second epoch, unless that is the last one."""
        steps = stages.training(as_data_module(**self._data), STEPS, 0, 1).steps
        return steps + (steps > 1)

    def look(self) -> tuple[list[str], bool]:
        """Names what a step keeps where no checkpoint finds it; and whether the compiled step draws random numbers."""
        model = self.build()
        train = stages.training(as_data_module(**self._data), 1.0, 0, 1).dataset
        task = as_task(model)
        task.begin_stage("fit", train)
        task.build_from(None)
        batch = next(iter(train.as_keras(epochs=1, steps=1)))
        if not model.run_eagerly:
            graph = task.trace_again()
            return [*find_hidden_operations(graph), *find_counters(model, task.trace_again)], draws(graph)
        return find_counters(model, lambda: model.train_step(batch)), False


def check_model(build: Callable[[], keras.Model], data: dict[str, Any]) -> Report:
    """Tries on a plain model what can be promised for it.

    Args:
        build: Returns the model, compiled and new; called for every training.
        data: The keywords of `Trainer.fit`: "data", "validation_data", "batch_size", ...
    """
    subject = _Subject(build, data)
    reference, (hidden, is_random) = subject.train(), subject.look()
    why = f"see `hidden_state`: {'; '.join(hidden)}" if hidden else ""
    findings = {
        "same_seed": _compare(subject.train(), reference, 0.0, why or "a number drawn without a seed"),
        "hidden_state": _hidden(hidden),
        "resume": _resume(subject, why or _LATE),
        "steps_per_execution": _compare(subject.train(steps_per_execution=3), reference, ROUNDING, why or _LATE),
        "xla": _SKIP_RANDOM if is_random and not hidden else _xla(subject, reference, why or "XLA rounds differently"),
        "replicas": ("SKIP", None, None, f"as Keras does it, not to rounding: {_OWN}"),
        "micro_batches": ("SKIP", None, None, f"not possible: {_OWN}"),
    }  # fmt: skip
    return Report(type(subject.build()).__name__, [Result(name, CLAIMS[name], *one) for name, one in findings.items()])


def _compare(ours: dict, theirs: dict, allowed: float, cause: str) -> tuple:
    """Judges the largest difference of two runs' variables, of numbers relative to their size."""
    found = {name: _difference(ours[name], theirs[name]) for name in theirs}
    worst = max(found, key=found.__getitem__)
    passed = found[worst] <= allowed
    return "PASS" if passed else "FAIL", found[worst], allowed, "" if passed else f"{worst} differs: {cause}"


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    if one.dtype.kind not in "fiub":
        return float(not np.array_equal(one, other))
    gap = np.abs(one.astype(np.float64) - other.astype(np.float64)).max(initial=0.0)
    return float(gap / max(1.0, np.abs(other.astype(np.float64)).max(initial=0.0)))


def _hidden(found: list[str]) -> tuple:
    return ("FAIL", float(len(found)), 0.0, "\n".join(found)) if found else ("PASS", 0.0, 0.0, "")


def _resume(subject: _Subject, cause: str) -> tuple:
    with tempfile.TemporaryDirectory() as folder:
        whole = subject.train(f"{folder}/whole")
        subject.train(f"{folder}/cut", max_steps=subject.stop)
        return _compare(subject.train(f"{folder}/cut", "last"), whole, 0.0, cause)


def _xla(subject: _Subject, reference: dict, cause: str) -> tuple:
    try:
        return _compare(subject.train(jit_compile=True), reference, ROUNDING, cause)
    except (tf.errors.OpError, NotImplementedError) as error:
        return "SKIP", None, None, f"XLA cannot compile the step: {str(error).splitlines()[0][:200]}"
