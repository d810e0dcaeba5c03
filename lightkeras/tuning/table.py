"""The trials of a search, shown while it runs: a live table in a terminal, a line per ended trial elsewhere."""

import contextlib
import sys
import time
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

ROWS = 15  # the best, and those that run


@contextlib.contextmanager
def live(tuner: Any):
    """Gives a function that shows how the search stands now."""
    console = Console(file=sys.stdout)  # this one: a trial's own output goes elsewhere
    began = time.monotonic()
    if not console.is_terminal:
        yield _Lines(tuner, console)
        return
    with Live(console=console, get_renderable=lambda: _table(tuner, time.monotonic() - began), refresh_per_second=2):
        yield lambda: None


class _Lines:
    """A line for every trial that has ended since the last call."""

    def __init__(self, tuner: Any, console: Console):
        self._tuner, self._console = tuner, console
        self._shown: set[str] = set()

    def __call__(self) -> None:
        oracle = self._tuner.oracle
        for trial_id in oracle.end_order:
            if trial_id not in self._shown:
                self._shown.add(trial_id)
                self._console.print(_line(self._tuner, oracle.trials[trial_id]), soft_wrap=True, highlight=False)


def _line(tuner: Any, trial: Any) -> str:
    given = trial.hyperparameters.values
    names = [name for name in dict.fromkeys(parameter.name for parameter in tuner.space.space) if name in given]
    values = "  ".join(f"{name}={_shown(given[name])}" for name in names)
    score = f"{tuner.objective} {trial.score:.6g}" if trial.status == "COMPLETED" else f"failed: {trial.message}"
    return f"trial {trial.trial_id}  {score}  {values}"


def _table(tuner: Any, seconds: float) -> Table:
    """The best trials and those that run."""
    trials = list(tuner.oracle.trials.values())
    ended = [trial for trial in trials if trial.status == "COMPLETED"]
    ended.sort(key=lambda trial: trial.score, reverse=tuner.direction == "max")
    running = [trial for trial in trials if trial.status == "RUNNING"]
    failed = sum(trial.status == "FAILED" for trial in trials)
    of = f" of {tuner.max_trials}" if tuner.max_trials else ""
    title = f"{tuner.task_class.__name__}: {len(ended)}{of} trials done, {failed} failed, {seconds:.0f} s"
    names = list(dict.fromkeys(parameter.name for parameter in tuner.space.space))
    table = Table("trial", tuner.objective, "epochs", *names, title=title)
    for trial in [*running, *ended[: max(1, ROWS - len(running))]]:
        result = tuner.oracle.result(trial.trial_id) or {}
        epochs = f"{result['epochs']:g}" if "epochs" in result else ""
        score = "runs" if trial.status == "RUNNING" else f"{trial.score:.6g}"
        values = [_shown(trial.hyperparameters.values.get(name)) for name in names]
        table.add_row(trial.trial_id, score, epochs, *values)
    return table


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
