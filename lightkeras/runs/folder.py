"""A run's folder: `ROOT/TASK/NAME/` with config.yaml, metrics.csv, checkpoints, TensorBoard, samples."""

import csv
import datetime
import json
import os
import secrets
from typing import Any

import numpy as np
import yaml

from lightkeras import checkpoint
from lightkeras.checkpoint import Checkpoint, CheckpointError
from lightkeras.data.brought import BroughtData
from lightkeras.runs.timeline import TIMELINE
from lightkeras.utils import internals
from lightkeras.utils.checks import ArgumentError, lightkeras_error
from lightkeras.utils.hparams import describe
from lightkeras.utils.paths import Folder, RemotePath, as_path, copy_files
from lightkeras.utils.trust import class_path

CHECKPOINTS = "checkpoints"  # in the run's folder
AFTER_ERROR = "after_error"  # in the run's folder: the state that an error left


def task_name(task_class: type) -> str:
    """Names the folder of a task's runs: `TextGeneration` -> `text_generation`."""
    return internals.to_snake_case(task_class.__name__)


def trainer_config(trainer: Any) -> tuple[dict[str, Any], list[str]]:
    """The arguments of a Trainer that a file can hold, the seed that it drew among them; and what is left out."""
    given, left_out = dict(trainer.init_args), []
    given["seed"], given["default_root_dir"] = trainer.seed, os.fspath(trainer.default_root_dir)
    for name in ("max_time", "val_check_interval"):
        if isinstance(given[name], datetime.timedelta):
            given[name] = {"seconds": given[name].total_seconds()}
    if not isinstance(trainer.strategy, str):
        left_out.append(class_path(type(given.pop("strategy"))))
    described = {callback: _described(callback) for callback in trainer.callbacks}
    given["callbacks"] = [found for found in described.values() if found] or None
    left_out += [class_path(type(callback)) for callback, found in described.items() if not found]
    return given, left_out


def _described(callback) -> dict | None:
    """What makes the callback again, or None: its arguments are not recorded (made in Python), or no plain values."""
    try:
        arguments = json.loads(json.dumps(callback.init_args)) if hasattr(callback, "init_args") else None
    except (TypeError, ValueError):
        return None
    return None if arguments is None else {"class_path": class_path(type(callback)), "init_args": arguments}


def open_run(trainer: Any, task: Any, data: Any, ckpt_path: str | None) -> Folder:
    """Opens the folder of a run: a new one, or the folder of the resumed run if `ckpt_path` is its last checkpoint.

    From an older checkpoint, or one that lies elsewhere, the run is resumed in a new folder, so that nothing is lost.

    Args:
        trainer, task, data: Their arguments are written to config.yaml.
        ckpt_path: The checkpoint to resume from, or None.
    """
    run = as_path(ckpt_path).parent.parent if ckpt_path is not None else None
    if run is not None and ckpt_path == checkpoint.latest_checkpoint(run / CHECKPOINTS):
        return run
    arguments, left_out = trainer_config(trainer)
    left_out += ["the data"] if isinstance(data, BroughtData) else []
    config = {"trainer": arguments, "task": task.describe_arguments(), "data": describe(data)}
    note = f"# Not in this file, since made in Python: {', '.join(left_out)}\n" if left_out else ""
    plain = json.loads(json.dumps(config, default=_plain))
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    folder = _new_folder(as_path(trainer.default_root_dir) / task.name_of_runs)
    (folder / "config.yaml").write_text(note + text, encoding="utf-8")
    if run is not None:
        _copy_logs(run, folder)
    return folder


def _copy_logs(run: Folder, folder: Folder) -> None:
    """Copies the logs; rows after the checkpoint are dropped when training begins."""
    for name in ("metrics.csv", TIMELINE):
        if (run / name).exists():
            (folder / name).write_bytes((run / name).read_bytes())
    if (run / "tensorboard").is_dir():
        copy_files(run / "tensorboard", folder / "tensorboard")


def _plain(value: Any) -> Any:
    """A NumPy number as Python's, a path as a string."""
    return value.item() if isinstance(value, np.generic) else os.fspath(value)


def _new_folder(parent: Folder) -> Folder:
    """A folder of its own in `parent`, named by the time."""
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    if isinstance(parent, RemotePath):  # two machines can create the same folder there
        stamp += f"-{secrets.token_hex(4)}"
    for number in range(1, 1000):
        folder = parent / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
    raise lightkeras_error(FileExistsError)(
        f"Expected a free name for a run in {parent}. Received: 999 runs of this second"
    )


def read_metrics(run: Folder, step: int) -> dict[str, float]:
    """Returns the last value of every metric in a run's metrics.csv up to update `step`.

    Raises:
        ValueError: The file holds something else.
    """
    path = run / "metrics.csv"
    if not path.exists():
        return {}
    found = {}
    try:
        for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
            if int(row["step"]) <= step:
                found |= {name: float(value) for name, value in row.items() if value and name not in ("epoch", "step")}
    except (KeyError, TypeError, ValueError) as error:
        raise ArgumentError(f"Expected {path} to hold rows of numbers with a `step`. Received: {error!r}") from error
    return found


def is_run(folder: Folder) -> bool:
    """Returns whether `folder` is a run's folder with a checkpoint in it."""
    return bool(checkpoint.checkpoints(folder / CHECKPOINTS))


def newest_run(root: Folder, task_name: str) -> Folder | None:
    """Finds the run of the task that saved last: `root` itself, or one in `root/task_name/`; None without a run."""
    if is_run(root):
        return root
    runs = [folder for folder in (root / task_name).glob("*") if is_run(folder)]
    return max(runs, key=_saved_at, default=None)


def _saved_at(run: Folder) -> tuple:
    """Sorts by the time of the manifest: a remote folder has none."""
    manifest = as_path(checkpoint.checkpoints(run / CHECKPOINTS)[-1]) / "manifest.json"
    return manifest.stat().st_mtime_ns, run.name


def open_checkpoint(
    ckpt_path: str | os.PathLike, root: Folder | None = None, task_name: str = "", default: str = "best"
) -> Checkpoint:
    """Opens the checkpoint that `ckpt_path` names. It is opened once: its arrays are read on first use.

    Args:
        ckpt_path: A checkpoint's folder; a run's folder, with or without `/best` or `/last` behind it (without a
            monitor, the last checkpoint is the best); or "best" or "last", of the task's newest run under `root`.
        root: The `default_root_dir` of the runs; None accepts folders only.
        task_name: The task's folder under it.
        default: The checkpoint that a run's folder alone means: "best" to use it, "last" to resume it. If the last
            one is damaged, "last" falls back on the one before, with a warning.

    Raises:
        CheckpointError: There is none, it is damaged, or it is of no run; the message says where it was looked for.
    """
    opened = _find_checkpoint(ckpt_path, root, task_name, default)
    _require_run(opened)
    return opened


def _require_run(opened: Checkpoint) -> None:
    """Rejects a checkpoint whose state is not that of a run."""
    types = {
        "task": dict,
        "data": dict,
        "data_state": dict,
        "spec": dict | list,
        "callbacks": dict,
        "seed": int,
        "step": int,
    }
    wrong = [name for name, kind in types.items() if not isinstance(opened.state.get(name), kind)]
    wrong += [] if opened.state.get("spec") else ["spec"]
    for part in ("task", "data"):
        described = {} if part in wrong else opened.state[part]
        if not (isinstance(described.get("class_path"), str) and isinstance(described.get("init_args"), dict)):
            wrong.append(part)
    if wrong:
        names = ", ".join(dict.fromkeys(wrong))
        raise CheckpointError(f"Expected {opened.path} to be a checkpoint of a run. Received: a state without {names}")


def _find_checkpoint(ckpt_path: str | os.PathLike, root: Folder | None, task_name: str, default: str) -> Checkpoint:
    path = as_path(ckpt_path, "ckpt_path")
    if (path / "manifest.json").exists():
        return checkpoint.open_checkpoint(path)
    if is_run(path):
        return _open_in_run(path, default, fall_back=default == "last")
    if root is not None and str(ckpt_path) in ("best", "last"):
        run = newest_run(root, task_name)
        if run is None:
            raise CheckpointError(f"Expected a run with a checkpoint in {root / task_name}. Received: none is there")
        return _open_in_run(run, str(ckpt_path), fall_back=default == "last")
    if path.name in ("best", "last") and is_run(path.parent):
        return _open_in_run(path.parent, path.name, fall_back=default == "last")
    names = ', "best" or "last"' if root is not None else ""
    raise CheckpointError(
        f"Expected `ckpt_path` to be a run's folder with a checkpoint in it, a checkpoint's folder{names}. "
        f"Received: ckpt_path={str(ckpt_path)!r}"
    )


def _open_in_run(run: Folder, which: str, fall_back: bool) -> Checkpoint:
    last = checkpoint.checkpoints(run / CHECKPOINTS)[-1]
    if which == "last":
        return checkpoint.fall_back(last) if fall_back else checkpoint.open_checkpoint(last)
    opened = checkpoint.open_checkpoint(last)
    best = opened.state.get("best")
    return checkpoint.open_checkpoint(run / CHECKPOINTS / best) if best else opened
