"""The sections of several runs' page: how they differ, their curves in the same charts, their samples."""

import string
from collections.abc import Sequence

from lightkeras.report.blocks import Section, Table
from lightkeras.report.curves import comparing_charts
from lightkeras.report.record import RunRecord
from lightkeras.report.run_page import headline
from lightkeras.report.samples import sample_sections
from lightkeras.utils.formats import clock, show

OWN = ("trainer.default_root_dir",)  # differs without a meaning


def labels_of(records: Sequence[RunRecord]) -> list[str]:
    """A letter for each run, which its curves and columns have."""
    letters = string.ascii_uppercase
    return [letters[i] if i < len(letters) else f"run {i + 1}" for i in range(len(records))]


def comparison_sections(records: Sequence[RunRecord]) -> list[Section]:
    """Returns the sections: differing options first."""
    labels = labels_of(records)
    sections = [Section("Options that differ", [_differences(records, labels)]),
                Section("Results", [_results(records, labels)]),
                Section("Curves", comparing_charts(records, labels))]  # fmt: skip
    for record, label in zip(records, labels, strict=True):
        for section in sample_sections(record.folder / "samples"):
            sections.append(Section(f"{label}: samples of {record.name}", section.blocks, section.note))
    return [section for section in sections if section.blocks]


def _differences(records: Sequence[RunRecord], labels: Sequence[str]) -> Table:
    names = dict.fromkeys(name for record in records for name in record.options)
    missing = object()
    rows = []
    for name in names:
        values = [record.options.get(name, missing) for record in records]
        if any(value != values[0] for value in values) and name not in OWN:
            rows.append([name, *("" if value is missing else str(value) for value in values)])
    same = "" if rows else "None: the options are the same."
    return Table(["option", *labels], rows, same)


def _results(records: Sequence[RunRecord], labels: Sequence[str]) -> Table:
    rows = [["run", *(record.name for record in records)], ["status", *(record.status for record in records)],
            ["result", *(headline(record) for record in records)]]  # fmt: skip
    monitors = dict.fromkeys(record.monitor for record in records if record.monitor)
    for name, mode in monitors:
        best = [record.rows.best(name, mode) for record in records]
        rows.append([f"best {name}", *(show(found[1]) if found else "" for found in best)])
    times = [sum(one.last["time"] - one.event["time"] for one in record.starts) for record in records]
    rows.append(["time", *(clock(seconds) if seconds else "" for seconds in times)])
    return Table(["", *labels], rows)
