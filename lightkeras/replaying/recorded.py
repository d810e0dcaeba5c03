"""What a run's folder tells of how its updates were made."""

import dataclasses
import functools
import os
import re
from collections.abc import Iterable
from typing import Any

import keras

from lightkeras.checkpoint import Checkpoint, CheckpointError, checkpoints
from lightkeras.configuration import RaisingParser
from lightkeras.data.module import DataModule
from lightkeras.report.record import CONFIG, RunRecord
from lightkeras.runs.folder import CHECKPOINTS
from lightkeras.task import TaskModule
from lightkeras.utils.checks import ArgumentError, require, require_int
from lightkeras.utils.hparams import read_arguments
from lightkeras.utils.messages import logger as messages
from lightkeras.utils.paths import Folder, as_path
from lightkeras.utils.trust import class_path, import_class, trusting

QUIET = {
    "logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
    "num_sanity_val_steps": 0, "checkpoint_every_n_steps": None, "checkpoint_every_seconds": None, "export": None,
    "profiler": None, "hang_timeout": None,
}  # fmt: skip
ORIGIN = "branch.json"  # in the folder of a branch
WITHOUT_END = {"days": 36500}
ONLY_WATCHING = tuple(
    getattr(keras.callbacks, name)
    for name in (
        "BackupAndRestore", "CSVLogger", "EarlyStopping", "History", "ModelCheckpoint", "ProgbarLogger",
        "RemoteMonitor", "TensorBoard", "TerminateOnNaN",
    )
)  # fmt: skip
LEFT_OUT = re.compile(r"^# Not in this file, since made in Python: (.*)$", re.MULTILINE)
THE_DATA = "the data"


@dataclasses.dataclass(frozen=True)
class Arguments:
    """How task and data of a run were made: class and arguments, in their written form."""

    task: dict[str, Any]
    data: dict[str, Any]


class Recorded:
    """A run as its folder holds it. Nothing in the folder changes.

    Args:
        folder: The run's folder.

    Raises:
        ValueError: It is no run's folder.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder: Folder = as_path(folder, "run")
        self.record = RunRecord(self.folder)
        found = self.record.config
        whole = all(isinstance(found.get(part), dict) for part in ("trainer", "task", "data"))
        require(whole, "run", f"a run's folder, with its {CONFIG}", os.fspath(folder))

    @functools.cached_property
    def checkpoints(self) -> dict[int, str]:
        """The paths of the checkpoints by their update, in order."""
        return {int(path.rpartition("_")[2]): path for path in checkpoints(self.folder / CHECKPOINTS)}

    @functools.cached_property
    def last_step(self) -> int:
        """The last update that the folder knows of."""
        return max([0, *self.checkpoints, self.record.rows.step, *(event["step"] for event in self.record.events)])

    @property
    def left_out(self) -> list[str]:
        """What config.yaml does not hold, since it was made in Python."""
        found = LEFT_OUT.search(self.record.config_text)
        return found[1].split(", ") if found else []

    @property
    def log_every_n_steps(self) -> int:
        """Updates of a logging interval."""
        return self.record.config["trainer"].get("log_every_n_steps", 50)

    def require_step(self, step: int) -> None:
        """Raises a ValueError unless the run has made update `step`; updates are counted from 1."""
        require_int("step", step)
        known = f"an update of the run {self.folder}, which made {self.last_step}"
        require(step <= self.last_step, "step", known, step)

    def open_before(self, step: int) -> Checkpoint | None:
        """Opens the newest whole checkpoint from before update `step`; None if there is none.

        Raises:
            ValueError: There is none, and the run is a branch, which does not begin at its beginning.
        """
        for path in [path for at, path in reversed(self.checkpoints.items()) if at < step]:
            try:
                opened = Checkpoint(path)
                opened.verify()
                return opened
            except CheckpointError as error:
                messages.warning("Passed over a damaged checkpoint. %s", error)
        whole = not (self.folder / ORIGIN).exists()
        first = min(self.checkpoints, default="none")
        require(whole, "step", f"after the first checkpoint of a branch, which is that of update {first}", step)
        return None

    def open_after(self, step: int) -> Checkpoint | None:
        """Opens the first checkpoint that is whole from after update `step`, its arrays not read; None without one."""
        for path in [path for at, path in self.checkpoints.items() if at >= step]:
            try:
                return Checkpoint(path)
            except CheckpointError as error:
                messages.warning("Passed over a damaged checkpoint. %s", error)
        return None

    def arguments(self, known: Checkpoint | None) -> Arguments:
        """Returns how task and data were made: as a checkpoint says, or else config.yaml."""
        source = known.state if known else self.record.config
        return Arguments(source["task"], source["data"])

    # ---- the Trainer

    def total_steps(self, step: int) -> int | None:
        """Returns the length, in updates, of the run as it was when update `step` was made; None where unknown."""
        starts = [start.event for start in self.record.starts if start.event["step"] < step]
        return starts[-1].get("total_steps") if starts else None

    def trainer_arguments(self, step: int, trust: Iterable[str] = ()) -> dict[str, Any]:
        """Returns the arguments of a Trainer that makes the updates up to `step` again, and writes nothing."""
        given = dict(self.record.config["trainer"])
        acting = [one for one in given.get("callbacks") or [] if _acts(one, trust)]
        if all(one["class_path"].endswith(".LearningRateScheduler") for one in acting):
            given["limit_val_batches"] = 0
        total = self.total_steps(step)
        if total is not None:
            given |= {"max_steps": total, "max_epochs": None}
        if given.get("max_time") is not None:
            given["max_time"] = WITHOUT_END
        return {**given, **QUIET, "callbacks": _make_callbacks(acting, trust)}

    def all_trainer_arguments(self, trust: Iterable[str] = ()) -> dict[str, Any]:
        """Returns the arguments of the run's own Trainer."""
        given = dict(self.record.config["trainer"])
        return {**given, "callbacks": _make_callbacks(given.get("callbacks") or [], trust)}

    def say_left_out(self, given: Iterable[str]) -> list[str]:
        """Lists what was made in Python and is not `given` again."""
        return [one for one in self.left_out if one != THE_DATA and one not in given]


def _acts(written: dict[str, Any], trust: Iterable[str]) -> bool:
    """Whether a callback may change what is trained, and writes nothing."""
    kind = import_class(written["class_path"], keras.callbacks.Callback, trust)
    ours = class_path(kind).startswith("lightkeras.")
    return not (ours or getattr(kind, "writes_files", False) or issubclass(kind, ONLY_WATCHING))


def _make_callbacks(written: list[dict[str, Any]], trust: Iterable[str]) -> list[keras.callbacks.Callback]:
    if not written:
        return []
    parser = RaisingParser(allow_abbrev=False)
    parser.prepare(trust, {})
    parser.add_argument("--callbacks", type=list[keras.callbacks.Callback])
    return parser.instantiate(parser.parse_object({"callbacks": written})).callbacks


def make_task(written: dict[str, Any], trust: Iterable[str]) -> tuple[TaskModule, tuple[str, ...]]:
    """Makes the task that a file describes; returns it and the packages that are trusted with it."""
    try:
        kind = import_class(written["class_path"], TaskModule, trust)
    except ImportError as error:
        raise ArgumentError(
            f"Expected `task` to be given (--model MODULE:FUNCTION): that of the run is {written['class_path']}, "
            f"which the folder cannot make. Received: task=None. {error}"
        ) from error
    trust = trusting(trust, kind)
    return kind(**read_arguments(written["init_args"], trust)), trust


def make_data(written: dict[str, Any], trust: Iterable[str]) -> DataModule:
    """Makes the data module that a file describes."""
    kind = import_class(written["class_path"], DataModule, trust)
    return kind(**read_arguments(written["init_args"], trust))
