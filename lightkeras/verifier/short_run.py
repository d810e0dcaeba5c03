"""Short trainings of a task, cut in whatever way, and how far apart two of them are."""

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


class Trial(NamedTuple):
    """What a training leaves.

    Attributes:
        task: The trained task.
        trainer: What trained it.
        records: The task's metrics of every update, or of every interval of `log_every_n_steps`.
        validations: The `val_` metrics of every validation.
        epochs: The metrics of every epoch, a list by name.
        state: Every weight, seed generator and optimizer slot at the end, by name.
        calls: Calls that made the updates: fewer where a call makes several.
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
        """The loss of every update; of several optimizers, the first one's."""
        return [record[loss_name(next(iter(self.task.optimizers)))] for record in self.records]


class _Recorder(Callback):
    """Keeps what is logged, and counts calls."""

    accepts_many_steps = True

    def __init__(self):
        super().__init__()
        self.records, self.validations, self.calls = [], [], 0

    def on_train_batch_end(self, batch, logs=None):
        self.calls += 1

    def on_log(self, record):
        self.records.append({name: record[name] for name in self.model.train_sums.kinds})

    def on_validation_end(self, record):
        self.validations.append({f"val_{name}": record[f"val_{name}"] for name in self.model.test_sums.kinds})


def train(task: TaskModule, data: DataModule, ckpt_path: str | None = None, **arguments: Any) -> Trial:
    """Trains without a word; `arguments` are the Trainer's.

    By default every update is a call of its own, is logged, and is not compiled by XLA, on one device.
    """
    recorder = _Recorder()
    by_default = {"log_every_n_steps": 1, "steps_per_execution": 1, "jit_compile": False}
    where = {} if "strategy" in arguments else {"devices": 1}
    trainer = Trainer(
        **{**QUIET, **by_default, **where, **arguments, "callbacks": [recorder, *arguments.get("callbacks", ())]}
    )
    epochs = trainer.fit(task, data, ckpt_path).history
    kept = {name: list(epochs[name]) for name in task.train_sums.kinds}
    return Trial(task, trainer, recorder.records, recorder.validations, kept, values(task), recorder.calls)


def values(task: TaskModule) -> dict[str, np.ndarray]:
    """The value of every state variable, copied, by name."""
    return {name: np.asarray(variable).copy() for name, variable in task.state_variables().items()}


def difference(ours: Any, theirs: Any, floor: float = 0.0) -> float:
    """The largest |ours - theirs| / (|theirs| + floor); infinite where the shapes differ or one of two is NaN.

    It is at most `rtol` exactly where `np.allclose(ours, theirs, rtol, atol=rtol * floor)` holds.
    """
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        return float("inf")
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    with np.errstate(divide="ignore", invalid="ignore"):  # a gap to 0 is infinite
        gap = np.where(same, 0.0, np.abs(ours - theirs))
        relative = np.divide(gap, np.abs(theirs) + floor, out=np.zeros_like(gap), where=gap != 0)
    return float(np.max(np.nan_to_num(relative, nan=np.inf, posinf=np.inf), initial=0.0))


def metrics_difference(ours: list[dict], theirs: list[dict], floor: float = 0.0) -> list[float]:
    """The difference of the metrics, record by record."""
    if len(ours) != len(theirs):
        return [float("inf")]
    return [difference(list(a.values()), [b[name] for name in a], floor) for a, b in zip(ours, theirs, strict=True)]


def state_difference(ours: Trial, theirs: Trial, floor: float = 0.0) -> dict[str, float]:
    """The difference of the final state, by variable."""
    return {name: difference(value, theirs.state[name], floor) for name, value in ours.state.items()}
