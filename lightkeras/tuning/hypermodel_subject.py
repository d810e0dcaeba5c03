"""The models of KerasTuner's HyperModel as what a search trains."""

import functools
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import keras_tuner

from lightkeras.keras_models.accept import as_task
from lightkeras.keras_models.functions import LOAD_DATA, build_model, fit_keywords
from lightkeras.trainer import Trainer
from lightkeras.tuning import hypermodels
from lightkeras.tuning.trained import load_model
from lightkeras.utils.checks import require

HYPERMODEL, DATA, HP = "hypermodel", "data", "hp"  # parts of a configuration


class PreparedHyperModel(NamedTuple):
    """The objects of a run; see `Prepared`.

    Attributes:
        trainer: The Trainer.
        name: The folder of the runs.
        model: The model.
        data: The keywords of `Trainer.fit` for the data.
        hypermodel: What built the model.
        hp: Its hyperparameters.
    """

    trainer: Trainer
    name: str
    model: keras.Model
    data: dict[str, Any]
    hypermodel: keras_tuner.HyperModel
    hp: keras_tuner.HyperParameters

    def fit(self, ckpt_path: str | None = None) -> None:
        """Trains by `HyperModel.fit`."""
        hypermodels.fit(self.hypermodel, self.hp, self.model, self.trainer, self.data, ckpt_path)


class HyperModelSubject:
    """The models that a HyperModel, or a function `build(hp)`, builds; see `TaskSubject` for the attributes.

    Its hyperparameters have names of its own, and what `build` and `fit` declare is the space.

    Args:
        given: The HyperModel, its class, or the function.
        load: A function that returns the data; None for `load_data` of the same module, unless the data is given.
        trust: Packages that processes of the search trust.
    """

    task_group, monitor = HYPERMODEL, ("val_loss", "min")

    def __init__(self, given: Any, load: Callable | None = None, trust: Iterable[str] = ()):
        self.hypermodel = hypermodels.as_hypermodel(given)
        self.given, self._trust = given, tuple(trust)
        self.data_class: Any = load or getattr(sys.modules.get(given.__module__), LOAD_DATA, None)
        self.title = getattr(given, "__name__", type(given).__name__)
        self.groups = {"trainer": Trainer}
        self._data: dict[str, Any] = {}
        self.command = f"{_find_path(given) or self.title} ", ""

    @property
    def paths(self) -> dict[str, str | None]:
        """The names "package.module:name" of the HyperModel and the data; None for one that no module has."""
        return {HYPERMODEL: _find_path(self.given), DATA: None if self._data else _find_path(self.data_class)}

    @property
    def trust(self) -> tuple[str, ...]:
        """What a process of a trial must trust."""
        known = [path for path in self.paths.values() if path]
        return (*self._trust, *dict.fromkeys(path.partition(":")[0].partition(".")[0] for path in known), *known)

    @property
    def importable(self) -> bool:
        """Whether another process can make it."""
        return all(self.paths.values())

    def give_data(self, data: dict[str, Any]) -> None:
        """Sets the data itself, instead of a function: the keywords of `Trainer.fit`."""
        expected = 'a dict with the entry "data", or data_class a function that returns the data'
        require("data" in data or (not data and self.data_class is not None), "data", expected, sorted(data))
        self._data = data

    @functools.cached_property
    def data(self) -> dict[str, Any]:
        """The keywords of `Trainer.fit`, read once."""
        return fit_keywords(self._data or self.data_class())

    def search_space(self, hp: keras_tuner.HyperParameters) -> None:
        """Declares what `build` and `fit` declare."""
        hypermodels.declare(self.hypermodel, self.data, hp)

    def choose(self, config: dict[str, Any], values: dict[str, Any], space: Any) -> dict[str, Any]:
        """Returns the configuration with the values of a trial."""
        own = {name: value for name, value in values.items() if not name.startswith("tuner/")}
        return {**config, HP: {**space.get_config(), "values": own}}

    def validate(self, config: dict[str, Any]) -> dict[str, Any]:
        """See `TaskSubject`; builds a model."""
        require(not config[HYPERMODEL], "task", "left out: a HyperModel has no arguments", config[HYPERMODEL])
        given = config["trainer"]
        expected = "without callbacks: give them to model.fit in HyperModel.fit, which makes them anew for each trial"
        require(not given.get("callbacks"), "trainer", expected, given.get("callbacks"))
        as_task(self.hypermodel.build(keras_tuner.HyperParameters()))
        return {"trainer": Trainer(**given).init_args}

    def written(self, config: dict[str, Any]) -> dict[str, Any]:
        """See `TaskSubject`."""
        return {"trainer": config["trainer"], **self.paths, HP: config.get(HP)}

    def command_config(self, config: dict[str, Any]) -> dict[str, Any]:
        """Returns the best configuration: the values of the hyperparameters, and the rest."""
        return {"trainer": config["trainer"], DATA: self.paths[DATA], HP: config[HP]["values"]}

    def prepare(self, config: dict[str, Any]) -> PreparedHyperModel:
        """See `TaskSubject`."""
        trainer = Trainer(**config["trainer"])
        hp = keras_tuner.HyperParameters.from_config(config[HP])
        model = build_model(trainer, functools.partial(self.hypermodel.build, hp))
        return PreparedHyperModel(trainer, as_task(model).name_of_runs, model, self.data, self.hypermodel, hp)

    def load(self, folder: Path, config: dict[str, Any]) -> keras.Model:
        """Returns the model of the newest run in a trial's folder, with its best weights."""
        return load_model(self, folder, config)


def _find_path(value: Any) -> str | None:
    """Returns "package.module:name" of a class or function that another process can import, or None."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    there = module != "__main__" and name and getattr(sys.modules.get(module or ""), name, None) is value
    return f"{module}:{name}" if there else None
