"""What a run's folder tells: read without TensorFlow, while the run trains or after it broke, of any version."""

import dataclasses
import datetime
import functools
import json
import os
import socket
from typing import Any

import yaml

from lightkeras.report.blocks import Section, from_json
from lightkeras.report.files import names_of, read_bytes, read_text
from lightkeras.report.rows import Rows, parse_rows
from lightkeras.runs import timeline
from lightkeras.runs.lock import LOCK
from lightkeras.runs.options import flatten_options
from lightkeras.utils.paths import Folder

CONFIG, METRICS, SECTIONS = "config.yaml", "metrics.csv", "sections.json"


@dataclasses.dataclass(frozen=True)
class Start:
    """One process of a run.

    Attributes:
        event: Its "start" in the timeline.
        last: The last event that it wrote.
        ended: Why it ended; None if it wrote no end.
    """

    event: dict[str, Any]
    last: dict[str, Any]
    ended: str | None


class RunRecord:
    """Reads a run's folder, each file when it is first needed. What is missing or broken is empty.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Folder):
        self.folder = folder

    @property
    def name(self) -> str:
        """`TASK / NAME`, as its folders are called."""
        return " / ".join(names_of(self.folder))

    @functools.cached_property
    def config_text(self) -> str:
        """config.yaml as it is."""
        return read_text(self.folder, CONFIG) or ""

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The values of config.yaml, by parts."""
        try:
            found = yaml.safe_load(self.config_text)
        except yaml.YAMLError:
            return {}
        return found if isinstance(found, dict) else {}

    @functools.cached_property
    def options(self) -> dict[str, Any]:
        """Every argument by its full name: "task.units"."""
        return dict(flatten_options(self.config))

    @functools.cached_property
    def rows(self) -> Rows:
        """The values of metrics.csv."""
        return parse_rows(read_bytes(self.folder, METRICS) or b"")

    @functools.cached_property
    def starts(self) -> list[Start]:
        """The processes of the run, in order; none of a run of an earlier version."""
        found = timeline.split_processes(self.events)
        return [Start(e[0], e[-1], e[-1].get("why") if e[-1]["event"] == "end" else None) for e in found]

    @functools.cached_property
    def events(self) -> list[dict[str, Any]]:
        """The events of the timeline."""
        return timeline.parse(read_text(self.folder, timeline.TIMELINE) or "")

    @functools.cached_property
    def holder(self) -> dict[str, Any] | None:
        """Who trains in the folder now, by its lock: process, machine, since; None for nobody.

        It only reads: taking the lock, for a moment, might keep the run from being resumed.
        """
        try:
            holder = json.loads(read_text(self.folder, LOCK) or "null")
        except ValueError:
            return None
        if not isinstance(holder, dict) or not isinstance(holder.get("process"), int):
            return None
        here = holder.get("machine") == socket.gethostname()
        return holder if not here or _is_alive(holder["process"]) else None

    @functools.cached_property
    def state(self) -> dict[str, Any]:
        """The JSON state of the newest checkpoint that can be read; empty without one."""
        folder = self.folder / "checkpoints"
        for one in sorted(folder.glob("step_*"), key=lambda path: path.name, reverse=True) if folder.is_dir() else ():
            try:
                return dict(json.loads(read_text(one, "manifest.json") or "")["state"])
            except (ValueError, KeyError, TypeError):
                continue
        return {}

    @functools.cached_property
    def sections(self) -> list[Section]:
        """The sections that the task gave last."""
        try:
            return [from_json(one) for one in json.loads(read_text(self.folder, SECTIONS) or "[]")]
        except (ValueError, KeyError, TypeError, AttributeError):
            return []

    @property
    def monitor(self) -> tuple[str, str] | None:
        """The metric by which the run is judged, and "min" or "max"; None where none is logged."""
        given = self.starts[-1].event.get("monitor") if self.starts else None
        if given and given[0] in self.rows.columns:
            return given[0], given[1]
        return next(((name, "min") for name in ("val_loss", "loss") if name in self.rows.columns), None)

    @property
    def status(self) -> str:
        """One word or more: running, finished, interrupted, killed, ..."""
        if self.starts and self.starts[-1].ended:
            return self.starts[-1].ended
        if self.holder:
            return "running"
        return "killed" if self.starts else "ended"


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def clock_time(seconds: float) -> str:
    """The local time of a time in seconds since the epoch: `2026-11-23 12:00:00`."""
    return datetime.datetime.fromtimestamp(seconds).isoformat(" ", "seconds")
