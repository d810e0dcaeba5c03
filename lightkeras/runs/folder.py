"""A run's folder: `ROOT/TASK/NAME/` with config.yaml, metrics.csv, checkpoints, TensorBoard, samples."""

import datetime
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lightkeras.utils import internals
from lightkeras import checkpoint as files
from lightkeras.callbacks.model_checkpoint import CHECKPOINTS, best_of
from lightkeras.checkpoint import CheckpointError
from lightkeras.utils.hparams import class_path, describe
from lightkeras.utils.paths import RemotePath, copy_files, as_path

Folder = Path | RemotePath


def task_name(task_class: type) -> str:
    """The folder of a task's runs: `TextGeneration` -> `text_generation`."""
    return internals.to_snake_case(task_class.__name__)


def trainer_config(trainer: Any) -> tuple[dict[str, Any], list[str]]:
    """The arguments of a Trainer that a file can hold, the seed that it drew among them; and what is left out."""
    given, left_out = dict(trainer.init_args), []
    given["seed"], given["default_root_dir"] = trainer.seed, os.fspath(trainer.default_root_dir)
    if isinstance(trainer.max_time, datetime.timedelta):
        given["max_time"] = {"seconds": trainer.max_time.total_seconds()}
    if not isinstance(trainer.strategy, str):
        left_out.append(class_path(type(given.pop("strategy"))))
    described = {callback: _described(callback) for callback in trainer.callbacks}
    given["callbacks"] = [found for found in described.values() if found] or None
    left_out += [class_path(type(callback)) for callback, found in described.items() if not found]
    return given, left_out


def _described(callback) -> dict | None:
    """What makes the callback again, or None: its arguments are not recorded (made in Python), or no plain values."""
    try:
        return describe(callback) if hasattr(callback, "init_args") else None
    except TypeError:
        return None


def open_run(parent: Folder, config: dict, left_out: list[str], ckpt_path: str | None) -> Folder:
    """The folder for a run: a new one in `parent`, or that of the last checkpoint of a run, which goes on there.

    From an older checkpoint, or one that lies elsewhere, the run goes on in a new folder, so that nothing is lost.

    Args:
        parent: The task's folder.
        config: For config.yaml.
        left_out: What that file cannot hold, named in its first line.
        ckpt_path: The checkpoint that is continued, or None.
    """
    run = as_path(ckpt_path).parent.parent if ckpt_path is not None else None
    if run is not None and ckpt_path == files.latest_checkpoint(run / CHECKPOINTS):
        return run
    folder = _new_folder(parent)
    note = f"# Not in this file, since made in Python: {', '.join(left_out)}\n" if left_out else ""
    plain = json.loads(json.dumps(config, default=_plain))
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    (folder / "config.yaml").write_text(note + text, encoding="utf-8")
    if run is not None:
        _copy_logs(run, folder)
    return folder


def _copy_logs(run: Folder, folder: Folder) -> None:
    """What came after the checkpoint is dropped as the run is continued."""
    if (run / "metrics.csv").exists():
        (folder / "metrics.csv").write_bytes((run / "metrics.csv").read_bytes())
    if (run / "tensorboard").is_dir():
        copy_files(run / "tensorboard", folder / "tensorboard")


def _plain(value: Any) -> Any:
    """A NumPy number as Python's, a path as a string."""
    return value.item() if isinstance(value, np.generic) else os.fspath(value)


def _new_folder(parent: Folder) -> Folder:
    """A folder of its own in `parent`, named by the time."""
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for number in range(1, 1000):
        folder = parent / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
    raise FileExistsError(f"Expected a free name for a run in {parent}. Received: 999 runs of this second")


def is_run(folder: Folder) -> bool:
    """Whether `folder` is a run's folder with a checkpoint in it."""
    return bool(files.checkpoints(folder / CHECKPOINTS))


def newest_run(root: Folder, task_name: str) -> Folder | None:
    """The run of the task that saved last: `root` itself, or one in `root/task_name/`; None where there is none."""
    if is_run(root):
        return root
    runs = [folder for folder in (root / task_name).glob("*") if is_run(folder)]
    return max(runs, key=_saved_at, default=None)


def _saved_at(run: Folder) -> tuple:
    """By the manifest's time: a remote folder has none."""
    manifest = as_path(files.latest_checkpoint(run / CHECKPOINTS)) / "manifest.json"
    return manifest.stat().st_mtime_ns, run.name


def find_checkpoint(ckpt_path: str | Folder, root: Folder, task_name: str, of_run: str = "best") -> str:
    """The checkpoint meant by `ckpt_path`.

    Args:
        ckpt_path: "best" or "last" (of the task's newest run under `root`), a run's folder (see
            `of_run`; without a monitor its last is its best), a run's folder with `/best` or `/last` behind it, or
            a checkpoint's folder.
        root: The `default_root_dir` of the runs.
        task_name: The task's folder under it.
        of_run: Which one a run's folder alone means: "best" to use it, "last" to continue it.

    Raises:
        CheckpointError: There is none; the message says where it was looked for.
    """
    path = as_path(ckpt_path, "ckpt_path")
    if (path / "manifest.json").exists():
        return str(path)
    if is_run(path):
        return _of_run(path, of_run)
    if str(ckpt_path) in ("best", "last"):
        run = newest_run(root, task_name)
        if run is not None:
            return _of_run(run, str(ckpt_path))
        raise CheckpointError(f"Expected a run with a checkpoint in {root / task_name}. Received: none is there")
    if path.name in ("best", "last") and is_run(path.parent):
        return _of_run(path.parent, path.name)
    raise CheckpointError(
        "Expected `ckpt_path` to be a run's folder with a checkpoint in it, a checkpoint's folder, \"best\" or "
        f'"last". Received: ckpt_path={str(ckpt_path)!r}'
    )


def means_last(ckpt_path: str | Folder) -> bool:
    """Whether `ckpt_path`, given to continue a run, leaves it open which checkpoint: that of a run, or its "last"."""
    path = as_path(ckpt_path, "ckpt_path")
    return not (path / "manifest.json").exists() and path.name != "best"


def _of_run(run: Folder, which: str) -> str:
    last = files.latest_checkpoint(run / CHECKPOINTS)
    best = best_of(files.read_state(last)) if which == "best" else None
    return str(run / CHECKPOINTS / best) if best else str(last)
