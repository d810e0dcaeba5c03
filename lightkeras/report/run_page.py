"""The sections of one run's page."""

import dataclasses
import hashlib
import json
from typing import Any

import yaml

from lightkeras.report.blocks import Curve, Section, Table, Text
from lightkeras.report.curves import metric_charts, metrics_chart
from lightkeras.report.record import RunRecord, clock_time
from lightkeras.report.samples import sample_sections
from lightkeras.runs.timeline import summarize
from lightkeras.utils.formats import clock, show

MAX_TOKENS = 2000  # characters of a value of the data's state


@dataclasses.dataclass(frozen=True)
class Share:
    """A part of a whole: name, text of its amount, percent."""

    name: str
    text: str
    percent: float


@dataclasses.dataclass(frozen=True)
class Shares:
    """A whole and its parts, as bars."""

    parts: list[Share]
    title: str = ""


@dataclasses.dataclass(frozen=True)
class Span:
    """A piece of the time line: percent of its length; "ran" or "paused"; what it says."""

    percent: float
    kind: str
    text: str


@dataclasses.dataclass(frozen=True)
class TimeLine:
    """The processes of a run, and the pauses between them."""

    spans: list[Span]
    first: str
    last: str


def headline(record: RunRecord) -> str:
    """The result in one line."""
    rows = record.rows
    if not rows.columns:
        return "No value is logged yet."
    epochs = f"{rows.step:,} updates in {rows.epoch + 1:,} epoch{'s' if rows.epoch else ''}"
    text = f"{_result(record)}; {epochs}"
    seconds = [start.last["time"] - start.event["time"] for start in record.starts]
    return f"{text}, {clock(sum(seconds))}." if seconds else f"{text}."


def _result(record: RunRecord) -> str:
    """The best value of the metric that the run is judged by; without one, the last values of some metrics."""
    best = record.monitor and record.rows.best(*record.monitor)
    if record.monitor and best:
        return f"Best {record.monitor[0]} {show(best[1])} after {best[0]:,} updates"
    names = sorted(record.rows.columns, key=lambda name: not name.startswith("val_"))[:3]
    return "Last " + ", ".join(f"{name} {show(record.rows.last(name))}" for name in names)


def run_sections(record: RunRecord) -> list[Section]:
    """Returns the sections of a run, from the curves to the command that makes it again."""
    sections = [Section("Curves", metric_charts(record), _rows_note(record))]
    sections += sample_sections(record.folder / "samples")
    sections += [_resolve(section, record) for section in record.sections]
    sections += _time_sections(record)
    sections += [_configuration(record), _origin(record), _again(record)]
    return [section for section in sections if section.blocks]


def _rows_note(record: RunRecord) -> str:
    rows = record.rows
    broken = f"; {rows.broken:,} rows could not be read" if rows.broken else ""
    return f"From {rows.count:,} rows of metrics.csv{broken}."


def _resolve(section: Section, record: RunRecord) -> Section:
    """Puts the chart of the run's values in the place of each `Curve`."""
    blocks = [metrics_chart(record, b.metrics, b.title) if isinstance(b, Curve) else b for b in section.blocks]
    return dataclasses.replace(section, blocks=[block for block in blocks if block is not None])


# ---- time


def _time_sections(record: RunRecord) -> list[Section]:
    if not record.starts:
        return []
    return [Section("Time", [*_shares(record), _time_line(record), _starts(record)])]


def _shares(record: RunRecord) -> list[Shares]:
    """What the time went into, over all processes."""
    found = summarize(record.events)
    spent = found["seconds"] if found else {}
    total = sum(spent.values())
    parts = [Share(name, clock(s), round(100 * s / total, 1)) for name, s in spent.items() if total and s > 0]
    return [Shares(sorted(parts, key=lambda part: -part.percent), "Where the time went")] if parts else []


def _time_line(record: RunRecord) -> TimeLine:
    starts = record.starts
    first, last = starts[0].event["time"], starts[-1].last["time"]
    whole = (last - first) or 1.0
    spans, before = [], first
    for start in starts:
        begins, ends = start.event["time"], start.last["time"]
        if begins > before:
            spans.append(Span(100 * (begins - before) / whole, "paused", f"not running for {clock(begins - before)}"))
        steps = f"updates {start.event['step']:,} to {start.last['step']:,}"
        spans.append(Span(100 * (ends - begins) / whole, "ran", f"{steps}, {clock(ends - begins)}"))
        before = max(before, ends)
    return TimeLine(spans, clock_time(first), clock_time(last))


def _starts(record: RunRecord) -> Table:
    columns = ["start", "from update", "to update", "time", "end"]
    rows = []
    for start in record.starts:
        running = start is record.starts[-1] and record.holder is not None
        how = start.ended or ("running" if running else "killed")
        took = clock(start.last["time"] - start.event["time"])
        rows.append([clock_time(start.event["time"]), start.event["step"], start.last["step"], took, how])
    return Table(columns, rows, "Starts of the run")


# ---- what it was made from


def _configuration(record: RunRecord) -> Section:
    if not record.config_text:
        return Section("Configuration", [])
    rows = [[name, _plain(value)] for name, value in record.options.items()]
    return Section("Configuration", [Table(["option", "value"], rows, f"All {len(rows)} options", folded=True),
                                     Text(record.config_text, "config.yaml", folded=True)])  # fmt: skip


def _plain(value: Any) -> str:
    """A value of the configuration as it stands there."""
    return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6).removesuffix("...\n").strip()


def _origin(record: RunRecord) -> Section:
    """Versions, devices, and what identifies the data."""
    blocks = []
    if record.starts:
        event = record.starts[-1].event
        versions = [[name, version] for name, version in (event.get("versions") or {}).items()]
        versions += [[name, event[name]] for name in ("platform", "devices") if event.get(name)]
        blocks.append(Table(["what", "version"], versions, "Versions"))
    if record.state:
        known = record.state.get("data_state") or {}
        digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:32]
        facts = {"seed": record.state.get("seed"), **dict(_facts(known)), "digest of these": digest}
        blocks.append(Table(["what", "value"], [[k, v] for k, v in facts.items()], "Data, as the checkpoints know it"))
    return Section("Versions and data", blocks)


def _facts(value: Any, name: str = "") -> Any:
    """Names and short values of the data's state; of long lists, their lengths."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _facts(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and len(str(value)) > 80:
        yield name, f"{len(value):,} entries"
    else:
        yield name, str(value)[:MAX_TOKENS]


def _again(record: RunRecord) -> Section:
    """The command that makes the run again."""
    if not record.config:
        return Section("Make it again", [])
    note = next((line.removeprefix("# ") for line in record.config_text.splitlines() if line.startswith("# Not")), "")
    path = f"{record.folder}/config.yaml"
    parts = [record.config.get(part) for part in ("task", "data")]
    classes = [str(part.get("class_path", "")) if isinstance(part, dict) else "" for part in parts]
    if any(one.startswith("__main__") for one in classes) or note:
        told = f"{note or f'Its classes are of a script: {classes[0]}, {classes[1]}'}. Run that program again."
        return Section("Make it again", [Text(told)])
    commands = [f"lightkeras fit --config {path}", f"lightkeras fit --config {path} --ckpt_path last"]
    return Section("Make it again", [Text(commands[0], "A new run with the same options and seed"),
                                     Text(commands[1], "Resume this run")])  # fmt: skip
