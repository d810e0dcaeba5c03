"""What a search trains: a task on its data module, or the plain Keras model of a function on the data of another."""

import copy
import functools
import inspect
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import keras

from lightkeras.configuration import Configuration, RaisingParser, parsed_values, record_callbacks, to_written
from lightkeras.keras_models.accept import as_task
from lightkeras.keras_models.functions import (
    build_model,
    find_function,
    find_named,
    fit_keywords,
    function_path,
    load_data_of,
)
from lightkeras.runs.folder import task_name
from lightkeras.task import TaskModule
from lightkeras.trainer import Trainer
from lightkeras.tuning.hypermodel_subject import HP, HYPERMODEL, HyperModelSubject
from lightkeras.tuning.hypermodels import is_hypermodel
from lightkeras.tuning.trained import load_model, require_run
from lightkeras.utils.checks import require
from lightkeras.utils.trust import VARIABLE, TrustError, class_path, is_trusted

MODEL, DATA = "model", "data"  # the functions' groups of arguments


class Prepared(NamedTuple):
    """The objects of a run.

    Attributes:
        trainer: The Trainer.
        name: The folder of the runs.
        model: The task or the model.
        data: The keywords of `Trainer.fit` for the data.
    """

    trainer: Trainer
    name: str
    model: Any
    data: dict[str, Any]

    def fit(self, ckpt_path: str | None = None) -> Any:
        """Trains."""
        return self.trainer.fit(self.model, ckpt_path=ckpt_path, **self.data)


class TaskSubject:
    """A task on its data module.

    Args:
        task_class: The task.
        data_class: Its data's class; None for `task_class.data_module`.
        trust: Packages whose classes the arguments may name, beside those of the two classes.

    Attributes:
        given: The task's class, or the function that builds the model.
        data_class: The data's class, or the function that gives the data.
        groups: What takes the arguments, by the first part of their names.
        task_group: The group of the task or the model.
        title: A name for people.
        monitor: The metric that ranks trials, and "min" or "max".
        search_space: The space where none is given; None for none.
        trust: What a process of a trial must trust.
        command: What `lightkeras fit` takes before and after `--config best_config.yaml`.
    """

    task_group, importable = "task", True

    def __init__(self, task_class: type[TaskModule], data_class: type | None = None, trust: Iterable[str] = ()):
        self._configuration = Configuration(task_class, data_class or task_class.data_module, trust)
        self.given, self.data_class = task_class, self._configuration.data_class
        self.groups = {"task": task_class, "data": self.data_class, "trainer": Trainer}
        self.title, self.monitor, self.search_space = task_class.__name__, task_class.monitor, task_class.search_space
        self.trust, path = self._configuration.trust, class_path(task_class)
        self.command = "", "" if is_trusted(path) else f" --trust {path.partition('.')[0]}"

    def validate(self, config: dict[str, dict]) -> dict[str, dict]:
        """Returns `config` with every default; raises ArgumentError where an argument is unknown or of another type."""
        return self._configuration.validate(config)

    def written(self, config: dict[str, dict]) -> dict[str, dict]:
        """Returns `config` in the form of a file."""
        return to_written(config, self.given, self.data_class)

    def command_config(self, config: dict[str, dict]) -> dict[str, dict]:
        """Returns `config` as `lightkeras fit --config` takes it."""
        return self.written(config)

    def prepare(self, config: dict[str, dict]) -> Prepared:
        """Makes the objects of a run."""
        objects = self._configuration.build(config)
        return Prepared(objects.trainer, task_name(self.given), objects.task, {"data": objects.data})

    def load(self, folder: Path, config: dict[str, dict]) -> TaskModule:
        """Loads the task of the newest run in a trial's folder, with its best weights."""
        return TaskModule.load_from_checkpoint(require_run(folder, task_name(self.given)), self.trust)


class ModelSubject:
    """The plain Keras model that a function builds.

    Args:
        build: Returns the compiled model; all of its arguments have defaults.
        load: Returns the data: a DataModule, the data itself, or a dict of the keywords of `Trainer.fit`. None for the
            function `load_data` of the same module.
        trust: Packages whose classes the Trainer's arguments may name.

    The attributes are those of `TaskSubject`.
    """

    task_group, importable = MODEL, True
    monitor = ("val_loss", "min")
    search_space = None

    def __init__(self, build: Callable[..., keras.Model], load: Callable | None = None, trust: Iterable[str] = ()):
        self.given, self.data_class = build, load or load_data_of(build)
        self._functions = {MODEL: build, DATA: self.data_class}
        self._paths = {group: function_path(function) for group, function in self._functions.items()}
        self.groups = {**self._functions, "trainer": Trainer}
        self.title, self.command = build.__name__, (f"{self._paths[MODEL]} ", "")
        packages = {path.partition(":")[0].partition(".")[0] for path in self._paths.values()}
        self.trust = tuple(dict.fromkeys((*trust, *sorted(packages), *self._paths.values())))

    def validate(self, config: dict[str, dict]) -> dict[str, dict]:
        """See `TaskSubject`."""
        return {**{group: {} for group in self.groups}, **parsed_values(*self._parse(config))}

    def written(self, config: dict[str, dict]) -> dict[str, dict]:
        """See `TaskSubject`."""
        parts = {name: {"function": path, "init_args": config[name]} for name, path in self._paths.items()}
        return {"trainer": config["trainer"], **parts}

    def command_config(self, config: dict[str, dict]) -> dict[str, dict]:
        """See `TaskSubject`."""
        return {**self.written(config), MODEL: config[MODEL]}

    def prepare(self, config: dict[str, dict]) -> Prepared:
        """See `TaskSubject`."""
        parser, parsed = self._parse(config)
        trainer = parser.instantiate(parsed).trainer
        record_callbacks(trainer, parsed.trainer)
        given = {name: vars(parsed[name]) if name in parsed else {} for name in self._functions}
        data = fit_keywords(self._functions[DATA](**given[DATA]))
        model = build_model(trainer, functools.partial(self._functions[MODEL], **given[MODEL]))
        return Prepared(trainer, as_task(model).name_of_runs, model, data)

    def load(self, folder: Path, config: dict[str, dict]) -> keras.Model:
        """Returns the model of the newest run in a trial's folder, with its best weights."""
        return load_model(self, folder, config)

    def _parse(self, config: dict[str, dict]) -> tuple[RaisingParser, Any]:
        parser = RaisingParser(allow_abbrev=False)
        parser.prepare(self.trust, {})
        parser.add_class_arguments(Trainer, "trainer")
        for name, function in self._functions.items():
            if inspect.signature(function).parameters:
                parser.add_function_arguments(function, name)
        given = {name: arguments for name, arguments in config.items() if arguments or name == "trainer"}
        return parser, parser.parse_object(copy.deepcopy(given))  # the parser changes lists in it


Subject = TaskSubject | ModelSubject | HyperModelSubject


def make_subject(given: Any, data: Any, trust: Iterable[str] = ()) -> Subject:
    """Makes the subject of a search of a task's class, a function that builds a plain model, or a HyperModel.

    Raises:
        TypeError: `given` is none of them.
    """
    if is_hypermodel(given):
        return HyperModelSubject(given, data, trust)
    is_task = isinstance(given, type) and issubclass(given, TaskModule)
    expected = "a TaskModule, a function that builds a compiled keras.Model, or a keras_tuner.HyperModel"
    require(is_task or inspect.isfunction(given), "task_class", expected, given, TypeError)
    return TaskSubject(given, data, trust) if is_task else ModelSubject(given, data, trust)


def read_subject(written: dict[str, Any], trust: Iterable[str] = ()) -> tuple[Any, dict[str, dict]]:
    """Reads what `written` returned: the subject, and the arguments.

    Raises:
        TrustError: A file names a function that the caller did not.
    """
    if HYPERMODEL in written:
        return _read_hypermodel(written, trust), {name: written[name] for name in ("trainer", HP)}
    if MODEL not in written:
        configuration, arguments = Configuration.read(written, trust)
        return TaskSubject(configuration.task_class, configuration.data_class, trust), arguments
    build, load = (_trusted_function(written[name]["function"], trust) for name in (MODEL, DATA))
    arguments = {name: dict(written[name]["init_args"]) for name in (MODEL, DATA)}
    return ModelSubject(build, load, trust), {"trainer": written["trainer"], **arguments}


def _trusted_function(path: str, trust: Iterable[str]) -> Callable:
    """Finds a function that a file names. It is called, so it must be named by the caller too."""
    _require_named(path, trust)
    return find_function(path)


def _read_hypermodel(written: dict[str, Any], trust: Iterable[str]) -> HyperModelSubject:
    paths = [written[name] for name in (HYPERMODEL, DATA)]
    expected = "names of a module; make the Tuner again, with the same arguments"
    require(all(paths), "the HyperModel and the data of the search", expected, paths)
    for path in paths:
        _require_named(path, trust)
    return HyperModelSubject(find_named(paths[0]), find_named(paths[1]), trust)


def _require_named(path: str, trust: Iterable[str]) -> None:
    if path not in (*trust, *os.environ.get(VARIABLE, "").split(",")):
        raise TrustError(
            f"Expected {path} to be named by the caller, as it is called. Received: a file names it. If you trust it: "
            f'trust=["{path}"]'
        )
