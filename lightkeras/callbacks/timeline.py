"""When the run was started, killed and resumed, and what its time went into."""

import contextlib
import signal
import time

import tensorflow as tf

from lightkeras.callbacks.callback import Callback
from lightkeras.callbacks.log_values import is_speed
from lightkeras.callbacks.model_checkpoint import ModelCheckpoint
from lightkeras.distribution.replicas import num_replicas
from lightkeras.runs import timeline
from lightkeras.utils.paths import RemotePath
from lightkeras.utils.versions import describe_platform, describe_processor, describe_versions


class Timeline(Callback):
    """Writes `timeline.jsonl`: see `lightkeras.runs.timeline`. In a remote folder, starts, saves and ends only."""

    order = 95
    writes_files = chief_only = True

    def __init__(self):
        super().__init__()
        self._written, self._speeds = 0.0, {}

    def on_train_begin(self, logs=None):
        self._add("start", **self._facts())

    def _facts(self) -> dict:
        monitor = next((c.monitor for c in self.run.callbacks.callbacks if isinstance(c, ModelCheckpoint)), None)
        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        return {
            "versions": describe_versions(), "platform": describe_platform(), "processor": describe_processor(),
            "devices": f"{num_replicas(self.model.distribute_strategy)} {kind}", "unit": self.model.unit,
            "monitor": [monitor or self.model.monitor[0], self.model.monitor[1]],
            "steps_per_epoch": self.run.steps_per_epoch, "total_steps": self.model.total_steps,
        }  # fmt: skip

    def on_log(self, record):
        self._speeds = {name: value for name, value in record.items() if is_speed(name)}
        self._progress()

    def on_epoch_end(self, epoch, logs=None):
        self._progress()

    def before_save(self):
        """Writes what is in the checkpoint: a later process may start from it."""
        self._add("progress", **self._spent())

    def _progress(self) -> None:
        now = time.time()
        since = max(1.0, (now - self.run.began) / 1000)
        if now - self._written >= since and not isinstance(self.run.folder, RemotePath):
            self._add("progress", **self._spent())

    def _spent(self) -> dict:
        return {"seconds": self.run.seconds, "speeds": self._speeds}

    def on_train_end(self, logs=None):
        self._add("end", why=self._why(), **self._spent())

    def _why(self) -> str:
        if self.run.interrupted:
            return f"interrupted by {signal.Signals(self.run.interrupted).name}"
        ended_by = f"ended by {self.run.stopped_by}" if self.run.stopped_by else "finished"
        return self.run.reason or ended_by

    def on_exception(self, error):
        with contextlib.suppress(OSError):  # perhaps the disk is what failed; `error` says more
            self._add("end", why=f"{type(error).__name__}: {error}"[:500], **self._spent())

    def _add(self, event: str, **values) -> None:
        self._written = time.time()
        facts = {"event": event, "time": round(self._written, 3), "step": self.model.global_step}
        timeline.append(self.run.folder, {**facts, **values})
