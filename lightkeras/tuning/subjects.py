"""What a search trains: a task, or the models of a HyperModel."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import keras_tuner

from lightkeras.configuration import Configuration, to_written
from lightkeras.distribution.strategies import make_strategy
from lightkeras.keras_models.accept import as_task
from lightkeras.runs.folder import task_name
from lightkeras.task import TaskModule
from lightkeras.trainer import Trainer, seed_everything
from lightkeras.tuning import hypermodels
from lightkeras.tuning.space import check_names, extremes, with_values
from lightkeras.utils.checks import ArgumentError, require
from lightkeras.utils.paths import Folder
from lightkeras.utils.references import find_object, refer_to
from lightkeras.utils.trust import environment

DECIDED_BY_SEARCH = ("default_root_dir", "strategy", "callbacks", "seed")  # of the Trainer's arguments


class OpenedTrial(NamedTuple):
    """A trial, ready to be trained.

    Attributes:
        name: The folder of its runs.
        trainer: Its Trainer.
        fit: Trains, or resumes.
    """

    name: str
    trainer: Trainer
    fit: Callable[[], None]


class Subject(Protocol):
    """What a search trains."""

    title: str
    monitor: tuple[str, str]
    environment: dict[str, str]
    importable: bool  # another process can make it from a job

    def default_space(self) -> Any:
        """Returns the space that is searched if none is given, or None."""

    def validate(self, given: dict[str, Any], space: keras_tuner.HyperParameters, taken: tuple[str, ...]) -> dict:
        """Returns every argument by part; raises for one that is wrong, or decided by the search."""
        ...

    def write(self, config: dict[str, Any]) -> dict[str, Any]:
        """Returns the arguments as a file holds them."""
        ...

    def make_job(self, config: dict[str, Any], values: keras_tuner.HyperParameters) -> dict[str, Any]:
        """Returns what a trial with these values trains, as JSON."""
        ...

    def make_best(self, config: dict[str, Any], values: keras_tuner.HyperParameters) -> dict[str, Any]:
        """Returns the configuration of the best trial, for its file."""
        ...

    def open(self, job: dict[str, Any], changes: dict[str, Any]) -> OpenedTrial:
        """Opens a trial; `changes` of the Trainer's arguments."""
        ...

    def load(self, run: Folder, job: dict[str, Any]) -> Any:
        """Loads the trained task or model of a run."""
        ...


class TaskSubject(Subject):
    """A task; see `Tuner`."""

    importable = True

    def __init__(self, task_class: type[TaskModule], data_class: type, trust: Iterable[str] = ()):
        self.task_class, self.data_class = task_class, data_class
        self.title, self.monitor = task_class.__name__, task_class.monitor
        self.configuration = Configuration(task_class, data_class, trust)
        self.environment = environment(self.configuration.trust)

    def default_space(self) -> Any:
        """Returns the task's `search_space`."""
        return getattr(self.task_class, "search_space", None)

    def validate(self, given, space, taken):
        """Checks the arguments; tries the values of the space on the arguments' types."""
        classes = {"task": self.task_class, "data": self.data_class, "trainer": Trainer}
        check_names(space, classes, tuple(f"trainer.{name}" for name in (*DECIDED_BY_SEARCH, *taken)))
        config = self.configuration.validate({**given, "data": given["data"] or {}})
        for parameter in space.space:
            for value in extremes(parameter):
                self.configuration.validate(with_values(config, {parameter.name: value}))
        return config

    def write(self, config):
        """Returns the form of config.yaml."""
        return to_written(config, self.task_class, self.data_class)

    def make_job(self, config, values):
        """Returns the configuration with the values."""
        return {"config": self.write(with_values(config, values.values))}

    def make_best(self, config, values):
        """Returns a configuration for `lightkeras fit --config`."""
        return self.write(with_values(config, values.values))

    def open(self, job, changes):
        """Builds task, data and Trainer."""
        configuration, arguments = Configuration.read(job["config"])
        arguments["trainer"] |= changes
        objects = configuration.build(arguments)
        resumed = None if objects.trainer.fast_dev_run else "auto"
        fit = functools.partial(objects.trainer.fit, objects.task, objects.data, ckpt_path=resumed)
        return OpenedTrial(task_name(configuration.task_class), objects.trainer, fit)

    def load(self, run, job):
        """Loads the task with its best weights."""
        return TaskModule.load_from_checkpoint(run, self.configuration.trust)


class ModelSubject(Subject):
    """The models of a HyperModel, or of a build function, and their data.

    Args:
        given: As `as_hypermodel` takes it, or "package.module:name" of it.
        data: The data, a dict of the keywords of `Trainer.fit` with the entry "data", a function that returns either,
            or "package.module:function".
    """

    monitor = ("val_loss", "min")

    def __init__(self, given: Any, data: Any, trust: Iterable[str] = ()):
        given = find_object(given) if isinstance(given, str) else given
        self.hypermodel = hypermodels.as_hypermodel(given)
        expected = "the data, a function that returns it, or package.module:function"
        require(data is not None, "data", expected, data)
        self._data = find_object(data) if isinstance(data, str) else data
        self.title = getattr(given, "__name__", type(given).__name__)
        self.references = {"model": refer_to(given), "data": refer_to(self._data)}
        self.importable = all(self.references.values())
        modules = [name.partition(".")[0] for name in self.references.values() if name]
        self.environment = environment((*trust, *modules))

    @functools.cached_property
    def data(self) -> dict[str, Any]:
        """The keywords of `Trainer.fit`; read once in a process."""
        loaded = self._data() if callable(self._data) and not hasattr(self._data, "__len__") else self._data
        loaded = loaded if isinstance(loaded, dict) and "data" in loaded else {"data": loaded}
        return {name: value for name, value in loaded.items() if name not in ("test_data", "predict_data")}

    def default_space(self) -> Any:
        """Returns a function that declares what `build` and `fit` declare."""
        if isinstance(self.hypermodel, hypermodels.BuiltByOptions):
            return None
        return lambda hp: hypermodels.declare(self.hypermodel, self.data, hp)

    def validate(self, given, space, taken):
        """Checks the Trainer's arguments, and builds the first model."""
        require(not given["task"], "task", "left out: a HyperModel has no arguments", given["task"])
        expected = "without callbacks: give them to model.fit in HyperModel.fit, which makes them anew for each trial"
        require(not given["trainer"].get("callbacks"), "trainer", expected, given["trainer"].get("callbacks"))
        as_task(self.hypermodel.build(space.copy()))
        return {"trainer": Trainer(**given["trainer"]).init_args}

    def write(self, config):
        """Returns the Trainer's arguments, and the names of model and data, null if they are of no module."""
        return {"trainer": config["trainer"], **self.references}

    def make_job(self, config, values):
        """Returns the hyperparameters with the rest."""
        return {"config": self.write(config), "hp": values.get_config()}

    def make_best(self, config, values):
        """Returns the values of the hyperparameters with the rest."""
        own = {name: value for name, value in values.values.items() if not name.startswith("tuner/")}
        return {**self.write(config), "values": own}

    def open(self, job, changes):
        """Builds the model under the Trainer's seed and strategy."""
        trainer = Trainer(**{**job["config"]["trainer"], **changes})
        hp = keras_tuner.HyperParameters.from_config(job["hp"])
        seed_everything(trainer.seed)
        strategy: Any = make_strategy(trainer.devices, trainer.strategy)
        with strategy.scope():
            model = self.hypermodel.build(hp)
        fit = functools.partial(hypermodels.fit, self.hypermodel, hp, model, trainer, self.data)
        return OpenedTrial(as_task(model).name_of_runs, trainer, fit)

    def load(self, run, job):
        """Builds the model and restores its best weights."""
        model = self.hypermodel.build(keras_tuner.HyperParameters.from_config(job["hp"]))
        held_out = self.data.get("validation_data")
        data = self.data["data"] if held_out is None else held_out
        quiet: Any = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        Trainer(**quiet, limit_test_batches=1).test(model, data, ckpt_path=str(run))
        return model


def open_subject(given: Any, data_class: type | None, data: Any, trust: Iterable[str]) -> Subject:
    """Returns what a search trains, by the arguments of `Tuner`."""
    if isinstance(given, type) and issubclass(given, TaskModule):
        return TaskSubject(given, data_class or given.data_module, trust)
    require(data_class is None, "data_class", "None for models, whose data is `data`", data_class)
    return ModelSubject(given, data, trust)


def read_subject(config: dict[str, Any], trust: Iterable[str] = ()) -> Subject:
    """Returns what a search trains, by its written configuration."""
    given = read_arguments(config, trust)
    return open_subject(given["task_class"], given.get("data_class"), given["data"], trust)


def read_arguments(config: dict[str, Any], trust: Iterable[str] = ()) -> dict[str, Any]:
    """Returns the arguments of `Tuner` that a written configuration holds.

    Raises:
        ArgumentError: Model or data are of no module.
    """
    if "task" in config:
        configuration, arguments = Configuration.read(config, trust)
        return {"task_class": configuration.task_class, "data_class": configuration.data_class, **arguments}
    if not (config["model"] and config["data"]):
        raise ArgumentError(
            "Expected model and data that can be imported: a class or function of a module. Received: a search of "
            "others; make the Tuner again, with the same arguments"
        )
    return {"task_class": config["model"], "data": config["data"], "trainer": config["trainer"]}
