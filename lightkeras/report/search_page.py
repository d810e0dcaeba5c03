"""The sections of a search's page: the best score so far, each argument against the score, all trials."""

import csv
import functools
import math
from typing import Any

import yaml

from lightkeras.report.blocks import Section, Table, Text
from lightkeras.report.charts import Chart, Line, draw
from lightkeras.report.files import names_of, read_text
from lightkeras.utils.formats import clock, show
from lightkeras.utils.paths import Folder

SEARCH, TRIALS, BEST = "search.yaml", "trials.csv", "best_config.yaml"
COLUMNS = ("trial", "status", "score", "step", "epochs", "seconds")  # before the arguments in trials.csv
AFTER = ("continues", "run", "reason")
MAX_TRIALS = 200  # rows of the table


class SearchRecord:
    """Reads the folder of a search.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Folder):
        self.folder = folder

    @property
    def name(self) -> str:
        """The folder's name."""
        return f"search / {names_of(self.folder)[1]}"

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        """The values of search.yaml."""
        try:
            found = yaml.safe_load(read_text(self.folder, SEARCH) or "")
        except yaml.YAMLError:
            return {}
        return found if isinstance(found, dict) else {}

    @functools.cached_property
    def trials(self) -> list[dict[str, str]]:
        """The rows of trials.csv: texts."""
        lines = (read_text(self.folder, TRIALS) or "").splitlines(keepends=True)
        return [row for row in csv.DictReader(lines) if None not in row and None not in row.values()]

    @functools.cached_property
    def scored(self) -> list[tuple[float, dict[str, str]]]:
        """Scores of the completed trials, with their rows, in the order of the trials."""
        done = [(_number(row.get("score")), row) for row in self.trials if row.get("status") == "COMPLETED"]
        return [(score, row) for score, row in done if score is not None and math.isfinite(score)]

    @property
    def objective(self) -> str:
        """The metric that is searched for."""
        return str(self.identity.get("objective", "score"))

    @property
    def sign(self) -> int:
        """1 if lower scores are better, else -1."""
        return -1 if self.identity.get("direction") == "max" else 1

    @property
    def ranked(self) -> list[tuple[float, dict[str, str]]]:
        """The completed trials, the best first."""
        return sorted(self.scored, key=lambda pair: self.sign * pair[0])

    @property
    def arguments(self) -> list[str]:
        """The names of the arguments that are searched."""
        return [name for name in (self.trials[0] if self.trials else ()) if name not in (*COLUMNS, *AFTER)]

    @property
    def status(self) -> str:
        """How many trials are in which state."""
        counts: dict[str, int] = {}
        for row in self.trials:
            word = row.get("status", "").lower()
            counts[word] = counts.get(word, 0) + 1
        return ", ".join(f"{count:,} {word}" for word, count in counts.items()) or "no trial has ended"


def search_headline(record: SearchRecord) -> str:
    """The result in one line."""
    if not record.ranked:
        return "No trial is completed yet."
    score, row = record.ranked[0]
    seconds = sum(_number(one.get("seconds")) or 0.0 for one in record.trials)
    return f"Best {record.objective} {show(score)}, of trial {row['trial']}; {clock(seconds)} of training."


def search_sections(record: SearchRecord) -> list[Section]:
    """Returns the sections of a search."""
    charts = [_best_chart(record), *(_argument_chart(record, name) for name in record.arguments)]
    best, search = read_text(record.folder, BEST), read_text(record.folder, SEARCH)
    sections = [
        Section("Scores", [chart for chart in charts if chart], f"{record.objective} of the completed trials."),
        Section("Trials", [_trials(record), *_failures(record)]),
        Section("Best configuration", [Text(best, BEST, folded=True),
                Text(f"lightkeras fit --config {record.folder}/{BEST}", "Train with it")] if best else []),
        Section("The search", [Text(search, SEARCH, folded=True)] if search else []),
    ]  # fmt: skip
    return [section for section in sections if section.blocks]


def _best_chart(record: SearchRecord) -> Chart | None:
    scores = [score for score, _ in record.scored]
    best = [min(scores[: i + 1], key=lambda s: record.sign * s) for i in range(len(scores))]
    numbers = range(1, len(scores) + 1)
    lines = [Line("best so far", numbers, best, 0), Line("trial", numbers, scores, 1, joined=False)]
    return draw("Best score so far", lines, "completed trials")


def _argument_chart(record: SearchRecord, name: str) -> Chart | None:
    """Draws the scores over an argument that is a number."""
    pairs = [(_number(row.get(name)), score) for score, row in record.scored]
    known = sorted((value, score) for value, score in pairs if value is not None)
    if len({value for value, _ in known}) < 2:
        return None
    values, scores = zip(*known, strict=True)
    return draw(f"{record.objective} by {name}", [Line("trial", values, scores, 0, joined=False)], name)


def _trials(record: SearchRecord) -> Table:
    columns = ["trial", record.objective, *record.arguments, "epochs", "time"]
    rows = []
    for score, row in record.ranked[:MAX_TRIALS]:
        seconds = _number(row.get("seconds"))
        values = [_short(row[name]) for name in record.arguments]
        rows.append([row["trial"], show(score), *values, _short(row.get("epochs", "")), seconds and clock(seconds)])
    return Table(columns, rows, f"{len(rows)} of {len(record.trials)} trials: the completed ones, the best first")


def _failures(record: SearchRecord) -> list[Table]:
    rows = [[row["trial"], row.get("reason", "")] for row in record.trials if row.get("status") == "FAILED"]
    return [Table(["trial", "reason"], rows[:MAX_TRIALS], f"{len(rows)} failed")] if rows else []


def _short(text: str) -> str:
    number = _number(text)
    return text if number is None else show(number)


def _number(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
