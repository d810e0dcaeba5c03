"""Durations as users write them."""

import datetime
import re
from typing import Any

from lightkeras.utils.checks import ArgumentError, require

UNITS = {"weeks", "days", "hours", "minutes", "seconds"}
PARTS = ("days", "hours", "minutes", "seconds")


class ClockTime(str):
    """In the type of an argument: a string such as "10:15:00", which YAML alone would take for an int in base 60."""

    @staticmethod
    def read(text: str) -> str:
        """Returns `text` if it is such a time; raises ValueError else."""
        if not re.fullmatch(r"\d+(:\d+)+", text):
            raise ValueError(f"{text!r} is no time")
        return text


def is_duration(value: Any) -> bool:
    """Returns whether `value` is meant as a duration, not a number."""
    return isinstance(value, str | dict | datetime.timedelta)


def to_seconds(value: Any, name: str = "max_time", without_days: bool = False) -> float | None:
    """Converts "DD:HH:MM:SS", a `datetime.timedelta` or a dict of its arguments to seconds; None stays None.

    Args:
        value: The duration.
        name: The argument's name, for messages.
        without_days: Take "HH:MM:SS" too.

    Raises:
        ValueError: It is none of these, or not above 0.
    """
    if value is None:
        return None
    given = value
    if isinstance(value, str):
        parts, written = value.split(":"), '"DD:HH:MM:SS"' + (' or "HH:MM:SS"' if without_days else "")
        fits = len(parts) == 4 or (without_days and len(parts) == 3)
        require(fits and all(part.isdigit() for part in parts), name, written, value)
        value = dict(zip(PARTS[-len(parts) :], map(int, parts), strict=True))
    if isinstance(value, dict):
        require(set(value) <= UNITS, name, f"a dict with {', '.join(sorted(UNITS))}", value)
        try:
            value = datetime.timedelta(**value)
        except (TypeError, ValueError, OverflowError) as error:
            raise ArgumentError(f"Expected `{name}` to hold numbers. Received: {name}={value} ({error})") from error
    require(isinstance(value, datetime.timedelta), name, '"DD:HH:MM:SS", a timedelta or a dict', value)
    require(value.total_seconds() > 0, name, "longer than 0 seconds", given)
    return value.total_seconds()
