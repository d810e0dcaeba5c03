"""A new run from a past moment of another, with something changed."""

import json
import os
import pathlib
import tempfile
from collections.abc import Iterable
from typing import Any

from lightkeras.callbacks import Callback
from lightkeras.checkpoint import save_checkpoint
from lightkeras.data.module import DataModule
from lightkeras.replaying.moment import Journey, quietly
from lightkeras.replaying.recorded import ORIGIN, Recorded, make_data, make_task
from lightkeras.replaying.traveller import Traveller
from lightkeras.report.record import METRICS
from lightkeras.runs import state, timeline
from lightkeras.task import TaskModule
from lightkeras.trainer import Trainer


class BranchedFrom(Callback):
    """Notes in the configuration of a run, and in its `branch.json`, that it is a branch of another.

    Args:
        run: The folder of the other run.
        step: The first update that is the branch's own.
    """

    writes_files = chief_only = accepts_many_steps = True

    def __init__(self, run: str, step: int):
        super().__init__()
        self.other, self.step = run, step

    def on_train_begin(self, logs=None):
        if self.model.global_step == self.step - 1:  # and not where the configuration is used for another run
            text = json.dumps({"run": self.other, "step": self.step}) + "\n"
            (self.run.folder / ORIGIN).write_text(text, encoding="utf-8")


def branch(
    run: str | os.PathLike, step: int, *, task: TaskModule | None = None, data: DataModule | None = None,
    trust: Iterable[str] = (), **trainer: Any,
) -> Trainer:  # fmt: skip
    """Trains a new run, which leaves another one before an update, with something changed.

    The other run is executed again up to there (see `replay`), and the new one goes on with its weights, optimizers and
    position. Its logs begin with those of the other. If arguments of the task differ, the optimizers take their
    learning rates from `configure_optimizers`.

    Args:
        run: The folder of a run of a `TaskModule`.
        step: The first update that differs, counted from 1.
        task, data: With other arguments than those of the run; None for the same.
        trust: Packages whose classes the folder may name; see `utils.trust`.
        trainer: Arguments of the Trainer in place of the run's.

    Returns:
        The Trainer, after `fit`; `trainer.run_dir` is the folder of the branch.

    Raises:
        ValueError, CheckpointError: As `replay`; or the change gives an epoch another length.
    """
    recorded = Recorded(run)
    recorded.require_step(step)
    made = Trainer(**{**recorded.all_trainer_arguments(trust), **trainer})
    return train_branch(recorded, step, made, task, data, trust)


def train_branch(
    recorded: Recorded, step: int, trainer: Trainer, task: TaskModule | None, data: DataModule | None,
    trust: Iterable[str] = (),
) -> Trainer:  # fmt: skip
    """Trains a branch with a Trainer that is made; see `branch`."""
    journey = Journey(recorded, step, None, None, trust, {})
    traveller = Traveller(step, None, journey.data)
    with quietly():
        journey.travel(traveller)
    before = traveller.before
    known = recorded.arguments(journey.known)
    task = task or make_task(known.task, trust)[0]
    data = data or make_data(known.data, journey.trust)
    trainer.callbacks = [one for one in trainer.callbacks if not isinstance(one, BranchedFrom)]
    trainer.callbacks.append(BranchedFrom(_absolute(recorded), step))
    now = state.identity(task, data, trainer.seed)
    changes = [name for name, _ in state.differences(json.loads(json.dumps(now)), {n: before.state[n] for n in now})]
    if any(name.startswith("data.") for name in changes):
        changes.append("data_state")
    with tempfile.TemporaryDirectory() as folder:
        origin = pathlib.Path(folder)
        _copy_logs(recorded, origin, step)
        saved = {**before.state, "callbacks": _with_patience(before.state["callbacks"], journey)}
        path = save_checkpoint(origin / "moment", step - 1, before.arrays, saved)  # no run's own: a new one begins
        trainer.fit(task, data, path, allow_changes=changes)
    return trainer


def _absolute(recorded: Recorded) -> str:
    path = os.fspath(recorded.folder)
    return path if "://" in path else os.path.abspath(path)


def _with_patience(callbacks: dict[str, Any], journey: Journey) -> dict[str, Any]:
    """Adds the state of callbacks that end a run: they were not called on the way."""
    older = journey.start.state["callbacks"]["callbacks"] if journey.start else {}
    kept = {name: values for name, values in older.items() if name.startswith("EarlyStopping")}
    return {**callbacks, "callbacks": {**kept, **callbacks["callbacks"]}}


def _copy_logs(recorded: Recorded, target: pathlib.Path, step: int) -> None:
    """Copies the rows of metrics.csv and the events from before an update."""
    metrics = recorded.folder / METRICS
    if metrics.exists():
        head, *rows = metrics.read_text(encoding="utf-8").splitlines()
        whole = [row for row in rows if row.count(",") == head.count(",")]  # a kill may have cut off the last one
        kept = [row for row in whole if int(row.split(",")[1]) < step]
        (target / METRICS).write_text("\n".join([head, *kept]) + "\n", encoding="utf-8")
    told = [event for event in recorded.record.events if event["step"] < step]
    (target / timeline.TIMELINE).write_text("".join(json.dumps(one) + "\n" for one in told), encoding="utf-8")
