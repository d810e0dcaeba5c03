"""The files of a search: trials.csv, best_config.yaml, TensorBoard's HParams, a page of plots."""

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras_tuner
import numpy as np
import pandas
import yaml
from keras_tuner.engine.trial import Trial
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api
from tensorboard.plugins.hparams.summary_v2 import hparams_config_pb, hparams_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from lightkeras.report import write_report
from lightkeras.tuning import page
from lightkeras.tuning.oracles import PersistentOracle
from lightkeras.tuning.space import parameter_names
from lightkeras.utils.files import write_text

if TYPE_CHECKING:
    from lightkeras.tuning.tuner import Tuner

TRIALS, BEST, PAGE, TENSORBOARD = "trials.csv", "best_config.yaml", "trials.png", "tensorboard"


def tabulate(oracle: PersistentOracle, space: keras_tuner.HyperParameters) -> pandas.DataFrame:
    """Returns a row per trial, in their order."""
    names = parameter_names(space)
    columns = ["trial", "status", "score", "step", "epochs", "seconds", *names, "continues", "run", "reason"]
    return pandas.DataFrame([_row(oracle, trial, names) for trial in oracle.trials.values()], columns=columns)


def _row(oracle: PersistentOracle, trial: Trial, names: list[str]) -> dict:
    result, values = oracle.result(trial.trial_id) or {}, trial.hyperparameters.values
    row = {"trial": trial.trial_id, "status": trial.status, "continues": values.get("tuner/trial_id")}
    row |= {name: result.get(name) for name in ("score", "step", "epochs", "seconds", "run", "reason")}
    return row | {name: values.get(name) for name in names}


class Report:
    """Writes the files of a search, each anew and atomically, and draws the page of plots, which takes longest, seldom.

    Args:
        tuner: The search.
    """

    SECONDS = 10.0  # between two drawings, the last one excepted

    def __init__(self, tuner: "Tuner"):
        self._tuner, self._drawn = tuner, -math.inf

    def write(self, last: bool = False) -> None:
        """Writes every file; the page only if it is old, or if this is the `last` call."""
        tuner, trials = self._tuner, self._tuner.trials()
        write_text(tuner.folder / TRIALS, trials.to_csv(index=False))
        completed = trials[trials.status == "COMPLETED"]
        if len(completed):
            text = yaml.safe_dump(tuner.best_config(), sort_keys=False, allow_unicode=True)
            write_text(tuner.folder / BEST, text)
            if last or time.monotonic() > self._drawn + self.SECONDS:
                page.draw(tuner.folder / PAGE, completed, tuner.objective, tuner.direction, tuner.space)
                self._drawn = time.monotonic()
        if last:
            write_report(tuner.folder)
        for _, row in trials[trials.status.isin(("COMPLETED", "FAILED"))].iterrows():
            _write_hparams(tuner, row)


def _write_hparams(tuner: "Tuner", row: Any) -> None:
    """Writes TensorBoard's HParams of a trial, once."""
    root = tuner.folder / TENSORBOARD
    if not root.exists():
        config = hparams_config_pb(
            [api.HParam(name) for name in parameter_names(tuner.space)], [api.Metric(tuner.objective)]
        )
        _write_event(root, config)
    if not (root / row.trial).exists():
        values = {
            name: _to_python(row[name]) for name in row.index if name.partition(".")[2] and not _is_missing(row[name])
        }
        score = Summary(value=[Summary.Value(tag=tuner.objective, simple_value=row.score)])
        scores = [] if row.status == "FAILED" else [(score, int(row.step))]
        _write_event(root / row.trial, hparams_pb(values, trial_id=row.trial), *scores)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def _to_python(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _write_event(folder: Path, summary: Summary, *later: tuple[Summary, int]) -> None:
    """Writes an event file into `folder`, without TensorFlow, which would occupy the GPU."""
    writer = EventFileWriter(str(folder))
    for part, step in ((summary, 0), *later):
        writer.add_event(Event(summary=part, step=step))
    writer.close()
