"""What a search leaves: trials.csv, best_config.yaml, TensorBoard's HParams, a page of plots."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas
import yaml
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api
from tensorboard.plugins.hparams.summary_v2 import hparams_config_pb, hparams_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from lightkeras.tuning import page
from lightkeras.utils.files import write_text

TRIALS, BEST, PAGE, TENSORBOARD = "trials.csv", "best_config.yaml", "trials.png", "tensorboard"


def frame(oracle: Any, space: Any) -> pandas.DataFrame:
    """A row per trial, in their order."""
    names = list(dict.fromkeys(parameter.name for parameter in space.space))
    return pandas.DataFrame([_row(oracle, trial, names) for trial in oracle.trials.values()], columns=_columns(names))


def _columns(names: list[str]) -> list[str]:
    return ["trial", "status", "score", "step", "epochs", "seconds", *names, "continues", "run", "reason"]


def _row(oracle: Any, trial: Any, names: list[str]) -> dict:
    result, values = oracle.result(trial.trial_id) or {}, trial.hyperparameters.values
    row = {"trial": trial.trial_id, "status": trial.status, "continues": values.get("tuner/trial_id")}
    row |= {name: result.get(name) for name in ("score", "step", "epochs", "seconds", "run", "reason")}
    return row | {name: values.get(name) for name in names}


def write(tuner: Any) -> None:
    """Writes everything anew; the files are whole at any moment."""
    trials = tuner.trials()
    write_text(tuner.folder / TRIALS, trials.to_csv(index=False))
    done = trials[trials.status == "COMPLETED"]
    if len(done):
        text = yaml.safe_dump(tuner.best_config(), sort_keys=False, allow_unicode=True)
        write_text(tuner.folder / BEST, text)
        page.draw(tuner.folder / PAGE, done, tuner.objective, tuner.direction, tuner.space)
    for _, row in trials[trials.status.isin(("COMPLETED", "FAILED"))].iterrows():
        _write_hparams(tuner, row)


def _write_hparams(tuner: Any, row: Any) -> None:
    """TensorBoard's HParams of a trial, once."""
    root = tuner.folder / TENSORBOARD
    if not root.exists():
        names = list(dict.fromkeys(parameter.name for parameter in tuner.space.space))
        config = hparams_config_pb([api.HParam(name) for name in names], [api.Metric(tuner.objective)])
        _write_event(root, config)
    if not (root / row.trial).exists():
        values = {name: _plain(row[name]) for name in row.index if name.partition(".")[2] and not _missing(row[name])}
        score = Summary(value=[Summary.Value(tag=tuner.objective, simple_value=row.score)])
        scores = [] if row.status == "FAILED" else [(score, int(row.step))]
        _write_event(root / row.trial, hparams_pb(values, trial_id=row.trial), *scores)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _write_event(folder: Path, summary: Summary, *later: tuple[Summary, int]) -> None:
    """An event file in `folder`; without TensorFlow, which would take the GPU."""
    writer = EventFileWriter(str(folder))
    for part, step in ((summary, 0), *later):
        writer.add_event(Event(summary=part, step=step))
    writer.close()
