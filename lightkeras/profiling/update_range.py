"""The updates that a profile is asked for: "20-30"."""

import re
from typing import Any, NamedTuple

from lightkeras.utils.checks import require


class UpdateRange(NamedTuple):
    """Updates `first` to `last` of a run, both included; the first update of a run is 1."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


def parse_updates(given: Any, name: str = "profiler") -> UpdateRange:
    """Reads "20-30".

    Raises:
        ValueError: It is something else, begins before 1, or ends before it begins.
    """
    expected = 'the first and the last update to profile, from 1 on, such as "20-30"'
    found = re.fullmatch(r"\s*(\d+)\s*-\s*(\d+)\s*", given, re.ASCII) if isinstance(given, str) else None
    require(found is not None, name, expected, given)
    first, last = (int(number) for number in found.groups()) if found else (0, 0)
    require(1 <= first <= last, name, expected, given)
    return UpdateRange(first, last)
