"""One trial: an ordinary run in a folder of its own, begun, gone on with, or taken over from an earlier trial."""

import contextlib
import gc
import logging
import shutil
import time
import traceback
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from lightkeras import checkpoint as checkpoints
from lightkeras.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightkeras.callbacks.model_checkpoint import CHECKPOINTS
from lightkeras.configuration import Configuration
from lightkeras.runs import folder as run_folder
from lightkeras.tuning.progress import ObjectiveError, TrialProgress, best
from lightkeras.utils.files import JOB, LOG, RESULT, failed_result, locked, read_json, write_json

COMPLETED, UNFINISHED = "COMPLETED", "UNFINISHED"


def run_trial(folder: Path, seconds: float | None = None) -> dict:
    """Runs the trial whose `job.json` is in `folder`, or goes on with it; what it prints goes to `log.txt`.

    Args:
        folder: The trial's folder. No two processes run it at once.
        seconds: What is left of the search's time; None for no limit.

    Returns:
        What is in `result.json` after a trial that has ended: "status", COMPLETED or FAILED (then with its "reason"),
        "score" and "step" (of the objective's best value), "values" (steps and values), "seconds" and "run" (the run's
        folder). After one that has not ended, "status" UNFINISHED and the "signal" that stopped it, or None.
    """
    with locked(folder, True, "the trial"):
        result = read_json(folder / RESULT)
        if result is not None:
            return result
        began = time.monotonic()
        with (folder / LOG).open("a", encoding="utf-8") as log, contextlib.redirect_stdout(log):
            result = _run(read_json(folder / JOB), folder, seconds)
        result["seconds"] = time.monotonic() - began
        if result["status"] != UNFINISHED:
            write_json(folder / RESULT, result)
        return result


def _run(job: dict, folder: Path, seconds: float | None) -> dict:
    keras.utils.clear_session()  # the trial before may have filled the memory
    gc.collect()
    logger = tf.get_logger()
    logger.addFilter(_is_no_retracing)
    try:
        return _trained(job, folder, seconds)
    except Exception as error:  # of whatever kind: it ends this trial alone, and is recorded
        print(traceback.format_exc(), flush=True)
        return failed_result(reason_of(error))
    finally:
        logger.removeFilter(_is_no_retracing)


def _is_no_retracing(record: logging.LogRecord) -> bool:
    """Each trial traces functions of its own, which TensorFlow takes for one that is traced again and again."""
    return "triggered tf.function retracing" not in record.getMessage()


def reason_of(error: BaseException) -> str:
    """An error in a line of at most 500 characters."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]


def _trained(job: dict, folder: Path, seconds: float | None) -> dict:
    configuration, arguments = Configuration.read(job["config"])
    name = run_folder.task_name(configuration.task_class)
    if job["continues"] is not None:
        _take_over(Path(job["continues"]), folder, name)
    progress = TrialProgress(job["objective"], job["direction"])
    progress.max_epochs, progress.seconds = job["max_epochs"], seconds
    objects = configuration.build(_run_config(arguments, folder))
    trainer = objects.trainer
    trainer.callbacks += [*_ranking(job, trainer), progress]
    there = run_folder.newest_run(folder, name)
    if there is None or not _is_over(there, job["max_epochs"], trainer.callbacks):
        trainer.fit(objects.task, objects.data, ckpt_path="auto")
        there = trainer.run_dir
        if trainer.interrupted or progress.cut:
            return {"status": UNFINISHED, "signal": trainer.interrupted}
    return _result(_saved(there), job, there)


_INTERVALS = {"every_n_steps": "checkpoint_every_n_steps", "every_seconds": "checkpoint_every_seconds"}


def _run_config(config: dict[str, dict], folder: Path) -> dict[str, dict]:
    """The configuration of a run in `folder`; checkpoints' intervals are for the ModelCheckpoint of `_ranking`."""
    own = {"default_root_dir": str(folder), **dict.fromkeys(_INTERVALS.values())}
    return {**config, "trainer": {**config["trainer"], **own}}


def _ranking(job: dict, trainer: Any) -> list[Callback]:
    """A ModelCheckpoint that ranks by the objective, unless there is one already."""
    if any(isinstance(callback, ModelCheckpoint) for callback in trainer.callbacks):
        return []
    intervals = {name: job["config"]["trainer"][argument] for name, argument in _INTERVALS.items()}
    given = {name: value for name, value in intervals.items() if value is not None}
    return [ModelCheckpoint(job["objective"], job["direction"], **given)]


def _take_over(earlier: Path, folder: Path, name: str) -> None:
    """Copies the run of an earlier trial, whose budget is raised: the copy is there as a whole or not at all.

    Raises:
        FileNotFoundError: The earlier trial's folder, or its run's, is gone.
    """
    if (folder / name).exists():
        return
    run = run_folder.newest_run(earlier, name)
    if run is None:
        raise FileNotFoundError(f"Expected the run of the earlier trial in {earlier / name}. Received: none is there")
    copy = folder / ".copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(run, copy / run.name)
    copy.rename(folder / name)


def _saved(run: Path) -> dict:
    return checkpoints.read_state(checkpoints.latest_checkpoint(run / CHECKPOINTS))


def _is_over(run: Path, max_epochs: int | None, callbacks: list) -> bool:
    """Whether the run has come to its end by the epochs that it may have, or by EarlyStopping, and not by a kill."""
    state = _saved(run)
    if max_epochs is not None and state["step"] >= max_epochs * state["steps_per_epoch"]:
        return True
    patience = [callback.patience for callback in callbacks if isinstance(callback, EarlyStopping)]
    waits = [s["wait"] for key, s in state["callbacks"]["callbacks"].items() if key.startswith("EarlyStopping-")]
    return any(wait >= most for wait, most in zip(waits, patience, strict=False))


def _result(state: dict, job: dict, run: Path) -> dict:
    """The result of a run that has ended, by its last checkpoint."""
    values = state["callbacks"]["callbacks"][f"{TrialProgress.__name__}-1"]["values"]
    if not values:
        raise ObjectiveError(f"Expected a value of {job['objective']}. Received: none was logged in the whole run")
    step, score = best(values, job["direction"])
    return {
        "status": COMPLETED, "reason": None, "score": score, "step": step, "values": values,
        "epochs": state["step"] / state["steps_per_epoch"], "run": str(run.relative_to(Path(run).parent.parent)),
    }  # fmt: skip


class _Names(Callback):
    """Learns which metrics there are."""

    names: list[str] = []

    def on_train_begin(self, logs=None):
        self.names = self.params["metric_names"]


def metric_names(job: dict) -> list[str]:
    """Every metric that a run logs, found by a run of one batch of training and one of validation, nothing written."""
    configuration, arguments = Configuration.read(job["config"])
    arguments["trainer"] |= {"fast_dev_run": 1, "enable_progress_bar": False, "enable_model_summary": False}
    objects = configuration.build(arguments)
    names = _Names()
    objects.trainer.callbacks.append(names)
    objects.trainer.fit(objects.task, objects.data)
    keras.utils.clear_session()
    return names.names
