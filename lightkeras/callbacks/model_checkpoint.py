"""Saves the run as it goes: the last state, and the best by a metric."""

import math
from pathlib import Path

from lightkeras.callbacks.monitor import Monitor
from lightkeras.checks import check, check_int

CHECKPOINTS = "checkpoints"  # the folder in the run's folder


class ModelCheckpoint(Monitor):
    """Saves the whole run after every epoch and validation, keeping the last state and the `save_top_k` best.

    It stands last among the callbacks, so that what it saves is their state after the event.

    Args:
        monitor: Metric to rank by; None keeps the last alone.
        mode: "min" or "max".
        save_top_k: How many of the best to keep.
        every_n_steps: Also save after every so many updates.
        keep_last: How many of the newest to keep, whatever their rank (a damaged one falls back on the one before).
    """

    def __init__(
        self, monitor: str | None = "val_loss", mode: str = "min", save_top_k: int = 1,
        every_n_steps: int | None = None,
        keep_last: int = 2,
    ):  # fmt: skip
        super().__init__(monitor, mode)
        check_int("save_top_k", save_top_k, minimum=0)
        check(not save_top_k or monitor is not None, "save_top_k", "0 without a monitor", save_top_k)
        check_int("every_n_steps", every_n_steps, optional=True)
        check_int("keep_last", keep_last)
        self.save_top_k, self.every_n_steps, self.keep_last = save_top_k, every_n_steps, keep_last
        self.scores: dict[str, float] = {}  # checkpoint's name -> value, the best first

    writes_files = chief_only = True
    outlives_end = True

    @property
    def best_checkpoint(self) -> str | None:
        """Name of the best checkpoint in the run's folder, or None."""
        return next(iter(self.scores), None)

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.scores = {}

    def on_value(self, value, record):
        if math.isnan(value):
            return
        name = self.params["checkpoint_name"](record["step"])
        ranked = sorted({**self.scores, name: value}.items(), key=lambda item: item[1], reverse=self.mode == "max")
        self.scores = dict(ranked[: self.save_top_k])

    def on_validation_end(self, record):
        super().on_validation_end(record)
        if self.model.global_step % self.params["steps"]:  # an epoch's end saves when all of it is done
            self._save()

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        self._save()

    def on_train_batch_end(self, batch, logs=None):
        step = self.model.global_step
        if self.every_n_steps and step % self.every_n_steps == 0 and step % self.params["steps"]:
            self._save()

    def on_interrupt(self):
        self._save()

    def _save(self) -> None:
        self.params["save_checkpoint"](keep=self.keep_last)

    def state_dict(self):
        return {"scores": self.scores}

    def load_state_dict(self, state):
        """Takes the scores of the checkpoints that are here: a run that goes on from an older one has a new folder."""
        there = Path(self.params["run_dir"]) / CHECKPOINTS
        self.scores = {name: value for name, value in state["scores"].items() if (there / name).exists()}


def best_of(state: dict) -> str | None:
    """The name of the best checkpoint by the run state of any checkpoint of the run, or None."""
    for key, callback in state["callbacks"]["callbacks"].items():
        if key.startswith(ModelCheckpoint.__name__) and callback.get("scores"):
            return Path(next(iter(callback["scores"]))).name
    return None
