"""metrics.csv as columns of numbers; what a killed process left half-written is left out."""

import array
import csv
import dataclasses
import math

Points = tuple["array.array[float]", "array.array[float]"]


@dataclasses.dataclass(frozen=True)
class Rows:
    """The values of metrics.csv.

    Attributes:
        columns: Updates and values of every metric, by name, in the file's order. Cells without a value are left out.
        epochs: Epoch of the last row, from 0; -1 without rows.
        step: Updates up to the last row.
        count: Number of rows.
        broken: Number of rows that could not be read.
    """

    columns: dict[str, Points]
    epoch: int = -1
    step: int = 0
    count: int = 0
    broken: int = 0

    def last(self, name: str) -> float | None:
        """Returns the last value of a metric, or None."""
        values = self.columns.get(name, ((), ()))[1]
        return values[-1] if values else None

    def best(self, name: str, mode: str) -> tuple[int, float] | None:
        """Returns update and value of the best finite value of a metric, the first of equal ones; None without one."""
        steps, values = self.columns.get(name, ((), ()))
        finite = [(value, step) for step, value in zip(steps, values, strict=True) if math.isfinite(value)]
        if not finite:
            return None
        value, step = min(finite, key=lambda pair: (pair[0] if mode == "min" else -pair[0], pair[1]))
        return int(step), value


def parse_rows(data: bytes) -> Rows:
    """Reads the content of metrics.csv. A last line without its end is half-written: its last number may be too."""
    text = data[: data.rfind(b"\n") + 1].decode("utf-8", "replace")
    lines = csv.reader(text.splitlines())
    names = next(lines, [])
    if names[:2] != ["epoch", "step"]:
        return Rows({}, broken=sum(1 for _ in lines))
    columns: dict[str, Points] = {name: (array.array("d"), array.array("d")) for name in names[2:]}
    places = [(index, *columns[name]) for index, name in enumerate(names) if index > 1]
    epoch, step, count, broken = -1, 0, 0, 0
    for cells in lines:
        try:
            found = [(steps, values, float(cells[index])) for index, steps, values in places if cells[index]]
            epoch, step = int(cells[0]), int(cells[1])
        except (ValueError, IndexError):
            broken += 1
            continue
        count += 1
        for steps, values, value in found:
            steps.append(step)
            values.append(value)
    return Rows({name: points for name, points in columns.items() if points[0]}, epoch, step, count, broken)
