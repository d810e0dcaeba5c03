"""`lightkeras replay`: executes an update of a run again."""

import argparse
from typing import Any

from lightkeras.keras_models.functions import build_model, find_function, fit_keywords, load_data_of
from lightkeras.replaying.drawing import print_inspection
from lightkeras.replaying.inspection import inspect
from lightkeras.replaying.recorded import Recorded
from lightkeras.replaying.saving import require_new_folder, save
from lightkeras.trainer import Trainer


def main(arguments: list[str]) -> int:
    """Runs `replay` with its options; returns the exit code."""
    options = make_parser().parse_args(arguments)
    folder = require_new_folder(options.save, options.run) if options.save else None
    given = read_model_options(options)
    found = inspect(
        options.run, options.step, options.steps, without=options.without, eager=options.eager, keep=bool(folder),
        **given,
    )  # fmt: skip
    print_inspection(found)
    if folder:
        save(found, folder)
        print(f"Saved: {folder}")
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Makes the parser of `replay`."""
    parser = argparse.ArgumentParser(prog="lightkeras replay", allow_abbrev=False, description=__doc__)
    add = parser.add_argument
    add("run", metavar="RUN", help="the run's folder; nothing in it changes")
    add("--step", type=int, required=True, metavar="K", help="the update, counted from 1 as in metrics.csv")
    add("--steps", type=int, default=1, metavar="N", help="updates that are shown, from K on")
    add("--without", type=int, nargs="+", default=[], metavar="ROW",
        help="rows of the batch: what the losses would have been without them")  # fmt: skip
    add("--save", metavar="FOLDER", help="new folder for inputs, activations and gradients (npz)")
    add("--eager", action="store_true", help="run the update op by op: a breakpoint() in your code sees numbers")
    add_model_options(parser)
    return parser


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say where code and data of a run are."""
    add = parser.add_argument
    add("--model", metavar="MODULE:FUNCTION", help="builds the model of a run of a plain Keras model")
    add("--data", metavar="MODULE:FUNCTION", help="gives its data (load_data beside the model's function)")
    add("--trust", action="append", default=[], metavar="PACKAGE", help="let the run's files name classes of it")
    add("--debug", action="store_true", help="show the traceback of every error")


def read_model_options(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments of `replay` and `inspect` that the options of `add_model_options` ask for."""
    given: dict[str, Any] = {"trust": options.trust}
    if options.data and not options.model:
        given |= fit_keywords(find_function(options.data)())
    if options.model:
        build = find_function(options.model)
        load = find_function(options.data) if options.data else load_data_of(build)
        made = Trainer(**Recorded(options.run).trainer_arguments(1))
        given |= {"task": build_model(made, build), **fit_keywords(load())}
    return given
