"""Saves the run while it trains: the last states, and the best by a metric."""

import math
import time
from pathlib import Path

from lightkeras.callbacks.monitor import Monitor
from lightkeras.callbacks.non_finite_guard import NonFiniteLossError
from lightkeras.checkpoint import CheckpointError, latest_checkpoint
from lightkeras.runs.folder import AFTER_ERROR, CHECKPOINTS
from lightkeras.utils.checks import require, require_int, require_number


class ModelCheckpoint(Monitor):
    """Saves the whole run after every epoch and validation, keeping the last state and the `save_top_k` best.

    It is called last, so that it saves the state of the other callbacks after the event. A thread writes to the disk
    beside the training; the end of a run, also by a signal or an error, waits for it.

    After an error in a callback, weights and optimizers are whole, though not all callbacks have seen the update: they
    are saved apart, to `after_error/`. An error within an update leaves only the earlier checkpoints.

    Args:
        monitor: Metric to rank by; None keeps the last alone.
        mode: "min" or "max".
        save_top_k: Number of the best checkpoints to keep.
        every_n_steps: Also save after every n updates.
        keep_last: Number of the newest checkpoints to keep, whatever their rank (a damaged one falls back on the one
            before).
        every_seconds: Also save this number of seconds after the last save; None for never.
    """

    def __init__(
        self, monitor: str | None = "val_loss", mode: str = "min", save_top_k: int = 1,
        every_n_steps: int | None = None,
        keep_last: int = 2, every_seconds: float | None = 600.0,
    ):  # fmt: skip
        super().__init__(monitor, mode)
        require_int("save_top_k", save_top_k, minimum=0)
        require(not save_top_k or monitor is not None, "save_top_k", "0 without a monitor", save_top_k)
        require_int("every_n_steps", every_n_steps, optional=True)
        require_int("keep_last", keep_last)
        require_number("every_seconds", every_seconds, optional=True)
        self.save_top_k, self.keep_last = save_top_k, keep_last
        self.every_n_steps, self.every_seconds = every_n_steps, every_seconds
        self.stops = (every_n_steps,) if every_n_steps else ()
        self.scores: dict[str, float] = {}  # checkpoint's name -> value, the best first
        self._began_at = -1  # the update at which the last call began

    order = 90
    accepts_many_steps = True
    writes_files = chief_only = True
    outlives_end = True

    @property
    def protected_checkpoints(self) -> tuple[str, ...]:
        """Names of the best checkpoints, the best first."""
        return tuple(self.scores)

    @property
    def best_checkpoint(self) -> str | None:
        """Name of the best checkpoint in the run's folder, or None."""
        return next(iter(self.scores), None)

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.scores = {}
        self._validated, self._began_at, self._saved_at = False, -1, time.monotonic()

    def on_value(self, value, record):
        if math.isnan(value):
            return
        name = self.run.checkpoint_name(record["step"])
        ranked = sorted({**self.scores, name: value}.items(), key=lambda item: item[1], reverse=self.mode == "max")
        self.scores = dict(ranked[: self.save_top_k])

    def on_validation_end(self, record):
        super().on_validation_end(record)
        self._validated = True

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        last = self.model.stop_training or epoch + 1 == self.run.epochs
        self._save(wait=last)  # while signals are still held back

    def on_train_batch_begin(self, batch, logs=None):
        self._began_at = self.model.global_step

    def on_train_batch_end(self, batch, logs=None):
        self.run.saver.raise_error()
        step = self.model.global_step
        if step % self.run.steps_per_epoch and (
            self._validated or self._is_time(step)
        ):  # an epoch's end saves all of it
            self._save(wait=False)

    def _is_time(self, step: int) -> bool:
        if self.every_n_steps and step % self.every_n_steps == 0:
            return True
        return self.every_seconds is not None and time.monotonic() - self._saved_at >= self.every_seconds

    def on_interrupt(self):
        self._save(wait=True)

    def on_train_end(self, logs=None):
        self.run.saver.wait()

    def on_exception(self, error):
        self.run.saver.wait()
        if isinstance(error, Exception):
            error.add_note(f"{self._rescue(error)}{self._explain_resume()}")  # Python shows it below the traceback

    def _rescue(self, error: Exception) -> str:
        """Saves the state that an error in a callback left; says where."""
        step, unsound = self.model.global_step, isinstance(error, NonFiniteLossError | CheckpointError)
        within_updates = not 0 <= self._began_at < step
        if unsound or within_updates or self._saved_step() == step:
            return ""
        try:
            path = self.run.save_checkpoint(folder=self.run.folder / AFTER_ERROR)
        except (NonFiniteLossError, CheckpointError) as failure:
            return f"Update {step} could not be saved: {failure} "
        return f"The weights of update {step} are in {path}. "

    def _explain_resume(self) -> str:
        step, run = self._saved_step(), self.run.folder
        if step is None:
            return "No checkpoint was saved."
        return f"The run is saved up to update {step}. Resume it with ckpt_path={str(run)!r} (--ckpt_path {run})."

    def _saved_step(self) -> int | None:
        last = latest_checkpoint(self.run.folder / CHECKPOINTS)
        return int(Path(last).name.removeprefix("step_")) if last else None

    def _save(self, wait: bool) -> None:
        self._validated, self._saved_at = False, time.monotonic()
        self.run.save_checkpoint(keep=self.keep_last, wait=wait)

    def state_dict(self):
        return {"scores": self.scores}

    def load_state_dict(self, state):
        """Restores the scores of the checkpoints in the folder: a run resumed from an older one has a new folder."""
        there = self.run.folder / CHECKPOINTS
        self.scores = {name: value for name, value in state["scores"].items() if (there / name).exists()}
