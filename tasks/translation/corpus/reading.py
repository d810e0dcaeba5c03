"""Files with pairs of sentences, read block by block."""

import contextlib
import itertools
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import lightkeras as lk

BLOCK = 1 << 13  # lines that are read at a time
NAMED = 5  # bad lines that are named
_UNDECODED = re.compile("[\udc80-\udcff]")

Part = tuple[pathlib.Path, ...]  # a file with a pair on each line, or two with a sentence on each line
Row = list[str]


class Faults(NamedTuple):
    """The lines of a part that are no pairs.

    Args:
        lines: Number of all lines.
        bad: Number of those that are no pairs.
        named: The first of them, with their faults.
    """

    lines: int
    bad: int
    named: str


def find_faults(part: Part, skip_bad_lines: bool = False) -> Faults:
    """Reads a part once and counts the lines that are no pairs.

    Args:
        part: UTF-8 file with two or three columns, separated by tabs, of which the first two are a pair; or two UTF-8
            files whose lines are pairs.
        skip_bad_lines: Whether bad lines, those that are not UTF-8 included, are only counted.

    Raises:
        ValueError: Bad lines that are not skipped; no pair at all; files with different numbers of lines.
    """
    if not skip_bad_lines:
        for path in part:
            lk.text.require_text(path)
    lines, bad, named, columns = [0] * len(part), 0, [], columns_of(part)
    for first, rows, counts, _ in _blocks(part):
        problems = [(first + i, problem) for i, row in enumerate(rows, 1) if (problem := find_problem(row, columns))]
        named += [f"line {number} ({problem})" for number, problem in problems[: NAMED - len(named)]]
        lines, bad = [sum(both) for both in zip(lines, counts, strict=True)], bad + len(problems)
    lk.utils.require(min(lines) > 0, "source", "a file with pairs", ",".join(map(str, part)))
    if len(set(lines)) > 1:
        counted = ", ".join(f"{path} with {count:,}" for path, count in zip(part, lines, strict=True))
        raise lk.utils.ArgumentError(f"Expected aligned files to have as many lines as each other. Received: {counted}")
    faults = Faults(lines[0], bad, ", ".join(named) + (f" and {bad - NAMED} more" if bad > NAMED else ""))
    require_pairs(part, faults, skip_bad_lines)
    return faults


def require_pairs(part: Part, faults: Faults, skip_bad_lines: bool) -> None:
    """Raises ValueError if a part has lines that are no pairs and are not to be skipped, or nothing else."""
    if faults.bad and (not skip_bad_lines or faults.bad == faults.lines):
        raise lk.utils.ArgumentError(
            f"Expected every line of {','.join(map(str, part))} to be a pair of sentences, or skip_bad_lines=True to "
            f"leave the others out. Received: {faults.bad:,} of {faults.lines:,} that are not: {faults.named}"
        )


def read_pairs(part: Part, position: Any = None) -> Iterator[tuple[list[Row], Any]]:
    """Yields the pairs of a part, many at a time, and the position behind them; begins at such a position.

    Lines that are no pairs are left out.
    """
    columns = columns_of(part)
    for _, rows, _, behind in _blocks(part, position):
        yield [row[:2] for row in rows if find_problem(row, columns) is None], behind


def _blocks(part: Part, position: Any = None) -> Iterator[tuple[int, list[Row], list[int], Any]]:
    r"""Yields the number of lines before, the columns of lines, the lines of each file, and the position behind them.

    Lines end at `\n`, `\r\n` and `\r`, as Python reads text files; bytes that are not UTF-8 become lone surrogates.
    """
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(path.open(encoding="utf-8-sig", errors="surrogateescape")) for path in part]
        for file, place in zip(files, position or [], strict=position is not None):
            file.seek(place)
        for first in itertools.count(0, BLOCK):
            lines = [list(itertools.islice(iter(file.readline, ""), BLOCK)) for file in files]
            if not any(lines):
                return
            lines = [[line.removesuffix("\n") for line in some] for some in lines]
            rows = (
                [line.split("\t") for line in lines[0]]
                if len(part) == 1
                else list(map(list, zip(*lines, strict=False)))
            )
            yield first, rows, list(map(len, lines)), [file.tell() for file in files]


def bytes_before(position: list[int] | None) -> int:
    """Returns the bytes of a part before a position; the higher bits of Python's places are a decoder's state."""
    return sum(place % (1 << 64) for place in position or [])


def columns_of(part: Part) -> int:
    """Returns the columns of a part, by its first line."""
    _, rows, _, _ = next(_blocks(part), (0, [], [], None))
    return 3 if len(part) == 1 and rows and len(rows[0]) == 3 else 2


def find_problem(row: Row, columns: int) -> str | None:
    """Returns the fault of a line, or None."""
    if any(map(_UNDECODED.search, row)):
        return "not UTF-8"
    if any("\0" in cell for cell in row):
        return "a NUL character"
    if len(row) != columns:
        return f"{len(row) - 1} tabs, not {columns - 1}"
    empty = [str(number) for number, cell in enumerate(row[:2], 1) if not cell.strip()]
    return f"column {' and '.join(empty)} empty" if empty else None
