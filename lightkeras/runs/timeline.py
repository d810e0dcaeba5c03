"""timeline.jsonl: when a run was started, what its time went into, when and why it ended. A line of JSON per event.

Events: "start" (time, step, versions, monitor, ...), "progress" (time, step, seconds by kind, speeds; before each
checkpoint, and at most one per second and per thousandth of the time since the start), "end" (the same, and why). A
start that has no end was killed. What a process made after the update that a later one started from is lost.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lightkeras.utils.paths import Folder

TIMELINE = "timeline.jsonl"  # in the run's folder
EVENTS = ("start", "progress", "end")
LATEST = 1e11  # seconds since the epoch: no calendar of Python's goes much further

START, TRACING, UPDATES, STALLS = "start", "tracing", "updates", "stalls"
VALIDATION, SAVING, OTHER, LOST = "validation", "saving", "other", "lost"
KINDS: tuple[str, ...] = (START, TRACING, UPDATES, STALLS, VALIDATION, SAVING, OTHER)
_OLD = {"start, with tracing and compiling": START, "checkpoints": SAVING, "samples": OTHER, "report": OTHER}


def append(folder: Folder, event: dict[str, Any]) -> None:
    """Adds an event; a line that a killed process left half-written stays a line of its own."""
    path = folder / TIMELINE
    broken = path.exists() and not path.read_bytes().endswith(b"\n") if event["event"] == "start" else False
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if broken else "") + json.dumps(event) + "\n")


def parse(text: str) -> list[dict[str, Any]]:
    """Reads the events; broken lines are left out."""
    return [event for line in text.splitlines() if (event := _parse_line(line)) is not None]


def read_events(folder: Folder) -> list[dict[str, Any]]:
    """Reads the events of a run's folder; none where it has none."""
    path = folder / TIMELINE
    return parse(path.read_bytes().decode(errors="replace")) if path.exists() else []


def split_processes(events: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Returns the events of each process of a run, from its start on."""
    found: list[list[dict[str, Any]]] = []
    for event in events:
        if event["event"] == "start":
            found.append([event])
        elif found:
            found[-1].append(event)
    return found


# ---- the ledger: what the time went into


def summarize(events: Sequence[dict[str, Any]], step: int | None = None) -> dict[str, Any] | None:
    """Returns what the time of all processes of a run went into; None of a run without events.

    Args:
        events: The run's events.
        step: The update that one more process starts from; None for none.

    Returns:
        `goodput` (the share of useful updates in the time), `seconds` (by kind: "start", "tracing", "updates", "lost"
        (updates that a later process made again), "stalls", "validation", "saving", "other"), `updates`,
        `lost_updates`, `starts` (processes), `processes` (`first`, `last`, `lost_updates` and `seconds` of each).
    """
    until, found = float("inf") if step is None else step, []
    for process in reversed(split_processes(events)):
        found.insert(0, _account(process, until))
        until = min(until, process[0]["step"])
    if not found:
        return None
    seconds = {kind: sum(one["seconds"][kind] for one in found) for kind in (*KINDS, LOST)}
    updates, lost = (sum(count(one) for one in found) for count in (_updates, lambda one: one["lost_updates"]))
    counts = {"updates": updates, "lost_updates": lost, "starts": len(found)}
    return {"goodput": share_of_updates(seconds), "seconds": seconds, **counts, "processes": found}


def read_ledger(run: Folder) -> dict[str, Any] | None:
    """Returns `summarize` of the events in a run's folder; None where it has none."""
    return summarize(read_events(run))


def share_of_updates(seconds: Mapping[str, float]) -> float:
    """Returns the share of useful updates in seconds by kind."""
    everything = sum(seconds.values())
    return seconds[UPDATES] / everything if everything else 0.0


def _updates(process: dict[str, Any]) -> int:
    return process["last"] - process["first"]


def _account(process: list[dict[str, Any]], until: float) -> dict[str, Any]:
    """Adds up a process; its updates after `until` are lost, with their share of the time since the event before."""
    points = [(event["step"], _by_kind(event)) for event in process]
    (first, _), (last, seconds) = points[0], points[-1]
    lost_updates, lost = int(max(0, last - max(until, first))), 0.0
    if lost_updates:
        at, before = [point for point in points if point[0] <= max(until, first)][-1]
        lost = (seconds[UPDATES] - before[UPDATES]) * lost_updates / (last - at)
    kept = {**seconds, UPDATES: seconds[UPDATES] - lost, LOST: lost}
    return {"first": first, "last": last - lost_updates, "lost_updates": lost_updates, "seconds": kept}


def _by_kind(event: dict[str, Any]) -> dict[str, float]:
    """Returns the seconds of an event by kind; earlier versions gave other names, and no updates."""
    given: dict[str, float] = event.get("seconds", {})
    seconds = dict.fromkeys(KINDS, 0.0)
    for name, value in given.items():
        kind = _OLD.get(name, name)
        seconds[kind if kind in KINDS else OTHER] += value
    if UPDATES not in given:
        seconds[UPDATES] = max(0.0, event.get("elapsed", 0.0) - sum(given.values()))
    return seconds


# ---- reading


def _parse_line(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict):
        return None
    event = {name: value for name, value in event.items() if name in FIELDS and FIELDS[name](value)}
    return event if {"event", "time", "step"} <= event.keys() else None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value < LATEST


def _is_dict_of(is_value: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda values: isinstance(values, dict) and all(map(is_value, values.values()))


FIELDS: dict[str, Callable[[Any], bool]] = {  # others, and those of another kind, are left out when they are read
    "event": lambda value: value in EVENTS, "time": _is_number, "elapsed": _is_number, "step": _is_count,
    "steps_per_epoch": _is_count, "total_steps": _is_count, "seconds": _is_dict_of(_is_number),
    "speeds": _is_dict_of(_is_number), "versions": _is_dict_of(_is_text), "why": _is_text, "platform": _is_text,
    "processor": _is_text,
    "devices": _is_text, "unit": _is_text,
    "monitor": lambda value: isinstance(value, list) and len(value) == 2 and all(map(_is_text, value)),
}  # fmt: skip
