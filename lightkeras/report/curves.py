"""The charts of a run: training and validation of a metric in one chart, each optimizer's values in another."""

from collections.abc import Sequence

from lightkeras.report.charts import Chart, Line, draw
from lightkeras.report.record import RunRecord
from lightkeras.report.rows import Rows

RULES = ("learning_rate", "gradient_norm", "loss_scale", "skipped_updates", "updates")  # each optimizer's, by its name
VALIDATION = "val_"


def group_metrics(names: Sequence[str]) -> dict[str, list[str]]:
    """Groups the columns that share a chart: by title, names, those of training first.

    `val_loss` and `val_NAME_loss` (of named validation sets) go with `loss`; `NAME_learning_rate` with each other.
    """
    training = [name for name in names if not name.startswith(VALIDATION)]
    groups: dict[str, list[str]] = {}
    for name in training:
        rule = next((rule for rule in RULES if name == rule or name.endswith(f"_{rule}")), name)
        groups.setdefault(rule, []).append(name)
    for name in names:
        if name.startswith(VALIDATION):
            metric = name.removeprefix(VALIDATION)
            suffixes = [one for one in training if metric == one or metric.endswith(f"_{one}")]
            groups.setdefault(max(suffixes, key=len, default=metric), []).append(name)
    last = {rule: groups.pop(rule) for rule in RULES if rule in groups}
    return {**groups, **last}


def label_of(name: str, title: str) -> str:
    """The short label of a metric in the chart of this title."""
    if name == title:
        return "training" if title not in RULES else ""
    if name.startswith(VALIDATION):
        kept = name.removeprefix(VALIDATION).removesuffix(title).strip("_")
        return f"validation {kept}".strip()
    return name.removesuffix(f"_{title}") if title in RULES else name


def metric_charts(record: RunRecord) -> list[Chart]:
    """Draws every metric of a run; the chart of its monitor comes first."""
    groups = group_metrics(list(record.rows.columns))
    monitor = record.monitor and record.monitor[0]
    first = next((title for title, names in groups.items() if monitor in names), None)
    titles = [title for title in groups if title == first] + [title for title in groups if title != first]
    charts = [draw(title, _lines(record.rows, groups[title], title)) for title in titles]
    return [chart for chart in [*charts, *_speed_charts(record)] if chart]


def metrics_chart(record: RunRecord, names: Sequence[str], title: str) -> Chart | None:
    """Draws chosen metrics in one chart; None if the run has logged none of them."""
    known = [name for name in names if name in record.rows.columns]
    labels = shorten_labels(known)
    return draw(title, [Line(labels[i], *record.rows.columns[name], style=i) for i, name in enumerate(known)])


def shorten_labels(names: Sequence[str]) -> list[str]:
    """Leaves out the words that all names begin or end with: `val_a_loss`, `val_b_loss` -> `a`, `b`."""
    words = [name.split("_") for name in names]
    while len(names) > 1 and all(len(one) > 1 for one in words) and len({one[0] for one in words}) == 1:
        words = [one[1:] for one in words]
    while len(names) > 1 and all(len(one) > 1 for one in words) and len({one[-1] for one in words}) == 1:
        words = [one[:-1] for one in words]
    return ["_".join(one) for one in words]


def _lines(rows: Rows, names: Sequence[str], title: str) -> list[Line]:
    return [Line(label_of(name, title), *rows.columns[name], style=i) for i, name in enumerate(names)]


def _speed_charts(record: RunRecord) -> list[Chart | None]:
    """Draws the speeds that the timeline has."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    for event in record.events:
        for name, value in (event.get("speeds") or {}).items():
            steps, values = found.setdefault(name, ([], []))
            steps.append(event["step"])
            values.append(value)
    return [
        draw(name.replace("_per_second", " a second"), [Line("training", *points)])
        for name, points in sorted(found.items(), key=lambda item: item[0] == "steps_per_second")
    ]


def comparing_charts(records: Sequence[RunRecord], labels: Sequence[str]) -> list[Chart]:
    """Draws each metric of several runs in one chart: of those with a validation, the validation."""
    names = list(dict.fromkeys(name for record in records for name in record.rows.columns))
    monitors = {record.monitor[0] for record in records if record.monitor}
    ordered = sorted(names, key=lambda name: (name not in monitors, not name.startswith(VALIDATION)))
    charts = []
    for name in ordered:
        lines = [
            Line(label, *record.rows.columns[name], style=index)
            for index, (record, label) in enumerate(zip(records, labels, strict=True))
            if name in record.rows.columns
        ]
        charts.append(draw(name, lines))
    return [chart for chart in charts if chart]
