"""timeline.jsonl: when a run was started, how far it was, when and why it ended. A line of JSON per event.

Events: "start" (time, step, versions, monitor, ...), "progress" (time, step, seconds spent on each activity, speeds; at
most one per second and per thousandth of the time since the start), "end" (the same, and why). A start that has no end
was killed.
"""

import json
from collections.abc import Callable
from typing import Any

from lightkeras.utils.paths import Folder

TIMELINE = "timeline.jsonl"  # in the run's folder
EVENTS = ("start", "progress", "end")
LATEST = 1e11  # seconds since the epoch: no calendar of Python's goes much further


def append(folder: Folder, event: dict[str, Any]) -> None:
    """Adds an event; a line that a killed process left half-written stays a line of its own."""
    path = folder / TIMELINE
    broken = path.exists() and not path.read_bytes().endswith(b"\n") if event["event"] == "start" else False
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if broken else "") + json.dumps(event) + "\n")


def parse(text: str) -> list[dict[str, Any]]:
    """Reads the events; broken lines are left out."""
    return [event for line in text.splitlines() if (event := _parse_line(line)) is not None]


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
