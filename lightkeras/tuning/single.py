"""One trial: an ordinary run in a folder of its own, started, resumed, or continued from an earlier trial's run."""

import contextlib
import logging
import shutil
import time
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from lightkeras.callbacks import Callback, ModelCheckpoint
from lightkeras.callbacks.model_checkpoint import CHECKPOINTS
from lightkeras.checkpoint import checkpoints, open_checkpoint
from lightkeras.runs.folder import newest_run
from lightkeras.trainer import Trainer
from lightkeras.tuning.progress import ObjectiveError, TrialProgress, best_value
from lightkeras.tuning.subjects import read_subject
from lightkeras.tuning.trial_files import JOB, LOCK, LOG, RESULT, failed_result
from lightkeras.utils import internals
from lightkeras.utils.checks import lightkeras_error
from lightkeras.utils.files import locked, read_json, write_json
from lightkeras.utils.paths import Folder

COMPLETED, UNFINISHED = "COMPLETED", "UNFINISHED"


def run_trial(folder: Path, seconds: float | None = None, trust: Iterable[str] = (), subject: Any = None) -> dict:
    """Runs or resumes the trial whose `job.json` is in `folder`; its output is appended to `log.txt`.

    Args:
        folder: The trial's folder. No two processes run the trial at once.
        seconds: Seconds left of the search's time; None for no limit.
        trust: What the job may name, beside what the environment trusts; see `utils.trust`.

    Returns:
        The content of `result.json` if the trial has ended: "status", COMPLETED or FAILED (then with its "reason"),
        "score" and "step" (of the objective's best value), "values" (steps and values), "seconds" and "run" (the run's
        folder). Else "status" UNFINISHED and the "signal" that stopped it, or None.
    """
    with locked(folder / LOCK):
        result = read_json(folder / RESULT)
        if result is not None:
            return result
        began = time.monotonic()
        with (folder / LOG).open("a", encoding="utf-8") as log, contextlib.redirect_stdout(log):
            result = _run_job(read_json(folder / JOB), folder, seconds, trust, subject)
        result["seconds"] = time.monotonic() - began
        if result["status"] != UNFINISHED:
            write_json(folder / RESULT, result)
        return result


def _run_job(job: dict, folder: Path, seconds: float | None, trust: Iterable[str], subject: Any) -> dict:
    keras.utils.clear_session()  # the trial before may have filled the memory; this collects garbage too
    logger = tf.get_logger()
    logger.addFilter(_is_no_retracing)
    try:
        with internals.dropping_custom_gradients():
            return _train(job, folder, seconds, trust, subject)
    except Exception as error:  # of any kind: it ends only this trial, and is recorded
        print(traceback.format_exc(), flush=True)
        return failed_result(describe_error(error))
    finally:
        logger.removeFilter(_is_no_retracing)


def _is_no_retracing(record: logging.LogRecord) -> bool:
    """Drops TensorFlow's warning of retracing: it takes the functions of several trials for one function."""
    return "triggered tf.function retracing" not in record.getMessage()


def describe_error(error: BaseException) -> str:
    """Describes an error in a line of at most 500 characters."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]


def _train(job: dict, folder: Path, seconds: float | None, trust: Iterable[str], subject: Any) -> dict:
    """Trains until the trial's end, unless the run has ended already; returns the trial's result."""
    subject, arguments = (subject, dict(job["config"])) if subject else read_subject(job["config"], trust)
    objects = subject.prepare(_run_config(arguments, folder))
    if job["continues"] is not None:
        _copy_run(Path(job["continues"]), folder, objects.name)
    progress = TrialProgress(job["objective"], job["direction"])
    progress.max_epochs, progress.seconds = job["max_epochs"], seconds
    trainer, name = objects.trainer, objects.name
    trainer.callbacks += [*_ranking_callbacks(job, trainer), progress]
    run = newest_run(folder, name)
    if run is None or not _has_ended(_last_state(run), job["max_epochs"]):
        objects.fit("auto")
        run = trainer.run_dir
        if trainer.interrupted or progress.time_is_up:
            return {"status": UNFINISHED, "signal": trainer.interrupted}
    return _make_result(_last_state(run), job, run)


_INTERVALS = {"every_n_steps": "checkpoint_every_n_steps", "every_seconds": "checkpoint_every_seconds"}


def _run_config(config: dict[str, dict], folder: Path) -> dict[str, dict]:
    """Sets the run's folder; the intervals of checkpoints are for the ModelCheckpoint of `_ranking_callbacks`."""
    changes = {"default_root_dir": str(folder), **dict.fromkeys(_INTERVALS.values())}
    return {**config, "trainer": {**config["trainer"], **changes}}


def _ranking_callbacks(job: dict, trainer: Trainer) -> list[Callback]:
    """Makes a ModelCheckpoint that ranks by the objective, unless there is a ModelCheckpoint already."""
    if any(isinstance(callback, ModelCheckpoint) for callback in trainer.callbacks):
        return []
    intervals = {name: job["config"]["trainer"][argument] for name, argument in _INTERVALS.items()}
    intervals = {name: value for name, value in intervals.items() if value is not None}
    return [ModelCheckpoint(job["objective"], job["direction"], **intervals)]


def _copy_run(earlier: Path, folder: Path, name: str) -> None:
    """Copies the run of an earlier trial, whose budget is raised; the copy appears as a whole.

    Raises:
        FileNotFoundError: The earlier trial's folder, or its run's, is gone.
    """
    if (folder / name).exists():
        return
    run = newest_run(earlier, name)
    if run is None:
        raise lightkeras_error(FileNotFoundError)(
            f"Expected the run of the earlier trial in {earlier / name}. Received: none is there"
        )
    copy = folder / ".copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(run, copy / run.name)
    copy.rename(folder / name)


def _last_state(run: Folder) -> dict[str, Any]:
    return open_checkpoint(checkpoints(run / CHECKPOINTS)[-1]).state


def _has_ended(state: dict[str, Any], max_epochs: int | None) -> bool:
    """Returns whether the run has reached the epochs that the trial may have, or a callback has ended it for good."""
    out_of_epochs = max_epochs is not None and state["step"] >= max_epochs * state["steps_per_epoch"]
    return out_of_epochs or state["stopped_by"] is not None


def _make_result(state: dict[str, Any], job: dict, run: Folder) -> dict:
    """Makes the result of a run that has ended, from its last checkpoint."""
    values = state["callbacks"]["callbacks"][f"{TrialProgress.__name__}-1"]["values"]
    if not values:
        raise ObjectiveError(f"Expected a value of {job['objective']}. Received: none was logged in the whole run")
    step, score = best_value(values, job["direction"])
    return {
        "status": COMPLETED, "reason": None, "score": score, "step": step, "values": values,
        "epochs": state["step"] / state["steps_per_epoch"], "run": f"{run.parent.name}/{run.name}",
    }  # fmt: skip


class _NamesRecorder(Callback):
    """Keeps the names of the run's metrics."""

    names: list[str] = []

    def on_train_begin(self, logs=None):
        self.names = self.run.metric_names


def find_metric_names(job: dict, trust: Iterable[str] = (), subject: Any = None) -> list[str]:
    """Runs one batch of training and one of validation, without writing; returns the name of every logged metric."""
    subject, arguments = (subject, dict(job["config"])) if subject else read_subject(job["config"], trust)
    fast = {"fast_dev_run": 1, "enable_progress_bar": False, "enable_model_summary": False}
    arguments["trainer"] = {**arguments["trainer"], **fast}
    objects = subject.prepare(arguments)
    recorder = _NamesRecorder()
    objects.trainer.callbacks.append(recorder)
    objects.fit()
    keras.utils.clear_session(free_memory=False)  # the trial that follows collects garbage
    return recorder.names
