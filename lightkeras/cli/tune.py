"""`lightkeras tune`, `find_lr` and `find_batch_size`."""

import sys
from collections.abc import Iterable
from typing import Any

from lightkeras.cli.parsing import Command, make_training_parser, parse, print_config
from lightkeras.configuration import Parser, instantiate, parsed_values
from lightkeras.runs.folder import task_name
from lightkeras.tuning import Tuner
from lightkeras.tuning.batch_size_finder import Try, find_batch_size
from lightkeras.tuning.lr_finder import find_lr
from lightkeras.utils.checks import new_file
from lightkeras.utils.durations import to_seconds
from lightkeras.utils.internals import tuner_role


def add_search(parser: Parser, space: bool = True) -> None:
    """Adds the options of a search; `space`: that of its ranges too."""
    add = parser.add_argument
    if space:
        about = "YAML file of the ranges to search, or the YAML itself"
        add("--space", type=str | dict | None, default=None, help=about)
    add(
        "--folder",
        type=str | None,
        default=None,
        help="the search's folder: a new one, or that of the search to resume",
    )
    add("--algorithm", type=str, default="random", help="random, grid, bayesian or hyperband")
    add("--objective", type=str | None, default=None, help="a logged metric (default: the task's monitor)")
    add("--direction", type=str | None, default=None, help="min or max")
    add("--max_trials", type=int | None, default=20, help="number of trials")
    add("--max_time", type=str | None, default=None, help="DD:HH:MM:SS for the search; for a trial: --trainer.max_time")
    add("--max_epochs", type=float | None, default=None, help="epochs of all trials together")
    add("--factor", type=int, default=3, help="Hyperband: one trial in FACTOR is trained further")
    add("--iterations", type=int, default=1, help="Hyperband: number of passes")
    add("--initial_points", type=int | None, default=None, help="Bayesian: random trials before it starts")
    add("--seed", type=int, default=0, help="seed of the search")
    add("--isolate", type=bool | str, default="auto", help="run each trial in its own process; auto: if there is a GPU")
    add("--workers", type=int, default=1, help="trials that run at the same time on this machine")
    add("--max_failures", type=int, default=3, help="failed trials in a row that end the search")


OWN = (
    "algorithm", "objective", "direction", "max_trials", "max_epochs", "factor", "iterations", "initial_points", "seed",
    "isolate", "max_failures",
)  # fmt: skip


def _tune(command: Command) -> int:
    parser = make_training_parser(command)
    add_search(parser)
    config = parse(parser, command)
    if command.print_config:
        print_config(parser, config, command)
        return 0
    given = parsed_values(parser, config)
    groups: dict[str, Any] = {name: given[name] for name in ("task", "data", "trainer")}
    groups["trainer"].update(enable_progress_bar=False, enable_model_summary=False)
    folder = config.folder or f"tuning/{task_name(command.task_class)}"
    return run_search(command.task_class, folder, config, given["space"], command.data_class, command.trust, groups)


def run_search(
    subject: Any, folder: str, config: Any, space: Any, data: Any, trust: Iterable[str], groups: dict[str, Any]
) -> int:
    """Runs or resumes a search; returns the exit code.

    Args:
        subject: The task's class, the function that builds a model, or a HyperModel.
        folder: The search's folder.
        config: The options of `add_search`.
        space: The space.
        data: The data's class, or the function that gives the data.
        trust: Packages whose classes the search may name.
        groups: The arguments of "task", "data" and "trainer".
    """
    tuner = Tuner(
        subject, space, folder=folder, data_class=data, max_time=to_seconds(config.max_time), trust=trust, **groups,
        **{name: config[name] for name in OWN},
    )  # fmt: skip
    tuner.search(config.workers)
    if tuner_role() != "worker":
        _print_end(tuner)
    return 128 + tuner.interrupted if tuner.interrupted else 0


def _print_end(tuner: Tuner) -> None:
    """Prints how the search ended, and its best trial."""
    if tuner.interrupted or tuner.oracle.budget_exhausted:
        why = "Interrupted" if tuner.interrupted else "The search's time or epochs are used up"
        print(f"{why}; the same command resumes the search in {tuner.folder}.")
    best, (before, after) = tuner.best_trial(), tuner.subject.command
    print(f"Best: trial {best.trial_id}, {tuner.objective} {best.score:.6g}: lightkeras fit {before}--config "
          f"{tuner.folder / 'best_config.yaml'}{after}")  # fmt: skip


def _find_lr(command: Command) -> int:
    """Prints the suggestion, and writes the plot."""
    parser = make_training_parser(command)
    add = parser.add_argument
    add("--optimizer", type=str | None, default=None, help="name of the optimizer, if the task has several")
    add("--min_lr", type=float, default=1e-6, help="learning rate of the first update")
    add("--max_lr", type=float, default=1.0, help="learning rate of the last update")
    add("--steps", type=int, default=100, help="number of updates")
    add("--out", type=str, default="find_lr.png", help="new file for the plot")
    config = parse(parser, command)
    out = new_file("out", config.out)
    objects = instantiate(parser, config)
    options = {name: config[name] for name in ("optimizer", "min_lr", "max_lr", "steps")}
    found = find_lr(objects.task, objects.data, **options, **objects.trainer.init_args | {"callbacks": None})
    found.plot(str(out))
    if found.suggestion is None:
        print(f"The loss does not fall between {found.rates[0]:.3g} and {found.rates[-1]:.3g}. Plot: {out}")
        return 1
    rate = f"{found.suggestion:.3g}"
    print(f"Suggested learning rate of {found.optimizer}: {rate} ({len(found.rates)} updates). Plot: {out}")
    return 0


def _find_batch_size(command: Command) -> int:
    """Prints a line per size that is tried, and the largest that fits."""
    parser = make_training_parser(command)
    add = parser.add_argument
    add("--start", type=int, default=32, help="the first size")
    add("--most", type=int, default=4096, help="the largest size to try")
    add(
        "--refine",
        type=int,
        default=3,
        help="halvings of the gap between the largest size that fits and the smallest that does not",
    )
    add("--isolate", type=bool, default=True, help="run each size in its own process")
    given = parsed_values(parser, parse(parser, command))
    names = ("task", "data", "trainer", "start", "most", "refine", "isolate")
    options = {name: given[name] for name in names} | {"data_class": command.data_class, "tried": _print_try}
    try:
        print(f"Largest batch_size that fits: {find_batch_size(command.task_class, **options)}")
    except MemoryError as error:
        print(f"lightkeras: error: {error}", file=sys.stderr)
        return 1
    return 0


def _print_try(found: Try) -> None:
    how = f"fits, {found.examples_per_second:.0f} examples/s" if found.fits else "does not fit"
    print(f"batch_size {found.batch_size}: {how}{' (all of the data)' if found.all_data else ''}", flush=True)


ACTIONS = {"tune": _tune, "find_lr": _find_lr, "find_batch_size": _find_batch_size}
