"""What the commands do, once TensorFlow may be imported."""

import inspect
import re
import sys
from pathlib import Path

import numpy as np
import yaml
from jsonargparse import ArgumentParser, Namespace

from lightkeras import checkpoint as files
from lightkeras import run_state
from lightkeras.checkpoint import CheckpointError
from lightkeras.checks import nearest
from lightkeras.cli import task_paths
from lightkeras.download import DownloadError
from lightkeras.hyperparameters import import_class
from lightkeras.task import TaskModule
from lightkeras.trainer import Trainer, task_name

FAILURES = (ValueError, TypeError, ImportError, OSError, ArithmeticError, CheckpointError, DownloadError)


class Parser(ArgumentParser):
    """jsonargparse's, which also suggests the nearest option for an unknown one."""

    def error(self, message, ex=None):
        known = [option for action in self._actions for option in action.option_strings]
        unknown = re.search(r"(--[\w.]+)", message) if "nrecognized" in message or "not accepted" in message else None
        hint = nearest(unknown[1], known) if unknown else ""
        self.exit(2, f"{self.prog}: error: {message}.{hint} `{self.prog} --help` lists the options.\n")


def run(command: str, arguments: list[str]) -> int:
    """Runs `lightkeras COMMAND ARGUMENTS`; returns the exit code."""
    sys.path.insert(0, "")  # a task of the user's own lies where the command is run
    try:
        task_class, rest = _task_class(arguments)
        return {"fit": _fit, "validate": _evaluate, "test": _evaluate, "predict": _predict}[command](
            command, task_class, rest
        )
    except FAILURES as error:
        if "--debug" in arguments:
            raise
        print(f"lightkeras: error: {error}", file=sys.stderr)
        return 1


def _task_class(arguments: list[str]) -> tuple[type[TaskModule], list[str]]:
    """The task named by the first argument, or by the config file."""
    if arguments and not arguments[0].startswith("-"):
        name, rest = arguments[0], arguments[1:]
    else:
        name, rest = _from_config(arguments), arguments
    known = task_paths()
    if name not in known and "." not in name:
        raise ValueError(
            f"Expected a task: one of {', '.join(known)}, or package.module.Class. "
            f"Received: {name!r}.{nearest(name, known)}"
        )
    task_class = import_class(known.get(name, name))
    if not (isinstance(task_class, type) and issubclass(task_class, TaskModule)):
        raise TypeError(f"Expected {name} to be a TaskModule. Received: {task_class!r}")
    return task_class, ["--task_class", name, *rest]


def _from_config(arguments: list[str]) -> str:
    path = _value(arguments, "--config")
    name = path and yaml.safe_load(Path(path).read_text(encoding="utf-8")).get("task_class")
    if not name:
        raise ValueError(f"Expected a task, or a --config that names one. Received: {' '.join(arguments) or 'nothing'}")
    return name


def _value(arguments: list[str], option: str) -> str | None:
    """The last value of `--option value` or `--option=value`."""
    given = None
    for index, argument in enumerate(arguments):
        if argument == option and index + 1 < len(arguments):
            given = arguments[index + 1]
        elif argument.startswith(f"{option}="):
            given = argument.split("=", 1)[1]
    return given


def presets(task_class: type[TaskModule]) -> dict[str, Path]:
    """The YAML files in the folder `presets` beside a task, by name."""
    folder = Path(sys.modules[task_class.__module__].__file__).parent / "presets"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _parser(command: str, task_class: type[TaskModule]) -> Parser:
    known = presets(task_class)
    defaults = [str(known["default"])] if command == "fit" and "default" in known else []
    parser = Parser(prog=f"lightkeras {command} {task_name(task_class)}", default_config_files=defaults)
    parser.add_argument("--config", action="config", help="YAML file with any of the options below")
    parser.add_argument("--task_class", type=str, help="the task: a name or package.module.Class")
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    return parser


def _fit(command: str, task_class: type[TaskModule], arguments: list[str]) -> int:
    parser = _parser(command, task_class)
    known = presets(task_class)
    if known:
        parser.add_argument("--preset", type=str, help=f"start from one of {', '.join(known)}", default=None)
    parser.add_argument(
        "--ckpt_path", type=str, default=None,
        help="continue a run: its folder, a checkpoint, last, best, or auto (begin it if there is none)",
    )  # fmt: skip
    parser.add_class_arguments(Trainer, "trainer")
    parser.add_class_arguments(task_class, "task")
    parser.add_class_arguments(task_class.data_module, "data")
    config = parser.parse_args([*_preset(arguments, known), *arguments])
    made = parser.instantiate_classes(config)
    made.trainer.fit(made.task, made.data, _of_config(config))
    if made.trainer.run_dir:
        print(f"Run: {made.trainer.run_dir}")
    return 128 + made.trainer.interrupted if made.trainer.interrupted else 0


def _preset(arguments: list[str], known: dict[str, Path]) -> list[str]:
    name = _value(arguments, "--preset")
    if name is None:
        return []
    if name not in known:
        raise ValueError(f"Expected a preset: one of {', '.join(known)}. Received: {name!r}.{nearest(name, known)}")
    return ["--config", str(known[name])]


def _of_config(config: Namespace) -> str | None:
    """`--ckpt_path`, where "last" and "best" mean the run that `--config RUN/config.yaml` is of."""
    if config.config and config.ckpt_path in ("last", "best", "auto"):
        folder = Path(str(config.config[-1])).parent
        if run_state.is_run(folder):
            return str(folder / config.ckpt_path.replace("auto", "last"))
    return config.ckpt_path


def _checkpoint(task_class: type[TaskModule], arguments: list[str]) -> str:
    root = Path(_value(arguments, "--trainer.default_root_dir") or "runs")
    return run_state.find_checkpoint(_value(arguments, "--ckpt_path") or "best", root, task_name(task_class))


def _trained(command: str, task_class: type[TaskModule], arguments: list[str]) -> tuple[Parser, files.Checkpoint]:
    """A parser with the options of a trained task: its data's are by default those it was trained with."""
    parser = _parser(command, task_class)
    parser.add_argument("--ckpt_path", type=str, default="best", help="a run's folder, a checkpoint, best or last")
    parser.add_class_arguments(Trainer, "trainer")
    parser.add_class_arguments(task_class.data_module, "data")
    if {"-h", "--help"} & set(arguments):
        return parser, None
    saved = files.load_checkpoint(_checkpoint(task_class, arguments))
    parser.set_defaults({f"data.{name}": value for name, value in saved.state["data"]["init_args"].items()})
    return parser, saved


def _evaluate(command: str, task_class: type[TaskModule], arguments: list[str]) -> int:
    parser, saved = _trained(command, task_class, arguments)
    made = parser.instantiate_classes(parser.parse_args(arguments))
    task = run_state.load_task(saved.path, task_class)
    made.data.load_state_dict(saved.state["data_state"])
    for name, value in getattr(made.trainer, command)(task, made.data).items():
        print(f"{name:<30}{value:.6f}")
    return 0


def _predict(command: str, task_class: type[TaskModule], arguments: list[str]) -> int:
    parser, saved = _trained(command, task_class, arguments)
    own = hasattr(task_class, "predict_command")
    if own:
        parser.add_method_arguments(task_class, "predict_command")
    else:
        parser.add_argument("--out", type=str, default="predictions.npz", help="file for the arrays")
    config = parser.parse_args(arguments)
    task = run_state.load_task(saved.path, task_class)
    if own:
        names = list(inspect.signature(task_class.predict_command).parameters)[1:]  # without self
        print(task.predict_command(**{name: config[name] for name in names}))
        return 0
    made = parser.instantiate_classes(config)
    made.data.load_state_dict(saved.state["data_state"])
    _save_predictions(made.trainer.predict(task, made.data), Path(config.out))
    return 0


def _save_predictions(outputs, path: Path) -> None:
    if path.exists():
        raise FileExistsError(f"Expected --out to be a new file. Received: {path}, which exists")
    named = outputs if isinstance(outputs, dict) else {"predictions": outputs}
    np.savez(path, **named)
    print(f"Wrote {path}: " + ", ".join(f"{name} {rows.shape}" for name, rows in named.items()))
