"""The command line: `lightkeras fit | validate | test | predict | tune | bench NAME [options]`.

This file answers without TensorFlow; `commands.py` does the work.
"""

import importlib
import importlib.metadata
import sys

from lightkeras.utils.checks import nearest

COMMANDS = {
    "fit": "train a task",
    "validate": "evaluate a trained task on its validation data",
    "test": "evaluate a trained task on its test data",
    "predict": "use a trained task",
    "check": "try the promise on a task: replicas, micro-batches, padding, resume, ...",
    "tune": "search for the arguments with which a task does best",
    "find_lr": "find a learning rate: a range test",
    "find_batch_size": "find the largest batch that fits",
    "launch": "run one of these in several workers on this machine: launch --workers 2 fit ...",
    "bench": "measure speed",
}
TASKS = {
    "text_generation": "tasks.text_generation.TextGeneration",
    "dcgan": "tasks.dcgan.DCGAN",
    "translation": "tasks.translation.Translation",
    "captioning": "tasks.captioning.Captioning",
}
BENCHMARKS = {
    name: f"benchmarks.{name}"
    for name in ("overhead", "tasks", "peers", "scaling", "generation", "input", "quality", "checkpoint")
}
TUNING = ("tune", "find_lr", "find_batch_size")
ENTRY_POINTS = "lightkeras.tasks"


def usage() -> str:
    """What `lightkeras --help` prints."""
    commands = "\n".join(f"  {name:<17}{what}" for name, what in COMMANDS.items())
    return f"""usage: lightkeras COMMAND TASK [options]

commands:
{commands}

tasks:       {", ".join(task_paths())}, or your own as package.module.Class
benchmarks:  {", ".join(BENCHMARKS)}

`lightkeras COMMAND TASK --help` lists the options. A start of two minutes:
  lightkeras fit text_generation --preset sample
  lightkeras predict text_generation --prompt "The "
"""


def task_paths() -> dict[str, str]:
    """Import paths of the tasks by name: those that ship, and those of installed packages' entry points."""
    others = importlib.metadata.entry_points(group=ENTRY_POINTS)
    return {**TASKS, **{point.name: point.value.replace(":", ".") for point in others}}


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        The exit code: 0, 1 after a failure, 2 for a wrong option, 130 after Ctrl-C and 143 after SIGTERM (the run is
        saved then, and `--ckpt_path last` continues it).
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        print(importlib.metadata.version("lightkeras"))
        return 0
    command, *rest = arguments
    if command not in COMMANDS:
        return _fail("command", command, COMMANDS)
    if command == "launch":
        return importlib.import_module("lightkeras.distribution.launch").main(rest)
    if command in TUNING:
        return importlib.import_module("lightkeras.cli.tune").run(command, rest)
    if command != "bench":
        return importlib.import_module("lightkeras.cli.commands").run(command, rest)
    if not rest or rest[0] not in BENCHMARKS:
        return _fail("benchmark", rest[0] if rest else "", BENCHMARKS)
    return importlib.import_module(BENCHMARKS[rest[0]]).main(rest[1:])


def _fail(what: str, name: str, known) -> int:
    message = f"Expected a {what}: one of {', '.join(known)}. Received: {name!r}.{nearest(name, known)}"
    print(f"lightkeras: error: {message}", file=sys.stderr)
    return 2
