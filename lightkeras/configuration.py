"""Configurations: their written form, and tasks, data and Trainers built from them.

A configuration has one written form, in config.yaml, search.yaml, best_config.yaml and the manifest of a checkpoint::

    trainer: {max_epochs: 5}
    task: {class_path: package.module.Task, init_args: {units: 64}}
    data: {class_path: package.module.Data, init_args: {batch_size: 32}}

Presets, and files written by hand, may use a short form: `task: {units: 64}` holds the arguments alone. The task is
then the one named on the command line, and the class of the data is its `data_module`. Code works with the arguments
alone and the two classes: `read_part` reads the written form and `to_written` writes it.
"""

import copy
import re
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from lightkeras.data.module import DataModule
from lightkeras.task import TaskModule
from lightkeras.trainer import Trainer
from lightkeras.utils.checks import ArgumentError, nearest
from lightkeras.utils.hparams import class_path, import_class

BASES = {"task": TaskModule, "data": DataModule}
# the parts of jsonargparse's messages
_UNKNOWN = re.compile(r"(?:Group '(\w+)'.*)?(?:unrecognized arguments: -*|[Oo]ption ')([\w.]+)")
_KEY = re.compile(r'Parser key "([\w.]+)"')
_TYPE = re.compile(r"Expected an? <class '(\w+)'>")
_VALUE = re.compile(r"(?:Given|Got) value: (.*)", re.DOTALL)


# ---- the written form


def read_part(name: str, value: Any) -> tuple[type | None, dict[str, Any]]:
    """Reads the part "task" or "data" of a configuration, in either form.

    Returns:
        The class, or None in the short form, and the arguments.

    Raises:
        ArgumentError: The value is no mapping, or the class is no TaskModule or DataModule.
        ImportError: The class cannot be imported.
    """
    value = {} if value is None else value
    if not isinstance(value, dict):
        raise ArgumentError(f"Expected `{name}` to be a mapping of arguments. Received: {name}={value!r}")
    if "class_path" not in value:
        return None, dict(value)
    if unknown := set(value) - {"class_path", "init_args"}:
        raise ArgumentError(f"Expected `{name}` with class_path and init_args. Received: {', '.join(sorted(unknown))}")
    return import_part(name, value["class_path"]), dict(value.get("init_args") or {})


def import_part(name: str, path: str) -> type:
    """Imports the class of a task (`name` "task") or of data ("data").

    Raises:
        ArgumentError: It is another kind of class.
        ImportError: It cannot be imported.
    """
    found = import_class(path)
    if not (isinstance(found, type) and issubclass(found, BASES[name])):
        raise ArgumentError(f"Expected {path} to be a {BASES[name].__name__}. Received: {found!r}")
    return found


def to_written(config: dict[str, dict], task_class: type, data_class: type) -> dict[str, dict]:
    """Writes the arguments of "trainer", "task" and "data" in the form of config.yaml."""
    classes = {"task": task_class, "data": data_class}
    parts = {name: {"class_path": class_path(kind), "init_args": config[name]} for name, kind in classes.items()}
    return {"trainer": config["trainer"], **parts}


# ---- the parser


class Parser(ArgumentParser):
    """jsonargparse's parser, with errors in one line that name the nearest option."""

    def error(self, message, ex=None):
        """Ends the process with exit code 2."""
        self.exit(2, f"lightkeras: error: {self.explain(message)} `{self.prog} --help` lists the options.\n")

    def explain(self, message: str) -> str:
        """Puts a message of jsonargparse into one line."""
        line = " ".join(message.split()).rstrip(".")
        if unknown := _UNKNOWN.search(message):
            known = re.findall(r"(?m)^  (?:-h, )?(--[\w.]+)", self.format_help())
            name = ".".join(filter(None, unknown.groups()))
            return f"{line}.{nearest(f'--{name}', known)}"
        key, types, value = _KEY.search(message), _TYPE.findall(message), _VALUE.search(message)
        if "Problem with given" in message:
            problem = message.partition("Problem with given ")[2].partition("\n    -")[0]
            return f"Expected `{key[1]}` to be importable. Received: {' '.join(problem.split())}."
        if key and types and value:
            expected = " or ".join(types).replace("NoneType", "None")
            return f"Expected `{key[1]}` to be {expected}. Received: {value[1].strip().rstrip('.')}."
        return f"{line}."


class RaisingParser(Parser):
    """Raises an ArgumentError where the parser of the command line ends the process."""

    def error(self, message, ex=None):
        """Raises the error."""
        raise ArgumentError(self.explain(message)) from ex


def add_arguments(parser: ArgumentParser, task_class: type, data_class: type) -> None:
    """Adds the groups `trainer`, `task` and `data`: the arguments of the three constructors."""
    parser.add_class_arguments(Trainer, "trainer")
    parser.add_class_arguments(task_class, "task")
    parser.add_class_arguments(data_class, "data")


def instantiate(parser: ArgumentParser, config: Namespace) -> Namespace:
    """Builds the objects of `config`, and records the arguments of Keras' callbacks for the run's config.yaml."""
    objects = parser.instantiate(config)
    callbacks = objects.trainer.init_args["callbacks"] or ()
    for callback, given in zip(callbacks, config.trainer.callbacks or (), strict=True):
        if not hasattr(callback, "init_args"):
            callback.init_args = given.get("init_args", Namespace()).as_dict()
    return objects


def to_plain(value: Any) -> Any:
    """Converts parsed values to dicts and lists."""
    value = vars(value) if isinstance(value, Namespace) else value
    if isinstance(value, dict):
        return {name: to_plain(one) for name, one in value.items()}
    return [to_plain(one) for one in value] if isinstance(value, list | tuple) else value


class Configuration:
    """Checks the arguments of "trainer", "task" and "data" against their types, and builds the three objects.

    Args:
        task_class: The task.
        data_class: Its data's class.
    """

    def __init__(self, task_class: type, data_class: type):
        self.task_class, self.data_class = task_class, data_class
        self._parser = RaisingParser(allow_abbrev=False)
        add_arguments(self._parser, task_class, data_class)

    @classmethod
    def read(cls, written: dict[str, Any]) -> tuple["Configuration", dict[str, dict]]:
        """Reads a configuration whose classes are named: its Configuration, and the arguments."""
        (task_class, task), (data_class, data) = (read_part(name, written[name]) for name in BASES)
        return cls(task_class, data_class), {"trainer": written["trainer"], "task": task, "data": data}

    def validate(self, config: dict[str, dict]) -> dict[str, dict]:
        """Returns `config` with every default, as plain values.

        Raises:
            ArgumentError: An argument is unknown or of another type.
        """
        return to_plain(self._parse(config))

    def build(self, config: dict[str, dict]) -> Namespace:
        """Builds `task`, `data` and `trainer`."""
        return instantiate(self._parser, self._parse(config))

    def _parse(self, config: dict[str, dict]) -> Namespace:
        return self._parser.parse_object(copy.deepcopy(config))  # the parser changes lists in it
