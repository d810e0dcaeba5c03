"""The base of loggers that send a run to a tracker: one run there, however often it is killed and resumed."""

import csv
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from lightkeras.callbacks.callback import Callback
from lightkeras.callbacks.log_values import numbers_of
from lightkeras.callbacks.sample_writer import find_samples
from lightkeras.callbacks.sender import Sender
from lightkeras.checkpoint import latest_checkpoint
from lightkeras.runs.folder import CHECKPOINTS
from lightkeras.runs.options import flatten_options
from lightkeras.utils.checks import LightkerasError, require
from lightkeras.utils.messages import logger
from lightkeras.utils.paths import as_local

FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"


class TrackerError(LightkerasError, RuntimeError):
    """A tracker that does not take the run."""


class Tracker(Callback):
    """Sends parameters, metrics, samples and the best checkpoint of a run to a tracker, beside the training.

    Of each update, the tracker gets one row with all its metrics. Its run id is in the checkpoints: a resumed run goes
    on in the same tracker run, which gets the rows of `metrics.csv` that it lacks, and no row twice. A run that is
    resumed in a new folder, from an older checkpoint, is a new tracker run.

    Args:
        log_model: Send the best checkpoint (or the last, without a monitor) when training has ended.

    Attributes:
        title: The tracker's name.
        run_id: The tracker's id of the run; None before the first epoch.
    """

    title = ""
    order = 60  # after the samples are written, before the checkpoint is
    writes_files = chief_only = outlives_end = True
    run_id: str | None = None

    def __init__(self, log_model: bool = True):
        super().__init__()
        require(isinstance(log_model, bool), "log_model", "True or False", log_model)
        self.log_model, self._open = log_model, False

    # ---- what a tracker does

    def open_run(self, run_id: str | None) -> str:
        """Creates a tracker run, or goes on in the one of `run_id`; returns its id."""
        raise NotImplementedError

    def send_parameters(self, values: dict[str, str]) -> None:
        """Sends the run's arguments, flattened."""
        raise NotImplementedError

    def send_row(self, step: int, values: dict[str, float], files: list[Path]) -> None:
        """Sends the metrics of update `step`, and samples, but for what the tracker has already."""
        raise NotImplementedError

    def send_checkpoint(self, folder: Path) -> None:
        """Sends a checkpoint's folder."""
        raise NotImplementedError

    def close_run(self, status: str) -> None:
        """Ends the tracker run as FINISHED, FAILED or KILLED."""
        raise NotImplementedError

    def is_finished(self, run_id: str) -> bool:
        """Returns whether the tracker run has ended well before."""
        raise NotImplementedError

    def is_final(self, error: Exception) -> bool:
        """Returns whether what raised this error can never be sent."""
        return isinstance(error, ValueError | TypeError | FileNotFoundError)

    # ---- the hooks

    def on_train_begin(self, logs=None):
        self.run_id, self._saved_id, self._row, self._open = None, None, None, False
        self._sender = Sender(self.title, self.is_final)

    def on_epoch_begin(self, epoch, logs=None):
        if not self._open:
            self._begin()

    def on_log(self, record):
        self._add(record)

    def on_validation_end(self, record):
        self._add(record)  # the samples of the update may follow

    def on_epoch_end(self, epoch, logs=None):
        record = {"epoch": epoch, "step": self.model.global_step}
        if samples := find_samples(self.run.folder, epoch):
            self._add(record, samples)
        self._flush()

    def before_save(self):
        """Sends what is complete; without metrics.csv, from which a resumed run sends it again, waits for it."""
        self._flush()
        if not (self.run.folder / "metrics.csv").exists():
            self._sender.finish()

    def on_train_end(self, logs=None):
        if not self._open and self._saved_id and self.is_finished(self._saved_id):
            return  # nothing was left to do
        if not self._open:
            self._begin()
        self._end(KILLED if self.run.interrupted else FINISHED)

    def on_exception(self, error):
        if self._open:
            self._end(KILLED if isinstance(error, KeyboardInterrupt) else FAILED)

    def state_dict(self):
        return {"run_id": self.run_id or self._saved_id}

    def load_state_dict(self, state):
        """Goes on in the saved tracker run, unless the run is resumed in a new folder."""
        if latest_checkpoint(self.run.folder / CHECKPOINTS) is not None:
            self._saved_id = state["run_id"]

    # ---- the run

    def _begin(self) -> None:
        """Opens the tracker run, before the first update.

        Raises:
            TrackerError: The tracker does not answer, or refuses.
        """
        try:
            self.run_id = self.open_run(self._saved_id)
        except LightkerasError:
            raise
        except Exception as error:  # each client has its own
            which = f"run {self._saved_id}" if self._saved_id else "a new run"
            raise TrackerError(
                f"Expected {self.title} to take {which}. Received: {type(error).__name__}: {error}"
            ) from error
        self._open = True
        if self._saved_id is None:
            self._sender.put(functools.partial(self.send_parameters, read_parameters(self.run.folder)))
        for record in read_records(self.run.folder, self.model.global_step):
            ends = record["step"] % self.run.steps_per_epoch == 0
            self._add(record, find_samples(self.run.folder, record["epoch"]) if ends else [])

    def _add(self, record: dict, samples: list[str] | None = None) -> None:
        """Adds to the row of the record's update; an earlier row is complete then."""
        step = record["step"]
        if self._row and self._row[0] != step:
            self._flush()
        _, values, files = self._row or (step, {}, [])
        values.update({name: value for name, value in numbers_of(record).items() if name != "step"})
        self._row = step, values, list(dict.fromkeys([*files, *(samples or [])]))

    def _flush(self) -> None:
        """Sends the row."""
        if self._row:
            row, self._row = self._row, None
            self._sender.put(functools.partial(self._send, *row))

    def _send(self, step: int, values: dict[str, float], samples: list[str]) -> None:
        if not samples:
            self.send_row(step, values, [])
            return
        with as_local(self.run.folder / "samples") as folder:
            self.send_row(step, values, [folder / name for name in samples])

    def _send_best(self, name: str) -> None:
        with as_local(self.run.folder / CHECKPOINTS / name) as folder:
            self.send_checkpoint(folder)

    def _end(self, status: str) -> None:
        self._flush()
        if status == FINISHED and self.log_model:
            if self.run.saver:
                self.run.saver.wait()
            best = [*self.run.callbacks.protected_checkpoints(), *_last(self.run.folder)]
            for name in best[:1]:
                self._sender.put(functools.partial(self._send_best, name))
        self._sender.put(functools.partial(self.close_run, status))
        self._open = False
        if waiting := self._sender.finish():
            logger.warning(
                "%s did not take the last %d parts of this run. metrics.csv has all metrics of it; when %s answers, "
                "resume the run with ckpt_path=%r, and they are sent.",
                self.title, waiting, self.title, str(self.run.folder),
            )  # fmt: skip
        self._sender.close()


def _last(folder) -> list[str]:
    last = latest_checkpoint(folder / CHECKPOINTS)
    return [Path(last).name] if last else []


# ---- what is sent


def read_parameters(folder) -> dict[str, str]:
    """Reads the run's arguments from its config.yaml, flattened: "task" (the class), "task.units", "trainer.seed"."""
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in flatten_options(config)}


def read_records(folder, step: int) -> Iterator[dict[str, Any]]:
    """Yields the rows of a run's metrics.csv up to update `step`, as records."""
    path = folder / "metrics.csv"
    if not path.exists():
        return
    for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
        if int(row["step"]) <= step:
            record = {name: _to_number(value) for name, value in row.items() if value}
            yield {**record, "epoch": int(row["epoch"]), "step": int(row["step"])}


def _to_number(cell: str) -> float:
    return float(cell == "True") if cell in ("True", "False") else float(cell)
