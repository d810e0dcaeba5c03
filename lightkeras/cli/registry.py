"""The commands, and the tasks and benchmarks that they know (see `utils.entry_points`).

This module needs the standard library alone.
"""

import importlib
import sys
from pathlib import Path

from lightkeras.utils import entry_points

COMMANDS = {
    "show": "look at the data and the model of a task, and estimate how long a run takes",
    "fit": "train a task",
    "validate": "evaluate a trained task on its validation data",
    "test": "evaluate a trained task on its test data",
    "predict": "use a trained task",
    "demo": "open a web page to try a trained task",
    "export": "export a trained task for programs without lightkeras and Keras",
    "check": "check that a task trains the same however the run is split: replicas, micro-batches, resume, ...",
    "tune": "search for the arguments that give the best score",
    "find_lr": "suggest a learning rate, by a range test",
    "find_batch_size": "find the largest batch that fits into memory",
    "report": "make the page of a run, or of several side by side: report RUN [RUN ...]",
    "watch": "show the page of a run in the browser while it trains: watch RUN",
    "replay": "execute an update of a run again and look at it: replay RUN --step K",
    "branch": "train a new run from a past update of another, with something changed: branch RUN --step K",
    "launch": "run a command in several workers on this machine: launch --workers 2 fit ...",
    "bench": "measure speed",
}


def tasks() -> dict[str, str]:
    """Returns the import path "package.module.Class" of each registered task, by name."""
    return entry_points.registered("lightkeras.tasks")


def benchmarks() -> dict[str, str]:
    """Returns the import path "package.module.function" of each registered benchmark, by name."""
    return entry_points.registered("lightkeras.benchmarks")


def search_current_folder_last() -> None:
    """Lets the user's own modules in the current folder be imported, but never instead of a package of ours."""
    folder = str(Path(__file__).parents[2])
    sys.path.insert(0, folder)
    try:
        for package in entry_points.shipped_packages():
            importlib.import_module(package)
    finally:
        sys.path.remove(folder)
    if "" not in sys.path:
        sys.path.append("")


def usage() -> str:
    """Returns the text of `lightkeras --help`."""
    commands = "\n".join(f"  {name:<17}{text}" for name, text in COMMANDS.items())
    return f"""usage: lightkeras COMMAND TASK [options]

commands:
{commands}

tasks:       {", ".join(tasks())}, or your own as package.module.Class,
             or a function that returns a compiled keras.Model as package.module:function
benchmarks:  {", ".join(benchmarks())}

`lightkeras COMMAND TASK --help` lists the options. To start, in two minutes:
  lightkeras fit text_generation --preset sample
  lightkeras predict text_generation --prompt "The "
"""
