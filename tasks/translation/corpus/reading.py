"""Files with pairs of sentences."""

import pathlib
import re
import warnings

import lightkeras as lk

_UNDECODED = re.compile("[\udc80-\udcff]")


def read_pairs(path: pathlib.Path, skip_bad_lines: bool = False) -> list[tuple[str, str]]:
    """Reads the first two columns of a UTF-8 file with two or three columns, separated by tabs.

    Args:
        path: The file.
        skip_bad_lines: Whether to leave out lines that are no pair or not UTF-8, with a warning that counts them.

    Raises:
        ValueError: Bad lines that are not skipped, or no pair at all.
    """
    rows = [line.split("\t") for line in _lines(path, skip_bad_lines)]
    return _check_pairs(rows, 3 if len(rows[0]) == 3 else 2, str(path), skip_bad_lines)


def read_aligned(paths: list[pathlib.Path], skip_bad_lines: bool = False) -> list[tuple[str, str]]:
    """Reads the lines of two UTF-8 files as pairs.

    Raises:
        ValueError: The reasons of `read_pairs`, or files with different numbers of lines.
    """
    columns = [_lines(path, skip_bad_lines) for path in paths]
    lengths = [len(column) for column in columns]
    if lengths[0] != lengths[1]:
        counted = ", ".join(f"{path} with {length:,}" for path, length in zip(paths, lengths, strict=True))
        raise lk.utils.ArgumentError(f"Expected aligned files to have as many lines as each other. Received: {counted}")
    rows = [list(row) for row in zip(*columns, strict=True)]
    return _check_pairs(rows, 2, ",".join(map(str, paths)), skip_bad_lines)


def _lines(path: pathlib.Path, lenient: bool) -> list[str]:
    """The lines of a file; if `lenient`, bytes that are not UTF-8 become lone surrogates."""
    if path.is_dir():
        raise lk.utils.ArgumentError(f"Expected a file of pairs. Received: {path}, a folder")
    if lenient:
        text = path.read_bytes().decode(errors="surrogateescape").removeprefix("\ufeff")
    else:
        text = lk.text.read_text(path)
    lk.utils.require(text != "", "source", "a file with pairs", str(path))
    return lk.text.split_lines(text)


def _check_pairs(rows: list[list[str]], columns: int, path: str, skip_bad_lines: bool) -> list[tuple[str, str]]:
    problems = [_problem(row, columns) for row in rows]
    bad = [f"line {number} ({problem})" for number, problem in enumerate(problems, 1) if problem]
    good = [(row[0], row[1]) for row, problem in zip(rows, problems, strict=True) if not problem]
    named = ", ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
    if bad and (not skip_bad_lines or not good):
        raise lk.utils.ArgumentError(
            f"Expected every line of {path} to be a pair of sentences, or skip_bad_lines=True to leave the others out. "
            f"Received: {len(bad):,} of {len(rows):,} that are not: {named}"
        )
    if bad:
        warnings.warn(f"Skipped {len(bad):,} of {len(rows):,} lines of {path}: {named}", stacklevel=5)
    return good


def _problem(row: list[str], columns: int) -> str | None:
    """The fault of a line, or None."""
    if any(map(_UNDECODED.search, row)):
        return "not UTF-8"
    if any("\0" in cell for cell in row):
        return "a NUL character"
    if len(row) != columns:
        return f"{len(row) - 1} tabs, not {columns - 1}"
    empty = [str(number) for number, cell in enumerate(row[:2], 1) if not cell.strip()]
    return f"column {' and '.join(empty)} empty" if empty else None
