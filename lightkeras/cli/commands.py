"""What the commands do, once TensorFlow may be imported."""

import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import yaml
from rich.console import Console

from lightkeras import checkpoint as files
from lightkeras.checkpoint import CheckpointError
from lightkeras.cli.main import task_paths, usage
from lightkeras.configuration import Parser, add_arguments, made
from lightkeras.data.download import DownloadError
from lightkeras.runs import folder as run_folder
from lightkeras.runs import state as run_state
from lightkeras.runs.folder import task_name
from lightkeras.task import TaskModule
from lightkeras.trainer import Trainer
from lightkeras.utils.checks import nearest
from lightkeras.utils.hparams import import_class
from lightkeras.utils.paths import as_path
from lightkeras.verifier.checks import CHECKS
from lightkeras.verifier.run_checks import check
from lightkeras.verifier.two_devices import make_two_devices

FAILURES = (
    ValueError, TypeError, ImportError, OSError, ArithmeticError, NotImplementedError, CheckpointError, DownloadError,
)  # fmt: skip


class UsageError(ValueError):
    """The command line is wrong: exit code 2."""


def run(command: str, arguments: list[str], actions: dict[str, Callable] | None = None) -> int:
    """Runs `lightkeras COMMAND ARGUMENTS`; returns the exit code.

    Args:
        command: A key of `actions`.
        arguments: What follows the command.
        actions: `(command, task_class, arguments) -> exit code` by command; those of this file by default.
    """
    if "" not in sys.path:
        sys.path.insert(0, "")  # a task of the user's own lies where the command is run
    if arguments in ([], ["-h"], ["--help"]):
        print(usage(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    try:
        task_class, rest = _task_class(arguments)
        return (actions or ACTIONS)[command](command, task_class, rest)
    except KeyboardInterrupt:
        print("lightkeras: interrupted", file=sys.stderr)
        return 130
    except FAILURES as error:
        if "--debug" in arguments:
            raise
        print(f"lightkeras: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


def _task_class(arguments: list[str]) -> tuple[type[TaskModule], list[str]]:
    """The task named by the first argument, or by the config file."""
    if arguments[0].startswith("-"):
        name, rest = _given(arguments, "task_class"), arguments
    else:
        name, rest = arguments[0], arguments[1:]
    if not name:
        raise UsageError(f"Expected a task, or a --config that names one. Received: {' '.join(arguments)}")
    known = task_paths()
    if name not in known and "." not in name:
        raise UsageError(
            f"Expected a task: one of {', '.join(known)}, or package.module.Class. "
            f"Received: {name!r}.{nearest(name, known)}"
        )
    task_class = import_class(known.get(name, name))
    if not (isinstance(task_class, type) and issubclass(task_class, TaskModule)):
        raise UsageError(f"Expected {name} to be a TaskModule. Received: {task_class!r}")
    return task_class, ["--task_class", name, *rest]


def _given(arguments: list[str], name: str) -> Any:
    """The last value of `--name value` or `--name=value`, or else that of `name` in the last --config file."""
    found = None
    for argument, following in zip(arguments, [*arguments[1:], None], strict=True):
        if argument == f"--{name}":
            found = following
        elif argument.startswith(f"--{name}="):
            found = argument.split("=", 1)[1]
    if found is not None or name == "config":
        return found
    path = _given(arguments, "config")
    value = yaml.safe_load(as_path(path, "config").read_text(encoding="utf-8")) if path else None
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def presets(task_class: type[TaskModule]) -> dict[str, Path]:
    """The YAML files in the folder `presets` beside a task, by name."""
    folder = Path(sys.modules[task_class.__module__].__file__).parent / "presets"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _parser(command: str, task_class: type[TaskModule], ckpt_path: str | None, what: str) -> Parser:
    parser = Parser(**_names(command, task_class))
    _add_common(parser)
    parser.add_argument("--ckpt_path", type=str | None, default=ckpt_path, help=what)
    return parser


def _names(command: str, task_class: type[TaskModule]) -> dict:
    return {"prog": f"lightkeras {command} {task_name(task_class)}", "allow_abbrev": False}


def _add_common(parser: Parser) -> None:
    parser.add_argument("--config", action="config", help="YAML file with any of the options below")
    parser.add_argument("--task_class", type=str, help="the task: a name or package.module.Class")
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")


def training_parser(command: str, task_class: type[TaskModule], arguments: list[str]) -> Parser:
    """A parser with the options of Trainer, task and data; their defaults are those of the named or default preset."""
    known = presets(task_class)
    chosen = _preset(arguments, known)
    parser = Parser(**_names(command, task_class), default_config_files=[str(chosen)] if chosen else [])
    _add_common(parser)
    if known:
        parser.add_argument("--preset", type=str, help=f"start from one of {', '.join(known)}", default=None)
    add_arguments(parser, task_class, task_class.data_module)
    return parser


def _fit(command: str, task_class: type[TaskModule], arguments: list[str]) -> int:
    parser = training_parser(command, task_class, arguments)
    what = "continue a run: its folder, a checkpoint, last, best, or auto (begin it if there is none)"
    parser.add_argument("--ckpt_path", type=str | None, default=None, help=what)
    what = "begin with the weights of a trained run: its folder, a checkpoint, last or best"
    parser.add_argument("--weights_path", type=str | None, default=None, help=what)
    what = "what may differ in a run that goes on, by the names that the refusal shows"
    parser.add_argument("--allow_changes", nargs="+", default=[], metavar="NAME", help=what)
    config = parser.parse_args([*map(_fetched, arguments)])
    run = made(parser, config)
    ckpt_path = _of_config(config.ckpt_path, _given(arguments, "config"))
    run.trainer.fit(run.task, run.data, ckpt_path, config.weights_path, config.allow_changes)
    if run.trainer.run_dir:
        print(f"Run: {run.trainer.run_dir}")
    return 128 + run.trainer.interrupted if run.trainer.interrupted else 0


def _preset(arguments: list[str], known: dict[str, Path]) -> Path | None:
    name = _given(arguments, "preset") if known else None
    if name is None:
        return known.get("default")
    if name not in known:
        raise UsageError(f"Expected a preset: one of {', '.join(known)}. Received: {name!r}.{nearest(name, known)}")
    return known[name]


def _fetched(argument: str) -> str:
    """For the address of a remote run's config.yaml its text, which `--config` takes too."""
    option, remote = ("--config=", argument[9:]) if argument.startswith("--config=") else ("", argument)
    if re.fullmatch(r"\w+://\S+\.ya?ml", remote):
        return option + as_path(remote, "config").read_text()
    return argument


def _of_config(ckpt_path: str | None, config: str | None) -> str | None:
    """`--ckpt_path`, where "last" and "best" mean the run that `--config RUN/config.yaml` is of."""
    if config and ckpt_path in ("last", "best", "auto"):
        folder = as_path(config).parent
        if run_folder.is_run(folder):
            return str(folder / ckpt_path.replace("auto", "last"))
    return ckpt_path


def _checkpoint(task_class: type[TaskModule], arguments: list[str]) -> files.Checkpoint:
    root = as_path(_given(arguments, "trainer.default_root_dir") or "runs")
    return run_folder.open_checkpoint(_given(arguments, "ckpt_path") or "best", root, task_name(task_class))


def _trained(command: str, task_class: type[TaskModule], arguments: list[str]) -> tuple[Parser, files.Checkpoint]:
    """A parser with the options of a trained task: its data's are by default those it was trained with."""
    parser = _parser(command, task_class, "best", "a run's folder, a checkpoint, best or last")
    parser.add_class_arguments(Trainer, "trainer")
    parser.add_class_arguments(task_class.data_module, "data")
    if command == "predict":
        parser.add_argument("--out", type=str, default="predictions.npz", help="new file for the arrays")
    if {"-h", "--help"} & set(arguments):
        parser.parse_args(arguments)  # prints and exits
    saved = _checkpoint(task_class, arguments)
    parser.set_defaults({f"data.{name}": value for name, value in saved.state["data"]["init_args"].items()})
    return parser, saved


def _use(command: str, parser: Parser, saved: files.Checkpoint, task_class: type, arguments: list[str]):
    """What `Trainer.COMMAND` gives for the saved task, built on the Trainer's devices and in its precision."""
    run = made(parser, parser.parse_args(arguments))
    task, _, _ = run_state.load_run(saved, task_class)
    run.data.load_state_dict(saved.state["data_state"])
    return getattr(run.trainer, command)(task, run.data, saved.path)


def _evaluate(command: str, task_class: type[TaskModule], arguments: list[str]) -> int:
    parser, saved = _trained(command, task_class, arguments)
    for name, value in _use(command, parser, saved, task_class, arguments).items():
        print(f"{name:<30}{value:.6f}")
    return 0


def _predict(command: str, task_class: type[TaskModule], arguments: list[str]) -> int:
    if hasattr(task_class, "predict_command"):
        return _own_predict(command, task_class, arguments)
    parser, saved = _trained(command, task_class, arguments)
    path = Path(parser.parse_args(arguments).out)
    if path.exists():
        raise FileExistsError(f"Expected --out to be a new file. Received: {path}, which exists")
    _save_predictions(_use(command, parser, saved, task_class, arguments), path)
    return 0


def _own_predict(command: str, task_class: type[TaskModule], arguments: list[str]) -> int:
    """The task's own `predict_command`: its arguments are the options, and it needs neither Trainer nor data.

    It returns what is printed: a text, or texts that are printed as they come.
    """
    parser = _parser(command, task_class, "best", "a run's folder, a checkpoint, best or last")
    parser.add_argument("--trainer.default_root_dir", type=str, default="runs", help="where runs lie")
    parser.add_method_arguments(task_class, "predict_command")
    config = parser.parse_args(arguments)
    task = run_state.load_task(_checkpoint(task_class, arguments), task_class)
    names = list(inspect.signature(task_class.predict_command).parameters)[1:]  # without self
    texts = task.predict_command(**{name: config[name] for name in names})
    for text in [texts] if isinstance(texts, str) else texts:
        print(text, flush=True)
    return 0


def _save_predictions(outputs: Any, path: Path) -> None:
    """Writes the arrays to an npz file, each under its place in the structure."""
    found = keras.tree.flatten_with_path(outputs)
    named = {"/".join(map(str, place)) or "predictions": rows for place, rows in found}
    with path.open("wb") as file:
        np.savez(file, **named)
    print(f"Wrote {path}: " + ", ".join(f"{name} {rows.shape}" for name, rows in named.items()))


def _check(command: str, task_class: type[TaskModule], arguments: list[str]) -> int:
    """Prints the verifier's report; the exit code is 1 if a check fails."""
    make_two_devices()  # before TensorFlow starts
    parser = Parser(prog=f"lightkeras {command} {task_name(task_class)}", allow_abbrev=False)
    parser.add_argument("--task_class", type=str, help="the task: a name or package.module.Class")
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    what = f"only these of {', '.join(CHECKS)}"
    parser.add_argument("--only", nargs="+", default=None, metavar="CHECK", help=what)
    parser.add_argument("--group", type=str | None, default=None, help="entry of a batch that no two splits may share")
    parser.add_argument("--deterministic", action="store_true", help="deterministic operations: equal to the bit")
    parser.add_class_arguments(task_class, "task")
    parser.add_class_arguments(task_class.data_module, "data")
    config = parser.parse_args(arguments)
    pair = parser.instantiate(config)
    options = {name: config[name] for name in ("only", "group", "deterministic")}
    report = check(pair.task, pair.data, **options)
    Console().print(report)
    return 0 if report.passed else 1


ACTIONS = {"fit": _fit, "validate": _evaluate, "test": _evaluate, "predict": _predict, "check": _check}
