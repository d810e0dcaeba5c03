"""`lightkeras tune`, `find_lr` and `find_batch_size`."""

import sys
from typing import Any

from lightkeras.callbacks.limit import to_seconds
from lightkeras.cli import commands
from lightkeras.configuration import Parser, made, plain
from lightkeras.tuning import Tuner
from lightkeras.tuning.batch_size_finder import Try, find_batch_size
from lightkeras.tuning.lr_finder import find_lr
from lightkeras.utils.checks import new_file
from lightkeras.utils.internals import tuner_role


def run(command: str, arguments: list[str]) -> int:
    """Runs `lightkeras COMMAND ARGUMENTS`; returns the exit code."""
    return commands.run(command, arguments, ACTIONS)


def _add_search(parser: Parser) -> None:
    add = parser.add_argument
    add("--space", type=str | dict | None, default=None, help="YAML file of what is searched, or the YAML itself")
    add("--folder", type=str | None, default=None, help="the search's folder: a new one, or the one that goes on")
    add("--algorithm", type=str, default="random", help="random, grid, bayesian or hyperband")
    add("--objective", type=str | None, default=None, help="a logged metric; the task's monitor by default")
    add("--direction", type=str | None, default=None, help="min or max")
    add("--max_trials", type=int | None, default=20, help="trials at most")
    add("--max_time", type=str | None, default=None, help="of the search: DD:HH:MM:SS; a trial's: --trainer.max_time")
    add("--max_epochs", type=float | None, default=None, help="of all trials together")
    add("--factor", type=int, default=3, help="Hyperband: one in so many goes on")
    add("--iterations", type=int, default=1, help="Hyperband: how often")
    add("--initial_points", type=int | None, default=None, help="Bayesian: trials at random before")
    add("--seed", type=int, default=0, help="of the search")
    add("--isolate", type=bool | str, default="auto", help="a process for each trial; auto: where there is a GPU")
    add("--workers", type=int, default=1, help="trials at the same time on this machine")
    add("--max_failures", type=int, default=3, help="failed trials in a row that end the search")


OWN = (
    "algorithm", "objective", "direction", "max_trials", "max_epochs", "factor", "iterations", "initial_points", "seed",
    "isolate", "max_failures",
)  # fmt: skip


def _tune(command: str, task_class: type, arguments: list[str]) -> int:
    parser = commands.training_parser(command, task_class, arguments)
    _add_search(parser)
    config = parser.parse_args(arguments)
    given = plain(config)
    groups: dict[str, Any] = {name: given[name] for name in ("task", "data", "trainer")}
    groups["trainer"].update(enable_progress_bar=False, enable_model_summary=False)
    folder = config.folder or f"tuning/{commands.task_name(task_class)}"
    space = given["space"]
    tuner = Tuner(
        task_class, space, folder=folder, max_time=to_seconds(config.max_time), **groups,
        **{name: config[name] for name in OWN},
    )  # fmt: skip
    tuner.search(config.workers)
    if tuner_role() == "worker":
        return 128 + tuner.interrupted if tuner.interrupted else 0
    _say(tuner)
    return 128 + tuner.interrupted if tuner.interrupted else 0


def _say(tuner: Tuner) -> None:
    """How the search ended."""
    if tuner.interrupted or tuner.oracle.budget_exhausted:
        why = "Interrupted" if tuner.interrupted else "The search's time or epochs are used up"
        print(f"{why}; the same command goes on with the search in {tuner.folder}.")
    best = tuner.best_trial()
    print(f"Best: trial {best.trial_id}, {tuner.objective} {best.score:.6g}: lightkeras fit --config "
          f"{tuner.folder / 'best_config.yaml'}")  # fmt: skip


def _find_lr(command: str, task_class: type, arguments: list[str]) -> int:
    """Prints the suggestion, and writes the plot."""
    parser = commands.training_parser(command, task_class, arguments)
    add = parser.add_argument
    add("--optimizer", type=str | None, default=None, help="its name, where there are several")
    add("--min_lr", type=float, default=1e-6, help="the first update's rate")
    add("--max_lr", type=float, default=1.0, help="the last one's")
    add("--steps", type=int, default=100, help="updates")
    add("--out", type=str, default="find_lr.png", help="new file for the plot")
    config = parser.parse_args(arguments)
    out = new_file("out", config.out)
    objects = made(parser, config)
    options = {name: config[name] for name in ("optimizer", "min_lr", "max_lr", "steps")}
    found = find_lr(objects.task, objects.data, **options, **objects.trainer.init_args | {"callbacks": None})
    found.plot(str(out))
    if found.suggestion is None:
        print(f"The loss falls nowhere between {found.rates[0]:.3g} and {found.rates[-1]:.3g}. Plot: {out}")
        return 1
    rate = f"{found.suggestion:.3g}"
    print(f"Suggested learning rate of {found.optimizer}: {rate} ({len(found.rates)} updates). Plot: {out}")
    return 0


def _find_batch_size(command: str, task_class: type, arguments: list[str]) -> int:
    """Prints a line per size that is tried, and the largest that fits."""
    parser = commands.training_parser(command, task_class, arguments)
    add = parser.add_argument
    add("--start", type=int, default=32, help="the first size")
    add("--most", type=int, default=4096, help="the largest to try")
    add("--refine", type=int, default=3, help="halvings of the gap between what fits and what does not")
    add("--isolate", type=bool, default=True, help="a process for each size")
    given = plain(parser.parse_args(arguments))
    groups = {name: given[name] for name in ("task", "data", "trainer", "start", "most", "refine", "isolate")}
    try:
        print(f"Largest batch_size that fits: {find_batch_size(task_class, tried=_say_try, **groups)}")
    except MemoryError as error:
        print(f"lightkeras: error: {error}", file=sys.stderr)
        return 1
    return 0


def _say_try(found: Try) -> None:
    how = f"fits, {found.examples_per_second:.0f} examples/s" if found.fits else "does not fit"
    print(f"batch_size {found.batch_size}: {how}{' (all of the data)' if found.all_data else ''}", flush=True)


ACTIONS = {"tune": _tune, "find_lr": _find_lr, "find_batch_size": _find_batch_size}
