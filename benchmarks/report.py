"""What a benchmark found: tables on the terminal, JSON with every sample, a plot, a comparison with another time."""

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Rows

from benchmarks.harness import Measured
from lightkeras.utils.checks import ArgumentError

PACKAGES = ("lightkeras", "tensorflow", "keras", "numpy", "torch", "lightning")
_WIDTH = 200  # of a table that goes to a file
_COMPARED = ("unit", "base", "higher_is_better")


@dataclasses.dataclass
class Row:
    """What is known of one competitor: its samples in the table's unit, and what else was measured, by name."""

    samples: list[float]
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """The lower quartile, the median and the upper quartile."""
        if len(self.samples) == 1:
            return (self.samples[0],) * 3
        return tuple(statistics.quantiles(self.samples, n=4, method="inclusive"))

    @property
    def median(self) -> float:
        """The median of the samples."""
        return statistics.median(self.samples)


@dataclasses.dataclass
class Table:
    """Competitors at one piece of work.

    Attributes:
        title: What they do.
        unit: Of the samples.
        base: The competitor that the others' ratios are to.
        rows: By the competitors' names.
        higher_is_better: Whether the samples are speeds, rather than times.
        curves: Points (x, y) for every name, for a plot of lines instead of bars.
        axes: What x and y of the curves are.
        note: A line below it.
    """

    title: str
    unit: str
    base: str
    rows: dict[str, Row]
    higher_is_better: bool = False
    curves: dict[str, list[tuple[float, float]]] = dataclasses.field(default_factory=dict)
    axes: tuple[str, str] = ("", "")
    note: str = ""

    def ratio(self, name: str) -> float:
        """The median of `name` to that of the base."""
        return self.rows[name].median / self.rows[self.base].median

    def as_json(self) -> dict:
        """All of it, as JSON values."""
        rows = {
            name: {"median": row.median, "quartiles": row.quartiles, "samples": row.samples, **row.facts}
            for name, row in self.rows.items()
        }
        kept = {name: getattr(self, name) for name in ("title", *_COMPARED, "curves", "note")}
        return {**kept, "rows": rows}


def make_table(
    title: str, unit: str, raced: dict[str, Measured], base: str, scale: float, steps: int, speed: bool = False, **rest
) -> Table:
    """The table of a race.

    Args:
        title: What a stretch does.
        unit: Of the samples.
        raced: What `harness.race` gave.
        base: The competitor that the others' ratios are to; the first one, where it did not take part.
        scale: A stretch of `seconds` has the sample `seconds * scale`; as a speed, `scale / seconds`.
        steps: Steps of a stretch.
        speed: Whether the samples are speeds.
        **rest: Of `Table`.
    """
    rows = {}
    for name, measured in raced.items():
        samples = [scale / seconds if speed else seconds * scale for seconds in measured.seconds]
        rows[name] = Row(samples, facts(measured, steps))
    base = base if base in rows else next(iter(rows))
    return Table(title, unit, base, rows, speed, **rest)


def make_speed_table(title: str, unit: str, raced: dict[str, Measured], base: str, **rest) -> Table:
    """The table of a race whose competitors told the gate what they did: units a second, from totals over totals."""
    rows = {}
    for name, measured in raced.items():
        rates = [units / seconds for units, seconds in zip(measured.units, measured.seconds, strict=True)]
        rows[name] = Row(rates, facts(measured, 1))
        rows[name].facts["total"] = sum(measured.units) / sum(measured.seconds)
    base = base if base in rows else next(iter(rows))
    return Table(title, unit, base, rows, True, **rest)


def facts(measured: Measured, steps: int) -> dict[str, Any]:
    """What was measured beside the stretches.

    The time to the first step is that from the process' start to the end of the first step; where the competitor did
    not tell that, to the end of the first stretch, without what the other steps of a stretch take.
    """
    first = measured.first_step_seconds
    if first is None:
        first = max(0.0, measured.first_seconds - statistics.median(measured.seconds) * (1 - 1 / steps))
    first += measured.start_seconds
    facts = {"start_seconds": measured.start_seconds, "time_to_first_step": first, "peak_memory": measured.peak_memory}
    if measured.peak_device_memory is not None:
        facts["peak_device_memory"] = measured.peak_device_memory
    counts = ("graphs", "timed_graphs", "compilations", "timed_compilations")
    facts |= {name: getattr(measured, name) for name in counts}
    return facts | ({"waited": measured.waited} if measured.waited else {})


# ---- the terminal


def show(table: Table) -> None:
    """Prints medians, interquartile ranges, the ratio of each median to the base's, and what came apart."""
    columns = ["", f"median {table.unit}", "interquartile range", f"ratio to {table.base}", "first step", "memory"]
    extra = list(dict.fromkeys(name for row in table.rows.values() for name in row.facts.get("columns", {})))
    rows = Rows(title=table.title, title_justify="left")
    for column in (*columns, *extra, "traced again"):
        rows.add_column(column, justify="right" if column else "left", no_wrap=not column)
    for name, row in table.rows.items():
        low, middle, high = map(_number, row.quartiles)
        shown = [name, middle, f"{low} - {high}", f"{table.ratio(name):.2f}", *_apart(row.facts)]
        shown += [_cell(row.facts.get("columns", {}).get(column)) for column in extra]
        rows.add_row(*shown, _again(row.facts))
    _console().print(rows)
    if table.note:
        _console().print(table.note, highlight=False)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else _WIDTH)  # a file has no width of its own


def _cell(value: float | str | None) -> str:
    return (value or "") if isinstance(value, str | None) else _number(value)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _apart(facts: dict) -> list[str]:
    if "time_to_first_step" not in facts:
        return ["", ""]
    memory = facts.get("peak_device_memory", facts["peak_memory"])
    return [f"{facts['time_to_first_step']:.1f} s", f"{memory / 2**20:,.0f} MiB"]


def _again(facts: dict) -> str:
    if "timed_graphs" not in facts:
        return ""
    return f"{facts['timed_graphs']} + {facts['timed_compilations']} XLA"


# ---- the file


def machine() -> dict:
    """What the figures depend on: processor, cores, memory, devices, versions, commit."""
    git = {"capture_output": True, "text": True, "cwd": Path(__file__).parent}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], **git).stdout.strip()
    changed = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no"], **git).stdout.strip()
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "gpus": _gpus(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "commit": commit or None,
        "changed_since_commit": bool(changed),
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _gpus() -> list[str]:
    information = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    lines = [line for path in information for line in path.read_text().splitlines()]
    return [line.partition(":")[2].strip() for line in lines if line.startswith("Model")]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def write(path: Path, name: str, settings: dict, tables: list[Table]) -> None:
    """Writes everything that was measured as JSON."""
    report = {"benchmark": name, **machine(), "settings": settings, "tables": [table.as_json() for table in tables]}
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"Wrote {path}")


# ---- another time's


def compare(old: dict, name: str, settings: dict, tables: list[Table], threshold: float, relative: bool) -> list[str]:
    """The competitors that have become slower since `old`, printed beside all others.

    Args:
        old: A report as `write` wrote it.
        name: The benchmark's name.
        settings: The benchmark's settings.
        tables: What was found now.
        threshold: The share by which a median may be worse.
        relative: Whether the ratios to the base are compared, rather than the medians: for a machine that is not the
            same, or has other work.

    Raises:
        ValueError: It is of another benchmark, or of other settings.
    """
    for what, before, now in (("benchmark", old["benchmark"], name), *_differing(old["settings"], settings)):
        if before != now:
            raise ArgumentError(f"Expected the reports to be of one {what}. Received: {before!r} before, {now!r} now")
    rows = Rows(title=f"Since {old['time']}, commit {(old['commit'] or 'unknown')[:12]}", title_justify="left")
    for column in ("", "before", "now", "change", ""):
        rows.add_column(column, justify="right" if column else "left")
    worse = []
    for then, table in ((then, table) for then in old["tables"] for table in tables if then["title"] == table.title):
        for competitor in table.rows:
            if competitor in then["rows"]:
                before, now = _medians(then, table, competitor, relative)
                change = (before / now if table.higher_is_better else now / before) - 1
                verdict = "slower" if change > threshold else "faster" if change < -threshold else ""
                rows.add_row(f"{table.title}: {competitor}", _number(before), _number(now), f"{change:+.1%}", verdict)
                worse += [f"{table.title}: {competitor}"] if change > threshold else []
    _console().print(rows)
    return worse


def _differing(before: dict, now: dict):
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return [(f"setting of {key}", before.get(key), now.get(key)) for key in keys]


def _medians(then: dict, table: Table, name: str, relative: bool) -> tuple[float, float]:
    before, now = then["rows"][name]["median"], table.rows[name].median
    if not relative:
        return before, now
    return before / then["rows"][table.base]["median"], table.ratio(name)


# ---- the picture


def plot(path: Path, tables: list[Table]) -> None:
    """Writes a picture with a panel for every table: bars of the medians with their interquartile ranges, or curves."""
    from matplotlib.figure import Figure

    heights = [0.9 + (2.5 if table.curves else 0.32 * len(table.rows)) for table in tables]
    figure = Figure(figsize=(9, sum(heights)), layout="constrained")
    panels = figure.subplots(len(tables), 1, squeeze=False, height_ratios=heights)[:, 0]
    for panel, table in zip(panels, tables, strict=True):
        panel.set_title(table.title, loc="left", fontsize="medium")
        _curves(panel, table) if table.curves else _bars(panel, table)
    figure.savefig(path, dpi=120)
    print(f"Wrote {path}")


def _bars(panel, table: Table) -> None:
    names, rows = list(table.rows), list(table.rows.values())
    medians = [row.median for row in rows]
    below = [max(0.0, row.median - row.quartiles[0]) for row in rows]
    above = [max(0.0, row.quartiles[2] - row.median) for row in rows]
    colours = ["tab:blue" if "Trainer" in name or name.startswith("ours") else "tab:gray" for name in names]
    panel.barh(names, medians, xerr=(below, above), color=colours, error_kw={"elinewidth": 1})
    panel.invert_yaxis()
    panel.set_xlabel(table.unit)


def _curves(panel, table: Table) -> None:
    for name, points in table.curves.items():
        panel.plot(*zip(*points, strict=True), marker=".", label=name)
    panel.set_xlabel(table.axes[0])
    panel.set_ylabel(table.axes[1])
    panel.legend(fontsize="small")
