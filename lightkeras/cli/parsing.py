"""Command lines: which task, with which data's class, and the values of presets, config files and options.

Presets and config files are merged into one configuration, on which the options are applied. So an option wins over a
file, a later file over an earlier one, and any file over the preset.
"""

import argparse
import dataclasses
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace

from lightkeras.cli import registry
from lightkeras.configuration import BASES, Parser, add_arguments, parsed_values, read_part, split_held, to_written
from lightkeras.runs.folder import is_run, task_name
from lightkeras.task import TaskModule
from lightkeras.utils import entry_points
from lightkeras.utils.checks import ArgumentError, UsageError, nearest
from lightkeras.utils.paths import as_path
from lightkeras.utils.trust import TrustError, import_class, trusting
from lightkeras.utils.yaml_files import read_yaml

TRAINING = ("fit", "show", "tune", "find_lr", "find_batch_size")  # the commands that have presets


@dataclasses.dataclass
class Command:
    """A command line, read up to the options of trainer, task and data.

    Attributes:
        name: The command: "fit", ...
        task_class: The task.
        data_class: Its data's class: that of the config, or else the task's `data_module`.
        names_data: Whether a config names the data's class.
        values: The values of the preset, of the config files and of the options read here.
        options: The options that are left for the command's parser.
        config: The last config file, or None.
        print_config: Whether the configuration is printed and nothing is done.
        trust: Packages whose classes the files may name.
    """

    name: str
    task_class: type[TaskModule]
    data_class: type
    names_data: bool
    values: dict[str, Any]
    options: list[str]
    config: str | None
    print_config: bool
    trust: tuple[str, ...] = ()

    @property
    def asks_for_help(self) -> bool:
        """Whether the options are listed and nothing is done."""
        return bool({"-h", "--help"} & set(self.options))


class _FirstParser(argparse.ArgumentParser):
    def error(self, message):
        raise UsageError(f"{message[0].upper()}{message[1:]}")


def _first_parser() -> argparse.ArgumentParser:
    """The options that decide which task, data and checkpoint there are; `add_common` lists them in the help."""
    parser = _FirstParser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("--config", action="append", default=[])
    parser.add_argument("--preset", default=None)
    parser.add_argument("--trust", action="append", default=[])
    parser.add_argument("--ckpt_path")
    parser.add_argument("--print_config", action="store_true", default=False)
    parser.add_argument("--trainer.default_root_dir", dest="root")
    return parser


def read_command(name: str, arguments: list[str]) -> Command:
    """Reads which task and data a command is about.

    Raises:
        UsageError: No task, or an unknown one, or a config file that cannot be read or is of another task.
    """
    named = [] if arguments[0].startswith("-") else arguments[:1]
    found, options = _first_parser().parse_known_args(arguments[len(named) :])
    configs = [_load(path) for path in found.config]
    task_class = find_task(named[0]) if named else _task_of(configs, arguments, found.trust)
    trust = trusting([*found.trust, *_packages(options)], *([task_class] if named else []))
    if name in TRAINING:
        configs.insert(0, _read_preset(task_class, [*configs, {"preset": found.preset}]))
    values, data_class = merge(configs, task_class, trust)
    if "root" in found:
        values.setdefault("trainer", {})["default_root_dir"] = found.root
    if "ckpt_path" in found:
        values["ckpt_path"] = found.ckpt_path
    config = found.config[-1] if found.config else None
    kinds = task_class, data_class or task_class.data_module, data_class is not None
    return Command(name, *kinds, values, options, config, found.print_config, trusting(trust, task_class))


def _packages(options: list[str]) -> list[str]:
    """Lists the packages of the import paths in options: whoever writes a command trusts what is in it."""
    values = " ".join(option.partition("=")[2] or option for option in options)
    return re.findall(r"(?<![\w./\\-])([A-Za-z_]\w*)\.\w", values)


def _load(path: str) -> dict[str, Any]:
    try:
        values = read_yaml(path, "--config") or {}
    except ArgumentError as error:
        raise UsageError(str(error)) from error
    if not isinstance(values, dict):
        raise UsageError(f"Expected --config to be a file of options. Received: {path}, a {type(values).__name__}")
    return values


def _task_of(configs: list[dict], arguments: list[str], trust: list[str]) -> type[TaskModule]:
    tasks = [config.get("task") or {} for config in configs]
    paths = [task["class_path"] for task in tasks if "class_path" in task]
    if not paths:
        raise UsageError(
            f"Expected a task, or a --config that names one as `task: {{class_path: ...}}`. "
            f"Received: {' '.join(arguments)}"
        )
    return import_class(paths[-1], TaskModule, trust)


def find_task(name: str) -> type[TaskModule]:
    """Returns the task of a registered name or of "package.module.Class".

    Raises:
        UsageError: There is none of that name, or the class is no TaskModule.
        ImportError: The class cannot be imported.
    """
    known = registry.tasks()
    if name not in known and "." not in name:
        raise UsageError(
            f"Expected a task: one of {', '.join(known)}, or package.module.Class. "
            f"Received: {name!r}.{nearest(name, known)}"
        )
    try:
        path = known.get(name, name)
        return import_class(path, TaskModule, [path.rpartition(".")[0]])
    except TrustError as error:
        raise UsageError(str(error)) from error
    except ImportError as error:
        package = name.split(".")[0]
        if name in known or package not in entry_points.shipped_packages():
            raise
        raise UsageError(
            f"Expected a class of your own in a module that is not named {package!r}, as a package of lightkeras is. "
            f"Received: {name}"
        ) from error


def merge(
    configs: list[dict], task_class: type[TaskModule], trust: Iterable[str]
) -> tuple[dict[str, Any], type | None]:
    """Merges configurations, each over the ones before.

    Args:
        configs: Configurations in either form, with any other options.
        task_class: The task, which must be the one that they name, if they name one.
        trust: Packages whose classes they may name.

    Returns:
        The values, with the arguments of task and data alone, and the data's class or None.
    """
    merged, data_class = {}, None
    for config in configs:
        merged.update({key: value for key, value in config.items() if key not in ("trainer", *BASES)})
        merged["trainer"] = {**merged.get("trainer", {}), **(config.get("trainer") or {})}
        parts = {part: read_part(part, config.get(part), trust) for part in BASES}
        if parts["task"][0] not in (None, task_class):
            raise UsageError(
                f"Expected a config of {task_class.__name__}. Received: one of {parts['task'][0].__name__}"
            )
        if named := parts["data"][0]:
            if named is not (data_class or task_class.data_module):
                merged.pop("data", None)  # the arguments of another class
            data_class = named
        for part, (_, given) in parts.items():
            merged[part] = {**merged.get(part, {}), **given}
    return merged, data_class


# ---- presets


def presets(task_class: type[TaskModule]) -> dict[str, Path]:
    """Returns the YAML files in the folder `presets` beside a task, by name."""
    folder = Path(str(sys.modules[task_class.__module__].__file__)).parent / "presets"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _read_preset(task_class: type[TaskModule], configs: list[dict]) -> dict[str, Any]:
    """Reads the preset that the last config names, or else the default one; empty without presets."""
    known = presets(task_class)
    name = ([config["preset"] for config in configs if config.get("preset")] or [None])[-1]
    if name is not None and name not in known:
        raise UsageError(f"Expected a preset: one of {', '.join(known)}. Received: {name!r}.{nearest(name, known)}")
    path = known.get(name or "default")
    return _load(str(path)) if path else {}


# ---- the command's own parser


def make_parser(command: Command) -> Parser:
    """Makes a parser with the options that every command has."""
    parser = Parser(prog=f"lightkeras {command.name} {task_name(command.task_class)}", allow_abbrev=False)
    parser.add_argument("--config", metavar="FILE", help="YAML file with any of the options below")
    parser.add_argument("--debug", action="store_true", help="show the traceback of every error")
    parser.add_argument("--trust", metavar="PACKAGE", help="let files name classes of this package too")
    command.values, held = split_held(command.values, command.options)
    parser.prepare(command.trust, held)
    return parser


def make_training_parser(command: Command) -> Parser:
    """Makes a parser with the options of trainer, task and data."""
    parser = make_parser(command)
    if known := presets(command.task_class):
        parser.add_argument("--preset", metavar="NAME", help=f"start from one of {', '.join(known)}")
    parser.add_argument("--print_config", action="store_true", help="print the configuration and end")
    add_arguments(parser, command.task_class, command.data_class)
    return parser


def parse(parser: Parser, command: Command) -> Namespace:
    """Parses the options over the values of presets and config files."""
    if command.asks_for_help:
        parser.parse_args(command.options)  # prints and exits
    return parser.parse_args(command.options, namespace=parser.parse_object(command.values))


def print_config(parser: Parser, config: Namespace, command: Command) -> None:
    """Prints the configuration, as config.yaml holds it."""
    found = parsed_values(parser, config)
    plain = {part: found[part] for part in ("trainer", *BASES)}
    print(
        yaml.safe_dump(to_written(plain, command.task_class, command.data_class), sort_keys=False, allow_unicode=True)
    )


def run_of_config(command: Command) -> Any:
    """Returns the run's folder whose config.yaml is given as --config, or None."""
    folder = as_path(command.config).parent if command.config else None
    return folder if folder is not None and is_run(folder) else None
