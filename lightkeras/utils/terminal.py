"""Lines that fit a terminal: its width, its encoding, and what may be left out."""

import dataclasses
import os
import sys
from typing import Any, TextIO

from rich.cells import cell_len, set_cell_size
from rich.text import Text

MAX_COLUMNS = 100  # of a line; a wider terminal leaves the rest free
GAP = "  "


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a line.

    Attributes:
        text: The text.
        rank: Parts of the highest rank are left out first, where the line is too long. Rank 0 always stays.
        style: A style of rich's.
    """

    text: str
    rank: int = 0
    style: str = ""


def fit_line(parts: list[Part], columns: int) -> Text:
    """Joins as many parts as fit, in their order; cuts the line if those of rank 0 alone are too long.

    Args:
        parts: The parts; empty ones are skipped.
        columns: The columns that the line may take.
    """
    kept = [part for part in parts if part.text]
    while _length(kept) > columns and any(part.rank for part in kept):
        kept.remove(max(kept, key=lambda part: part.rank))
    line = Text(GAP).join(Text(part.text, part.style) for part in kept)
    line.truncate(columns, overflow="crop")
    return line


def _length(parts: list[Part]) -> int:
    return sum(cell_len(part.text) for part in parts) + len(GAP) * (len(parts) - 1)


def pad(text: str, columns: int) -> str:
    """Fills `text` with blanks on the left up to this number of columns."""
    missing = columns - cell_len(text)
    return set_cell_size("", max(missing, 0)) + text


def is_terminal(stream: TextIO) -> bool:
    """Returns whether a person looks at `stream`, on a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def columns_of(console_width: int | None = None) -> int:
    """Returns the columns of a line: those of the terminal or of the variable COLUMNS, at most `MAX_COLUMNS`."""
    named = os.environ.get("COLUMNS", "")
    width = console_width or (int(named) if named.isdigit() and int(named) > 0 else MAX_COLUMNS)
    return min(width, MAX_COLUMNS)


def can_show(stream: Any, text: str) -> bool:
    """Returns whether the encoding of `stream` has all characters of `text`."""
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def to_shown(stream: Any, text: str) -> str:
    r"""Writes characters that the encoding lacks, or that are no visible ones, as `\xe9`, `\u4e2d` or `\n`."""
    visible = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return visible.encode(encoding, "backslashreplace").decode(encoding)


def print_line(line: str) -> None:
    """Prints a line to the present stdout, at once."""
    print(to_shown(sys.stdout, line), flush=True)
