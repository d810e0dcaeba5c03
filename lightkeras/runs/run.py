"""Run: what callbacks know of the run they are in."""

import dataclasses
import time
from typing import TYPE_CHECKING, Any, cast

from lightkeras.runs.timeline import KINDS
from lightkeras.utils.checks import lightkeras_error
from lightkeras.utils.messages import logger
from lightkeras.utils.paths import Folder

if TYPE_CHECKING:
    from lightkeras.callbacks.callback_list import CallbackList
    from lightkeras.runs.saver import RunSaver
    from lightkeras.task import TaskModule

UNSET = cast(Any, None)  # typed for callbacks, which use the value only where there is one


@dataclasses.dataclass
class Run:
    """The run that a callback is in: `callback.run`.

    Attributes:
        steps_per_epoch: Updates of an epoch (batches, in an evaluation).
        log_every_n_steps: Updates between two records.
        folder: The run's folder; None where nothing is written.
        epochs: Epochs until the end of the run; None where unknown.
        metric_names: Every name that may be monitored.
        saver: Saves checkpoints; None outside of training.
        callbacks: All callbacks of the run.
        epoch: The running epoch, from 0.
        interrupted: The signal that ends training; None if there was none.
        stopped_by: Class name of the callback that ended training for good (early stopping); None if none has.
        reason: Why a callback ended training, in words; None if none has.
        began: When this process began the run, in seconds since the epoch.
        seconds: Seconds of this process by kind, see `runs.timeline`: `Goodput` adds them up.
    """

    steps_per_epoch: int
    log_every_n_steps: int
    folder: Folder = UNSET
    epochs: int | None = None
    metric_names: list[str] = dataclasses.field(default_factory=list)
    saver: "RunSaver" = UNSET
    callbacks: "CallbackList" = UNSET
    epoch: int = 0
    interrupted: int | None = None
    stopped_by: str | None = None
    reason: str | None = None
    began: float = dataclasses.field(default_factory=time.time)
    seconds: dict[str, float] = dataclasses.field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))

    def checkpoint_name(self, step: int) -> str:
        """Names the checkpoint of update `step`."""
        return f"step_{step:09d}"

    def save_checkpoint(self, keep: int | None = None, wait: bool = True, folder: Folder | None = None) -> str:
        """Saves the whole run; see `RunSaver.save`."""
        if self.saver is None:
            raise lightkeras_error(RuntimeError)(
                "Expected a training run with a folder to save a checkpoint. Received: no training run"
            )
        return self.saver.save(self, keep, wait, folder)

    def is_over(self, task: "TaskModule", stopped_by: str | None) -> bool:
        """Says so if there is nothing to do: all updates are made, or the callback `stopped_by` ended it for good."""
        if task.total_steps and task.global_step >= task.total_steps:
            logger.info("Nothing to do: %d updates are made already. Raise max_epochs or max_steps.", task.global_step)
            return True
        if stopped_by in [type(callback).__name__ for callback in self.callbacks.callbacks]:
            logger.info("Nothing to do: ended by %s after update %d.", stopped_by, task.global_step)
            self.stopped_by = stopped_by
            return True
        return False
