"""Short trainings of a task, and everything they leave."""

from typing import Any, NamedTuple

import numpy as np

from lightkeras.callbacks import Callback
from lightkeras.data.module import DataModule
from lightkeras.task import TaskModule
from lightkeras.trainer import Trainer
from lightkeras.training.step import loss_name

QUIET = {
    "logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}  # fmt: skip


class ShortRun(NamedTuple):
    """Everything that a training leaves.

    Attributes:
        task: The trained task.
        trainer: The Trainer that trained it.
        records: The task's metrics of every update, or of every interval of `log_every_n_steps`.
        validations: The `val_` metrics of every validation.
        epochs: The metrics of every epoch, a list by name.
        state: Every weight, seed generator and optimizer slot at the end, by name.
        calls: The calls of the compiled function that made the updates: fewer where one call makes several.
    """

    task: TaskModule
    trainer: Trainer
    records: list[dict[str, float]]
    validations: list[dict[str, float]]
    epochs: dict[str, list[float]]
    state: dict[str, np.ndarray]
    calls: int

    @property
    def losses(self) -> list[float]:
        """The loss of every update; with several optimizers, the first one's."""
        return [record[loss_name(next(iter(self.task.optimizers)))] for record in self.records]


class _Recorder(Callback):
    """Keeps all logged metrics, and counts calls."""

    accepts_many_steps = True

    def __init__(self):
        super().__init__()
        self.records, self.validations, self.calls = [], [], 0

    def on_train_batch_end(self, batch, logs=None):
        self.calls += 1

    def on_log(self, record):
        self.records.append({name: record[name] for name in self.model.train_sums.kinds})

    def on_validation_end(self, record):
        metrics = tuple(f"_{name}" for name in self.model.test_sums.kinds)
        of_steps = [name for name in record if name.startswith("val_") and name.endswith(metrics)]
        self.validations.append({name: record[name] for name in of_steps})


def train(task: TaskModule, data: DataModule, ckpt_path: str | None = None, **arguments: Any) -> ShortRun:
    """Trains without printing anything; `arguments` are the Trainer's.

    By default every update is a call of its own, is logged, and is not compiled by XLA, on one device.
    """
    recorder = _Recorder()
    defaults = {"log_every_n_steps": 1, "steps_per_execution": 1, "jit_compile": False}
    device = {} if "strategy" in arguments else {"devices": 1}
    callbacks = [recorder, *arguments.get("callbacks", ())]
    trainer = Trainer(**{**QUIET, **defaults, **device, **arguments, "callbacks": callbacks})
    history = trainer.fit(task, data, ckpt_path).history
    epochs = {name: list(history[name]) for name in task.train_sums.kinds}
    return ShortRun(task, trainer, recorder.records, recorder.validations, epochs, copy_state(task), recorder.calls)


def copy_state(task: TaskModule) -> dict[str, np.ndarray]:
    """Copies the value of every state variable, by name."""
    return {name: np.asarray(variable).copy() for name, variable in task.state_variables().items()}
