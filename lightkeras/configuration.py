"""Configurations: their written form, and tasks, data and Trainers built from them.

A configuration has one written form, in config.yaml, search.yaml, best_config.yaml and the manifest of a checkpoint::

    trainer: {max_epochs: 5}
    task: {class_path: package.module.Task, init_args: {units: 64}}
    data: {class_path: package.module.Data, init_args: {batch_size: 32}}

Presets, and files written by hand, may use a short form: `task: {units: 64}` holds the arguments alone. The task is
then the one named on the command line, and the class of the data is its `data_module`. Code works with the arguments
alone and the two classes: `read_part` reads the written form and `to_written` writes it.

Arguments whose type YAML does not have (tuples, paths, NumPy scalars, Keras objects) are written with their type (see
`utils.values`). They do not go through the parser, which knows only types that a command line can give.

A configuration is data. It may name classes of lightkeras, Keras and registered tasks, classes in modules that are
imported already, and those of trusted packages (see `utils.trust`).
"""

import copy
import re
import sys
from collections.abc import Iterable
from typing import Any

from jsonargparse import ArgumentParser, Namespace, set_parsing_settings
from jsonargparse.typing import register_type

from lightkeras.data.module import DataModule
from lightkeras.task import TaskModule
from lightkeras.trainer import Trainer
from lightkeras.utils import entry_points, values
from lightkeras.utils.checks import ArgumentError, nearest
from lightkeras.utils.durations import ClockTime
from lightkeras.utils.trust import class_path, import_class, trusting

BASES = {"task": TaskModule, "data": DataModule}
# the parts of jsonargparse's messages
_UNKNOWN = re.compile(r"(?:Group '(\w+)'.*)?(?:unrecognized arguments: -*|[Oo]ption ')([\w.]+)")
_DENIED = re.compile(r"Importing '([\w.]+)' is not allowed")
_KEY = re.compile(r'Parser key "([\w.]+)"')
_TYPE = re.compile(r"Expected an? <class '(\w+)'>")
_VALUE = re.compile(r"(?:Given|Got) value: (.*)", re.DOTALL)


# ---- the written form


def read_part(name: str, value: Any, trust: Iterable[str] = ()) -> tuple[Any, dict[str, Any]]:
    """Reads the part "task" or "data" of a configuration, in either form; `trust` is as in `import_class`.

    Returns:
        The class, or None in the short form, and the arguments.

    Raises:
        ArgumentError: The value is no mapping.
        ImportError: The class cannot be imported, is not trusted, or is no TaskModule or DataModule.
    """
    value = {} if value is None else value
    if not isinstance(value, dict):
        raise ArgumentError(f"Expected `{name}` to be a mapping of arguments. Received: {name}={value!r}")
    if "class_path" not in value:
        return None, dict(value)
    if unknown := set(value) - {"class_path", "init_args"}:
        raise ArgumentError(f"Expected `{name}` with class_path and init_args. Received: {', '.join(sorted(unknown))}")
    return import_class(value["class_path"], BASES[name], trust), dict(value.get("init_args") or {})


def to_written(config: dict[str, dict], task_class: type, data_class: type) -> dict[str, dict]:
    """Writes the arguments of "trainer", "task" and "data" in the form of config.yaml."""
    classes = {"task": task_class, "data": data_class}
    parts = {name: {"class_path": class_path(kind), "init_args": config[name]} for name, kind in classes.items()}
    return {"trainer": config["trainer"], **parts}


# ---- the parser

register_type(ClockTime, str, ClockTime.read, ValueError, type_check=lambda value, _: isinstance(value, ClockTime))


class Parser(ArgumentParser):
    """jsonargparse's parser, with errors in one line that name the nearest option.

    Attributes:
        trust: The packages that are trusted.
        held: Arguments of task and data in their written form that do not go through the parser, by part.
        kinds: The classes of task and data, by part.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.trust: tuple[str, ...] = ()
        self.held: dict[str, dict] = {}
        self.kinds: dict[str, type] = {}

    def prepare(self, trust: Iterable[str], held: dict[str, dict]) -> None:
        """Sets which packages are trusted, for every class that a value names, and the arguments that are held back."""
        self.trust, self.held = tuple(trust), held
        own = {name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names
        allowed = {"keras", "tensorflow", *entry_points.packages(), *self.trust, *own} - {"jsonargparse", "__mp_main__"}
        allowed = sorted(name for name in allowed if name and all(part.isidentifier() for part in name.split(".")))
        set_parsing_settings(
            instantiate_subclass_spec_in_any=False, import_path_denylist=["*"], import_path_allowlist=allowed
        )

    def error(self, message, ex=None):
        """Ends the process with exit code 2."""
        self.exit(2, f"lightkeras: error: {self.explain(message)} `{self.prog} --help` lists the options.\n")

    def explain(self, message: str) -> str:
        """Puts a message of jsonargparse into one line."""
        line = " ".join(message.split()).rstrip(".")
        if denied := _DENIED.search(message):
            return f"Expected the package of {denied[1]} to be trusted: --trust {denied[1].partition('.')[0]}."
        if unknown := _UNKNOWN.search(message):
            known = re.findall(r"(?m)^  (?:-h, )?(--[\w.]+)", self.format_help())
            name = ".".join(filter(None, unknown.groups()))
            return f"{line}.{nearest(f'--{name}', known)}"
        key, types, value = _KEY.search(message), _TYPE.findall(message), _VALUE.search(message)
        if key and "Problem with given" in message:
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


def add_arguments(parser: Parser, task_class: type, data_class: type) -> None:
    """Adds the groups `trainer`, `task` and `data`: the arguments of the three constructors."""
    parser.add_class_arguments(Trainer, "trainer")
    add_part(parser, "task", task_class)
    add_part(parser, "data", data_class)


def add_part(parser: Parser, name: str, kind: type) -> None:
    """Adds the group `name` with the arguments of `kind`, but for those that are held back for it."""
    parser.kinds[name] = kind
    held: set[str | int] = set(parser.held.get(name, ()))
    parser.add_class_arguments(kind, name, skip=held, instantiate=False)


def split_held(config: dict[str, Any], options: Iterable[str] = ()) -> tuple[dict[str, Any], dict[str, dict]]:
    """Splits the arguments of task and data that are written with their type from `config`.

    Args:
        config: The arguments by part, as a file holds them.
        options: A command line: an option replaces the argument that it names.

    Returns:
        The other values, and the split ones by part.
    """
    given = {option.partition("=")[0] for option in options}
    held = {
        part: {name: v for name, v in (config.get(part) or {}).items() if values.is_written_type(v)} for part in BASES
    }
    rest = {
        part: {name: v for name, v in content.items() if name not in held[part]} if part in BASES else content
        for part, content in config.items()
    }
    kept = {part: {n: v for n, v in found.items() if f"--{part}.{n}" not in given} for part, found in held.items()}
    return rest, kept


def instantiate(parser: Parser, config: Namespace) -> Namespace:
    """Builds the objects of `config`, and records the arguments of Keras' callbacks for the run's config.yaml."""
    objects = parser.instantiate(config)
    for name, kind in parser.kinds.items():
        held = {key: values.from_written(value, parser.trust) for key, value in parser.held.get(name, {}).items()}
        given = vars(objects[name]) if name in objects else {}  # a class without arguments has no group
        objects[name] = kind(**given, **held)
    if "trainer" in objects:
        record_callbacks(objects.trainer, config.trainer)
    return objects


def record_callbacks(trainer: Trainer, config: Namespace) -> None:
    """Records the arguments of Keras' callbacks for the run's config.yaml."""
    callbacks = trainer.init_args["callbacks"] or ()
    for callback, given in zip(callbacks, config.callbacks or (), strict=True):
        if not hasattr(callback, "init_args"):
            callback.init_args = given.get("init_args", Namespace()).as_dict()


def to_plain(value: Any) -> Any:
    """Converts parsed values to the types of YAML."""
    value = vars(value) if isinstance(value, Namespace) else value
    if type(value) is dict and all(isinstance(name, str) for name in value):
        return {name: to_plain(one) for name, one in value.items()}
    return [to_plain(one) for one in value] if isinstance(value, list) else values.to_written(value)


def parsed_values(parser: Parser, config: Namespace) -> dict[str, Any]:
    """Returns all values of a parsed configuration in the types of YAML, with those that were held back."""
    plain = to_plain(config)
    return {**plain, **{name: {**plain.get(name, {}), **parser.held.get(name, {})} for name in parser.kinds}}


class Configuration:
    """Checks the arguments of "trainer", "task" and "data" against their types, and builds the three objects.

    Args:
        task_class: The task.
        data_class: Its data's class.
        trust: Packages whose classes the arguments may name, beside those of the two classes.
    """

    def __init__(self, task_class: type, data_class: type, trust: Iterable[str] = ()):
        self.task_class, self.data_class = task_class, data_class
        self.trust = trusting(trust, task_class, data_class)

    @classmethod
    def read(cls, written: dict[str, Any], trust: Iterable[str] = ()) -> tuple["Configuration", dict[str, dict]]:
        """Reads a configuration whose classes are named: its Configuration, and the arguments."""
        (task_class, task), (data_class, data) = (read_part(name, written[name], trust) for name in BASES)
        return cls(task_class, data_class, trust), {"trainer": written["trainer"], "task": task, "data": data}

    def validate(self, config: dict[str, dict]) -> dict[str, dict]:
        """Returns `config` with every default, in the types of YAML.

        Raises:
            ArgumentError: An argument is unknown or of another type.
        """
        return parsed_values(*self._parse(config))

    def build(self, config: dict[str, dict]) -> Namespace:
        """Builds `task`, `data` and `trainer`."""
        return instantiate(*self._parse(config))

    def _parse(self, config: dict[str, dict]) -> tuple[Parser, Namespace]:
        plain, held = split_held(config)
        parser = RaisingParser(allow_abbrev=False)
        parser.prepare(self.trust, held)
        add_arguments(parser, self.task_class, self.data_class)
        return parser, parser.parse_object(copy.deepcopy(plain))  # the parser changes lists in it
