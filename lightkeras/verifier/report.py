"""The verifier's report: a result for each check, printed as a table."""

from collections.abc import Iterable
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

COLORS = {"PASS": "green", "FAIL": "bold red", "SKIP": "yellow"}


class Result(NamedTuple):
    """The result of one check.

    Attributes:
        name: The check.
        claim: What should hold.
        status: "PASS", "FAIL" or "SKIP".
        measured: The measured number; None if nothing was measured.
        allowed: The largest number that passes.
        note: The likely cause of a FAIL, or the reason of a SKIP.
    """

    name: str
    claim: str
    status: str
    measured: float | None = None
    allowed: float | None = None
    note: str = ""


class Report:
    """The results of `check`: `report.passed`, `report["padding"]`, `print(report)`.

    Args:
        title: The names of the task and the data.
        results: One for each check.
    """

    def __init__(self, title: str, results: Iterable[Result]):
        self.title, self.results = title, list(results)

    @property
    def failures(self) -> list[Result]:
        """The results of the checks that failed."""
        return [result for result in self.results if result.status == "FAIL"]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not self.failures

    def __getitem__(self, name: str) -> Result:
        return {result.name: result for result in self.results}[name]

    def __rich__(self) -> Table:
        table = Table(title=self.title, title_justify="left")
        for column in ("check", "result", "measured", "allowed", "what it says"):
            table.add_column(column, justify="right" if column in ("measured", "allowed") else "left")
        for name, claim, status, measured, allowed, note in self.results:
            cells = (name, f"[{COLORS[status]}]{status}", _format(measured), _format(allowed))
            table.add_row(*cells, escape(claim + (f"\n{note}" if note else "")))
        return table

    def __str__(self) -> str:
        console = Console(width=120, color_system=None)
        with console.capture() as captured:
            console.print(self)
        return captured.get()


def _format(number: float | None) -> str:
    return "" if number is None else f"{number:.3g}"
