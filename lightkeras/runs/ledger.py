"""The ledger of a run's time: what each of its processes spent its seconds on, kept across kills in `goodput.json`."""

import datetime
import time
from typing import Any

from lightkeras.utils.files import read_json, write_json
from lightkeras.utils.messages import logger
from lightkeras.utils.paths import Folder

FILE = "goodput.json"  # in the run's folder
START, TRACING, UPDATES, STALLS = "start", "tracing", "updates", "stalls"
VALIDATION, SAVING, OTHER = "validation", "saving", "other"
KINDS = (START, TRACING, UPDATES, STALLS, VALIDATION, SAVING, OTHER)
MARKS = 4  # checkpoints whose time is kept, of the newest


class Ledger:
    """The time of one process of a run, and of those before it.

    Args:
        folder: The run's folder; None keeps nothing on the disk.
        step: The update after which this process goes on: what earlier ones made after it is lost.
    """

    def __init__(self, folder: Folder | None, step: int):
        self._path = folder / FILE if folder is not None else None
        self._before = _read_processes(self._path, step)
        self._seconds: dict[str, float] = dict.fromkeys(KINDS, 0.0)
        self._first, self._last = step, step
        self._marks: list[list[float]] = [[step, 0.0]]
        self._began = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._written = time.monotonic()

    def add(self, kind: str, seconds: float, step: int) -> None:
        """Adds seconds of a kind; `step` updates of the run are made by now."""
        self._seconds[kind] += seconds
        self._last = step

    def mark(self) -> None:
        """Notes that the updates so far are in a checkpoint."""
        self._marks = [*self._marks[1 - MARKS :], [self._last, self._seconds[UPDATES]]]

    def write(self, at_least: float = 0.0) -> None:
        """Writes the file, unless it was written within the last `at_least` seconds."""
        if self._path is None or time.monotonic() - self._written < at_least:
            return
        write_json(self._path, {**self.summary(), "processes": [*self._before, self._record()]})
        self._written = time.monotonic()

    def _record(self) -> dict[str, Any]:
        return {
            "began": self._began, "first": self._first, "last": self._last, "lost_updates": 0,
            "seconds": {**self._seconds, "lost": 0.0}, "marks": self._marks,
        }  # fmt: skip

    def summary(self) -> dict[str, Any]:
        """Returns what `read_ledger` does, of the run up to now."""
        return _summarize([*self._before, self._record()])


def _read_processes(path: Folder | None, step: int) -> list[dict[str, Any]]:
    """Returns the processes of the file, what they made after `step` as lost; none of a damaged file, which is kept."""
    if path is None or not path.exists():
        return []
    try:
        processes = [_without_lost(one, step) for one in read_json(path)["processes"]]
        _summarize(processes)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        kept = path.parent / f"damaged_{path.name}"
        path.replace(kept)
        text = "Earlier processes of this run are not in %s: it was damaged (%r), and is %s now"
        logger.warning(text, FILE, error, kept)
        return []
    return processes


def _without_lost(process: dict[str, Any], step: int) -> dict[str, Any]:
    """Moves the time of an earlier process's updates after `step` to what is lost."""
    last, seconds = process["last"], process["seconds"]
    lost_updates = max(0, last - max(step, process["first"]))
    if not lost_updates:
        return process
    marks = [mark for mark in process["marks"] if mark[0] <= step] or [[process["first"], 0.0]]
    at, before = marks[-1]
    lost = (seconds[UPDATES] - before) * lost_updates / max(1, last - at)
    kept = {**seconds, UPDATES: seconds[UPDATES] - lost, "lost": seconds["lost"] + lost}
    counts = {"last": last - lost_updates, "lost_updates": process["lost_updates"] + lost_updates}
    return {**process, **counts, "seconds": kept, "marks": marks}


def _summarize(processes: list[dict[str, Any]]) -> dict[str, Any]:
    totals = {kind: sum(one["seconds"][kind] for one in processes) for kind in (*KINDS, "lost")}
    everything = sum(totals.values())
    return {
        "goodput": totals[UPDATES] / everything if everything else 0.0,
        "seconds": totals,
        "updates": sum(one["last"] - one["first"] for one in processes),
        "lost_updates": sum(one["lost_updates"] for one in processes),
        "starts": len(processes),
    }


def read_ledger(run: Folder) -> dict[str, Any] | None:
    """Returns the ledger of a run's folder; None where it has none.

    Returns:
        `goodput` (the share of useful updates in the time of all of the run's processes), `seconds` (by kind: "start",
        "tracing", "updates", "lost" (updates that a later process made again), "stalls", "validation", "saving",
        "other"), `updates`, `lost_updates`, `starts` (processes), `processes` (the same of each).
    """
    return read_json(run / FILE)
