"""Values that are executed again, beside those of metrics.csv."""

import math
from typing import Any, NamedTuple

from lightkeras.replaying.recorded import Recorded
from lightkeras.utils.versions import describe_platform, describe_processor, describe_versions

ROUNDING = 1e-4  # a greater difference, relative to the value, is not one of rounding


class Compared(NamedTuple):
    """The records of a stretch, beside those in metrics.csv.

    Attributes:
        rows: Rows that both have.
        first: The first row that differs: update, metric, value in the file, value now; None if all are equal.
        largest: The largest relative difference.
        reasons: Why they may differ.
    """

    rows: int
    first: tuple[int, str, float, float] | None
    largest: float
    reasons: list[str]

    def __str__(self) -> str:
        if not self.rows:
            return "metrics.csv has no row of these updates: nothing to compare with."
        rows = f"{self.rows:,} row{'s' if self.rows > 1 else ''} of metrics.csv"
        if self.first is None:
            return f"Equal to the bit: {rows}."
        step, name, then, now = self.first
        kind = "by rounding" if self.largest <= ROUNDING else "by more than rounding"
        reasons = f" Likely: {'; '.join(self.reasons)}." if self.reasons else ""
        return (
            f"Differs {kind} (at most {self.largest:.1e} of the value) from {rows}, first at update {step}: {name} was "
            f"{then!r}, is {now!r}.{reasons}"
        )


def compare(recorded: Recorded, step: int, records: list[dict[str, Any]], trainer: Any) -> Compared:
    """Compares records with the rows of metrics.csv of the same updates.

    Args:
        recorded: The run.
        step: The update that was looked at.
        records: What was logged now.
        trainer: The Trainer of the replay.
    """
    known = {
        name: dict(zip(steps, values, strict=True)) for name, (steps, values) in recorded.record.rows.columns.items()
    }
    first, largest, rows = None, 0.0, 0
    for record in records:
        both = [name for name in known if name in record and record["step"] in known[name]]
        rows += bool(both)
        for name in both:
            then, now = known[name][record["step"]], float(record[name])
            if then == now or (math.isnan(then) and math.isnan(now)):
                continue
            first = first or (record["step"], name, then, now)
            largest = max(largest, abs(now - then) / abs(then) if then and math.isfinite(now - then) else math.inf)
    return Compared(rows, first, largest, _reasons(recorded, step, trainer) if first else [])


def _reasons(recorded: Recorded, step: int, trainer: Any) -> list[str]:
    starts = [start.event for start in recorded.record.starts if start.event["step"] < step]
    then = starts[-1] if starts else {}
    now = {**describe_versions(), "processor": describe_processor(), "system": describe_platform()}
    known = {**then.get("versions", {}), "processor": then.get("processor"), "system": then.get("platform")}
    found = [f"{name} was {was}, is {now[name]}" for name, was in known.items() if was and now.get(name, was) != was]
    if not trainer.deterministic:
        found.append("the run was not deterministic=True: the terms of a sum may have another order in each process")
        if recorded.record.config["trainer"].get("jit_compile", "auto") == "auto":
            found.append("the run tried XLA in these updates")
    return found or ["other code of task or library, a `weights_path`, or what was made in Python"]
