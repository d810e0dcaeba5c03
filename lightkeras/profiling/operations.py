"""The costliest operations of a profile, from the trace that TensorFlow writes (XPlane protocol buffers)."""

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from rich.table import Table

from lightkeras.utils import internals
from lightkeras.utils.paths import Folder

HOST, DEVICE, XLA = "/host:CPU", "/device:", "XLA"
COLUMNS = ("operation", "kind", "calls", "milliseconds", "share", "milliseconds_per_update")
SCOPES = 4  # of a name in the table
PICOSECONDS = 1e-9  # in milliseconds


class Cost(NamedTuple):
    """An operation of the graph, all of its calls together.

    Attributes:
        name: Its name; the scopes of loops and layers are in it.
        kind: TensorFlow's name of the operation, or "XLA" within what XLA compiled.
        calls: How often it ran.
        milliseconds: The time that it took itself, added up over threads or streams.
    """

    name: str
    kind: str
    calls: int
    milliseconds: float


def read_costs(folder: Folder) -> list[Cost]:
    """Returns the operations of a profile's folder, the costliest first: of the GPUs if there are any, else of the CPU.

    On a CPU, TensorFlow notes the operations that it takes for expensive; small ones are missing.
    """
    planes = [plane for path in sorted(folder.glob("**/*.xplane.pb")) for plane in internals.trace_planes(path)]
    devices = [plane for plane in planes if plane.name.startswith(DEVICE) and plane.lines]
    spans = [span for plane in devices or [p for p in planes if p.name == HOST] for span in _spans(plane)]
    calls, times = defaultdict(int), defaultdict(float)
    for name, kind, milliseconds in spans:
        calls[name, kind] += 1
        times[name, kind] += milliseconds
    ranked = sorted(times, key=lambda key: -times[key])
    return [Cost(name, kind, calls[name, kind], times[name, kind]) for name, kind in ranked]


def _spans(plane: Any) -> Iterator[tuple[str, str, float]]:
    """Yields name, kind and own milliseconds of every call of an operation."""
    names = {number: meta.name for number, meta in plane.stat_metadata.items()}
    for line in plane.lines:
        events = []
        for event in line.events:
            if named := _name(plane, event, names):
                events.append((event.offset_ps, event.duration_ps, named))
        for (name, kind), own in own_times(events):
            yield name, kind, own * PICOSECONDS


def _name(plane: Any, event: Any, stat_names: dict[int, str]) -> tuple[str, str] | None:
    """Returns name and kind if the event is an operation: "NAME:KIND", or one of XLA or of a GPU."""
    meta = plane.event_metadata[event.metadata_id]
    name, _, kind = meta.name.rpartition(":")
    if name and kind == meta.display_name:
        return name, kind
    stats = {stat_names[stat.metadata_id]: stat for stat in event.stats}
    for key in ("tf_op", "hlo_op", "kernel_annotation"):
        if key in stats:
            text = stats[key].str_value or stat_names.get(stats[key].ref_value, "")
            name, _, kind = text.rpartition(":")
            return (name, kind) if name and key != "hlo_op" else (text, XLA)
    return (meta.name, "kernel") if plane.name.startswith(DEVICE) and stats else None


def own_times(events: Iterable[tuple[int, int, Any]]) -> list[tuple[Any, float]]:
    """Takes from each event's time that of the events within it, on the same thread."""
    own: list[list[Any]] = []
    open_events: list[tuple[int, list[Any]]] = []  # end; [what, time]
    for begin, length, what in sorted(events, key=lambda event: (event[0], -event[1])):
        while open_events and open_events[-1][0] <= begin:
            open_events.pop()
        if open_events:
            open_events[-1][1][1] -= length
        own.append([what, float(length)])
        open_events.append((begin + length, own[-1]))
    return [(what, max(0.0, time)) for what, time in own]


def write_costs(path: Folder, costs: list[Cost], updates: int) -> None:
    """Writes a CSV file of all operations; `updates` were made in the profile."""
    total = sum(cost.milliseconds for cost in costs)
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for cost in costs:
            share, each = cost.milliseconds / total if total else 0.0, cost.milliseconds / updates
            rows.writerow([cost.name, cost.kind, cost.calls, f"{cost.milliseconds:.3f}", f"{share:.4f}", f"{each:.4f}"])


def make_table(costs: list[Cost], updates: int, title: str, rows: int = 10) -> Table:
    """Makes a table of the costliest operations."""
    total = sum(cost.milliseconds for cost in costs)
    table = Table(title=title, title_justify="left")
    table.add_column("operation", overflow="fold")
    for name in ("kind", "calls", "ms per update", "share"):
        table.add_column(name, justify="left" if name == "kind" else "right")
    for name, kind, calls, milliseconds in costs[:rows]:
        table.add_row(_short(name), kind, f"{calls:,}", f"{milliseconds / updates:.3g}", f"{milliseconds / total:.1%}")
    rest = sum(cost.milliseconds for cost in costs[rows:])
    if rest:
        table.add_row(f"{len(costs) - rows} more", "", "", f"{rest / updates:.3g}", f"{rest / total:.1%}")
    return table


def _short(name: str) -> str:
    """Leaves out of a name the loop over updates and middle scopes: "gradient_tape/.../while/MatMul"."""
    within = re.sub(r"^while/body/_\d+/while/", "", name)
    parts = list(dict.fromkeys(part for part in within.split("/") if part != "body" and not part.startswith("_")))
    parts = parts or [name]
    return "/".join(parts if len(parts) <= SCOPES else [parts[0], "...", *parts[1 - SCOPES :]])
