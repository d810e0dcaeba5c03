"""Tables of image files and captions: CSV, and the files of Flickr8k and Flickr30k."""

import csv
import itertools
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import lightkeras as lk

NAMES = ("image", "image_name", "image_file", "file", "file_name", "filename", "photo")  # of the first column
NUMBERED = re.compile(r"[^\t]+#\d+\t")  # Flickr8k.token.txt: a.jpg#0<tab>caption
WITHOUT_DELIMITER = re.compile(r"\s*(\d+)\s+(\S.*)")  # one line of Flickr30k's results.csv: a.jpg| 4   caption
WORDS = {2: "two", 3: "three"}
BLOCK = 1 << 13  # rows that are read at a time


class Layout(NamedTuple):
    """The form of a table.

    Args:
        delimiter: "," (with quotes, as in CSV), a tab or "|" (both without).
        columns: 2: image file and caption; 3: with the caption's number between them.
        header: The names of the columns, or none. If there are some, the last column takes all further delimiters.
    """

    delimiter: str
    columns: int
    header: list[str]


def find_layout(line: str) -> Layout | None:
    """Finds the layout by the first line: names of columns, or a numbered image file; None of another line."""
    for delimiter in "|\t,":
        names = _names(line.split(delimiter))
        if names[0] in NAMES and (len(names) == 2 or (len(names) == 3 and "number" in names[1])):
            return Layout(delimiter, len(names), names)
    return Layout("\t", 2, []) if NUMBERED.match(line) else None


def _names(cells: list[str]) -> list[str]:
    return [cell.strip().strip('"').lower() for cell in cells]


def read_table(file: pathlib.Path, place: Any = None) -> Iterator[tuple[list[tuple[str, str]], Any]]:
    """Yields the image file and the caption of rows, many at a time, and the place behind them; begins at such a place.

    Raises:
        ValueError: No such table; the message names the line.
    """
    layout, (position, line, repaired, first) = _layout(file), place or (0, 0, 0, 0)
    with file.open(encoding="utf-8-sig", newline="" if layout.delimiter == "," else None) as opened:
        opened.seek(position)
        rows = _rows(iter(opened.readline, ""), layout.delimiter, file, line)
        while block := list(itertools.islice(rows, BLOCK)):
            found = []
            for line, row in block:
                if layout.header and _names(row) == layout.header:  # in the middle too, where files were joined
                    continue
                cells = _cells(row, layout)
                if len(row) < len(cells):
                    repaired, first = repaired + 1, first or line
                found.append(_read_cells(cells, layout, file, line))
            yield found, [opened.tell(), line, repaired, first]
    if repaired:
        lk.utils.logger.info("Read %d lines of %s that lack a delimiter, the first is line %d", repaired, file, first)


def _layout(file: pathlib.Path) -> Layout:
    with file.open(encoding="utf-8-sig") as opened:
        first = next((line for line in iter(opened.readline, "") if line.strip()), "").removesuffix("\n")
    plain = "\t" if "\t" in first and file.suffix.lower() != ".csv" else ","
    return find_layout(first) or Layout(plain, 2, [])


def _read_cells(cells: list[str], layout: Layout, file: pathlib.Path, line: int) -> tuple[str, str]:
    if len(cells) != layout.columns:
        raise lk.utils.ArgumentError(
            f"Expected {WORDS[layout.columns]} columns in {file}, from an image file to a caption (in quotes where "
            f"it has a comma). Received: {len(cells)} in line {line}"
        )
    name = re.sub(r"#\d+$", "", cells[0]) if layout.delimiter == "\t" else cells[0]
    return name.strip(), cells[-1]


def _cells(row: list[str], layout: Layout) -> list[str]:
    last = layout.columns - 1
    if layout.header or layout.delimiter == "\t":
        row = [*row[:last], layout.delimiter.join(row[last:])] if len(row) > last else row
    if layout.columns == 3 and len(row) == 2 and (found := WITHOUT_DELIMITER.fullmatch(row[1])):
        return [row[0], *found.groups()]
    return row


def _rows(lines: Iterator[str], delimiter: str, file: pathlib.Path, before: int = 0) -> Iterator[tuple[int, list[str]]]:
    """Yields the rows that are not empty, each with the line in which it ends; `before` lines were read already."""
    if delimiter != ",":
        cut = enumerate((line.removesuffix("\n") for line in lines), before + 1)
        yield from ((number, line.split(delimiter)) for number, line in cut if line.strip())
        return
    rows = csv.reader(lines, strict=True)  # or an open quote eats rows
    try:
        for row in rows:
            if row:
                yield before + rows.line_num, row
    except csv.Error as error:
        line = before + rows.line_num
        raise lk.utils.ArgumentError(f"Expected {file} to be CSV. Received: {error} in line {line}") from error
