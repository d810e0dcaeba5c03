"""timeline.jsonl: when a run was started, how far it was, when and why it ended. A line of JSON per event.

Events: "start" (time, step, versions, monitor, ...), "progress" (time, step, seconds spent on each activity, speeds; at
most one per second and per thousandth of the time since the start), "end" (the same, and why). A start that has no end
was killed.
"""

import json
from typing import Any

from lightkeras.utils.paths import Folder

TIMELINE = "timeline.jsonl"  # in the run's folder
EVENTS = ("start", "progress", "end")


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
    if not isinstance(event, dict) or event.get("event") not in EVENTS:
        return None
    counted = isinstance(event.get("time"), int | float) and isinstance(event.get("step"), int)
    return event if counted else None
