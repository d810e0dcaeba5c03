"""The trials of a running search: a live table in a terminal, a line per ended trial elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from keras_tuner.engine.trial import Trial
from rich.console import Console
from rich.live import Live
from rich.table import Table

from lightkeras.tuning.space import parameter_names

if TYPE_CHECKING:
    from lightkeras.tuning.tuner import Tuner

MAX_ROWS = 15  # running trials and the best ones


@contextlib.contextmanager
def live(tuner: "Tuner") -> Iterator[Callable[[], None]]:
    """Gives a function that shows the state of the search."""
    console = Console(file=sys.stdout)  # the current one: a trial's own output is redirected
    began = time.monotonic()
    if not console.is_terminal:
        yield _Lines(tuner, console)
        return
    with Live(console=console, get_renderable=lambda: _table(tuner, time.monotonic() - began), refresh_per_second=2):
        yield lambda: None


class _Lines:
    """Prints a line for every trial that has ended since the last call."""

    def __init__(self, tuner: "Tuner", console: Console):
        self._tuner, self._console = tuner, console
        self._shown: set[str] = set()

    def __call__(self) -> None:
        oracle = self._tuner.oracle
        for trial_id in oracle.end_order:
            if trial_id not in self._shown:
                self._shown.add(trial_id)
                self._console.print(_line(self._tuner, oracle.trials[trial_id]), soft_wrap=True, highlight=False)


def _line(tuner: "Tuner", trial: Trial) -> str:
    given = trial.hyperparameters.values
    names = [name for name in parameter_names(tuner.space) if name in given]
    values = "  ".join(f"{name}={_format(given[name])}" for name in names)
    score = f"{tuner.objective} {trial.score:.6g}" if trial.status == "COMPLETED" else f"failed: {trial.message}"
    return f"trial {trial.trial_id}  {score}  {values}"


def _table(tuner: "Tuner", seconds: float) -> Table:
    """Shows the running trials and the best ones."""
    trials = list(tuner.oracle.trials.values())
    completed = [trial for trial in trials if trial.status == "COMPLETED"]
    completed.sort(key=lambda trial: trial.score, reverse=tuner.direction == "max")
    running = [trial for trial in trials if trial.status == "RUNNING"]
    failed = sum(trial.status == "FAILED" for trial in trials)
    total = f" of {tuner.max_trials}" if tuner.max_trials else ""
    title = f"{tuner.subject.title}: {len(completed)}{total} trials done, {failed} failed, {seconds:.0f} s"
    names = parameter_names(tuner.space)
    table = Table("trial", tuner.objective, "epochs", *names, title=title)
    for trial in [*running, *completed[: max(1, MAX_ROWS - len(running))]]:
        result = tuner.oracle.result(trial.trial_id) or {}
        epochs = f"{result['epochs']:g}" if "epochs" in result else ""
        score = "running" if trial.status == "RUNNING" else f"{trial.score:.6g}"
        values = [_format(trial.hyperparameters.values.get(name)) for name in names]
        table.add_row(trial.trial_id, score, epochs, *values)
    return table


def _format(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
