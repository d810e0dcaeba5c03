"""Charts: numbers to shares of the plot's width and height. The texts around the plot are HTML, so that they stay
readable at any width, and the lines are SVG that stretches.

A curve of many values is thinned by columns of the plot: the first, lowest, highest and last value of each column stay,
so that no spike is lost.
"""

import dataclasses
import math
from collections.abc import Sequence

from lightkeras.utils.formats import show

COLUMNS = 600  # of a plot, at least its width in pixels on most screens
HEIGHT = 220  # pixels of a plot
LABEL = 17  # pixels between two labels at the right end
DOTTED = 40  # a curve of at most this many values shows them as dots
TABLE_ROWS = 20  # of the values beneath a chart
LOG_RANGE = 50  # values that differ by this factor get a logarithmic axis


@dataclasses.dataclass(frozen=True)
class Line:
    """A curve of a chart.

    Attributes:
        label: What stands at its right end.
        xs, ys: Its values.
        style: Number of its colour and dashes.
        joined: Whether the values are joined by a line.
    """

    label: str
    xs: Sequence[float]
    ys: Sequence[float]
    style: int = 0
    joined: bool = True


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A curve as drawn: the path in units of the plot, and its label's place."""

    label: str
    value: str
    style: int
    path: str
    dots: str
    top: float


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart, ready for the page.

    Attributes:
        title, x_label: What the axes show.
        lines: The drawn curves.
        x_ticks, y_ticks: (share of the axis from 0 to 100, text).
        log: Whether the vertical axis is logarithmic.
        note: How values were left out or thinned.
        columns, rows: A table of some of the values.
        summary: The chart in a sentence, for those who do not see it.
    """

    title: str
    x_label: str
    lines: Sequence[Drawn]
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    log: bool
    note: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    summary: str
    width: int = COLUMNS
    height: int = HEIGHT

    @property
    def label_widths(self) -> tuple[int, int]:
        """Characters of the longest label at the right end, with and without its value."""
        with_value = max(len(line.label) + len(line.value) + 1 for line in self.lines)
        return with_value, max(len(line.label) or len(line.value) for line in self.lines)


def thin(xs: Sequence[float], ys: Sequence[float], low: float, high: float) -> list[tuple[float, float]]:
    """Keeps the first, lowest, highest and last of the values in each of `COLUMNS` columns from `low` to `high`."""
    pairs = [(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]
    if len(pairs) <= 4 * COLUMNS:
        return pairs
    scale, columns = COLUMNS / ((high - low) or 1.0), {}
    for index, (x, y) in enumerate(pairs):
        column = columns.setdefault(int((x - low) * scale), [index, index, index, index])
        column[1] = index if y < pairs[column[1]][1] else column[1]
        column[2] = index if y > pairs[column[2]][1] else column[2]
        column[3] = index
    return [pairs[index] for column in columns.values() for index in sorted(set(column))]


def draw(title: str, lines: Sequence[Line], x_label: str = "updates") -> Chart | None:
    """Makes a chart of the lines; None if no line has a finite value."""
    lines = [line for line in lines if any(map(math.isfinite, line.ys))]
    if not lines:
        return None
    finite = [y for line in lines for y in line.ys if math.isfinite(y)]
    left, right = min(min(line.xs) for line in lines), max(max(line.xs) for line in lines)
    low, high = min(finite), max(finite)
    log = low > 0 and high / low >= LOG_RANGE
    y_ticks = _log_ticks(low, high) if log else _ticks(low, high)
    low, high = min(low, y_ticks[0]), max(high, y_ticks[-1])
    up = _scale(low, high, log)
    across = _scale(left, right, False)
    drawn = [_draw_line(line, across, up, left, right) for line in lines]
    x_ticks = [tick for tick in _ticks(left, right, 4) if left <= tick <= right]
    columns, rows = _table(lines, x_label, title)
    return Chart(
        title, x_label, _spread(drawn), [(round(100 * across(x), 2), show(x)) for x in x_ticks],
        [(round(100 * up(y), 2), show(y)) for y in y_ticks], log, _note(lines, log), columns, rows,
        _summary(lines, title),
    )  # fmt: skip


def _scale(low: float, high: float, log: bool):
    """Returns a function to shares from 0 to 1."""
    if log:
        return lambda value: (math.log(value) - math.log(low)) / ((math.log(high) - math.log(low)) or 1.0)
    return lambda value: (value - low) / (high - low) if high > low else 0.5


def _draw_line(line: Line, across, up, left: float, right: float) -> Drawn:
    points = thin(line.xs, line.ys, left, right)
    places = [f"{across(x) * COLUMNS:.1f} {HEIGHT * (1 - up(y)):.1f}" for x, y in points]
    dots = "".join(f"M{place}h0" for place in places) if len(places) <= DOTTED or not line.joined else ""
    path = "M" + "L".join(places) if line.joined else ""
    return Drawn(line.label, show(points[-1][1]), line.style, path, dots, HEIGHT * (1 - up(points[-1][1])))


def _spread(drawn: list[Drawn]) -> list[Drawn]:
    """Moves labels that would overlap apart, within the plot; the curves stay in their order."""
    order = sorted(drawn, key=lambda line: line.top)
    tops: list[float] = []
    for line in order:
        tops.append(max(line.top, tops[-1] + LABEL if tops else 0.0))
    limit = float(HEIGHT)
    for index in reversed(range(len(tops))):
        tops[index] = limit = min(tops[index], limit)
        limit -= LABEL
    moved = [dataclasses.replace(line, top=round(top, 1)) for line, top in zip(order, tops, strict=True)]
    return sorted(moved, key=lambda line: line.style)


def _ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers that cover the range: steps of 1, 2 or 5 times a power of ten."""
    if high <= low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten that cover the range: at most six."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = -(-(last - first) // 5) or 1
    return [10.0**power for power in range(first, last + every, every)]


def _note(lines: Sequence[Line], log: bool) -> str:
    notes = ["logarithmic scale"] if log else []
    most = max(len(line.ys) for line in lines)
    if most > 4 * COLUMNS:
        notes.append(f"{most:,} values: each of {COLUMNS} columns shows its lowest and highest")
    if lost := sum(not math.isfinite(y) for line in lines for y in line.ys):
        notes.append(f"{lost:,} values that are not finite are left out")
    return "; ".join(notes)


def _table(lines: Sequence[Line], x_label: str, title: str) -> tuple[list[str], list[list[str]]]:
    """Some of the values: the first, the last, and evenly spaced ones."""
    values = [dict(zip(line.xs, line.ys, strict=True)) for line in lines]
    xs = sorted({x for line in lines for x in line.xs})
    if len(xs) > TABLE_ROWS:
        longest = min(lines, key=lambda line: (len(line.xs), line.style)).xs  # validations, where every value is shown
        xs = sorted(set(longest)) if len(set(longest)) >= 2 else xs
    every = max(1, len(xs) / TABLE_ROWS)
    chosen = sorted({xs[min(len(xs) - 1, int(index * every))] for index in range(TABLE_ROWS)} | {xs[-1]})
    rows = [[show(x), *(show(one.get(x)) for one in values)] for x in chosen]
    return [x_label, *(line.label or title for line in lines)], rows


def _summary(lines: Sequence[Line], title: str) -> str:
    parts = []
    for line in lines:
        ys = [y for y in line.ys if math.isfinite(y)]
        parts.append(f"{line.label or title}: from {show(ys[0])} to {show(ys[-1])}, lowest {show(min(ys))}, "
                     f"highest {show(max(ys))}")  # fmt: skip
    return "; ".join(parts)
