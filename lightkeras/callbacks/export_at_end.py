"""Exports the best checkpoint when training ends, after a trial before it begins."""

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lightkeras.callbacks.callback import Callback
from lightkeras.export.check import Compared
from lightkeras.export.exporting import export, export_with
from lightkeras.export.folders import read_export
from lightkeras.keras_models.task import KerasTask
from lightkeras.runs import state
from lightkeras.runs.folder import open_checkpoint
from lightkeras.utils.messages import logger
from lightkeras.utils.paths import local_path

EXPORTS = "exports"  # in the run's folder


class ExportAtEnd(Callback):
    """Writes `exports/FORMAT_CHECKPOINT` in the run's folder from the best checkpoint, as "best" means it elsewhere.

    Before the first update, the task is exported to a folder that is deleted, and compared, so that a failure comes
    then. A run that was killed before its export was whole makes it when it is resumed. Without the run's folder
    (`fast_dev_run`), the trial is all.

    Args:
        format: One of `lk.export.FORMATS`.
    """

    order = 95  # after the last checkpoint is saved
    accepts_many_steps = True
    chief_only = True

    def __init__(self, format: str):
        super().__init__()
        self.format = format

    def on_train_begin(self, logs=None):
        if not self.model.total_steps or self.model.global_step < self.model.total_steps:
            logger.info("Exporting as %s for a trial.", self.format)
            _call_outside_strategy(lambda: _try_out(self.model, self.format))

    def on_train_end(self, logs=None):
        if self.run.folder and not self.run.interrupted:
            _call_outside_strategy(self._export)

    def _export(self) -> None:
        saved = open_checkpoint(self.run.folder)
        folder = local_path(self.run.folder / EXPORTS / f"{self.format}_{Path(saved.path).name}")
        if folder.exists():
            read_export(folder)  # raises unless it is whole
        else:
            folder.parent.mkdir(exist_ok=True)
            _export_checkpoint(self.model, saved, folder, self.format)
        logger.info("Export: %s", folder)


def _call_outside_strategy(function: Callable[[], Any]) -> Any:
    """Calls a function where no strategy's scope is entered: scopes are a thread's own."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(function).result()


def _try_out(task: Any, form: str) -> Compared:
    with tempfile.TemporaryDirectory() as place:
        return export(task.model_of_callbacks(), Path(place) / "trial", form)


def _export_checkpoint(task: Any, saved: Any, folder: Path, form: str) -> Compared:
    """Exports a task with the weights of a checkpoint; the task keeps its own."""
    if not isinstance(task, KerasTask):
        return export(state.load_task(saved, type(task)), folder, form)
    with task.trying_out():
        state.restore_weights(task, saved)
        return export_with(task.model, folder, form, state.run_facts(saved.path, saved.state))
