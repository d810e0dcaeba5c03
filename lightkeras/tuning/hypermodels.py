"""KerasTuner's HyperModels, and functions that build a model, under a Trainer."""

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

import keras
import keras_tuner
from keras_tuner.engine import hyperparameters as kinds

from lightkeras.trainer import Trainer
from lightkeras.tuning.space import extremes
from lightkeras.utils.checks import require


class BuiltByFunction(keras_tuner.HyperModel):
    """The HyperModel of a function `build(hp)`."""

    def __init__(self, function: Callable):
        super().__init__(name=getattr(function, "__name__", None))
        self._function = function

    def build(self, hp):
        return self._function(hp)


def is_hypermodel(given: Any) -> bool:
    """Returns whether this is a HyperModel, its class, or a function `build(hp)` with one argument to fill."""
    kind = given if isinstance(given, type) else type(given)
    if issubclass(kind, keras_tuner.HyperModel):
        return True
    parameters = inspect.signature(given).parameters.values() if inspect.isfunction(given) else []
    return sum(one.default is one.empty for one in parameters) == 1


def as_hypermodel(given: Any) -> keras_tuner.HyperModel:
    """Returns the HyperModel of what `is_hypermodel` accepts."""
    given = given() if isinstance(given, type) else given
    return given if isinstance(given, keras_tuner.HyperModel) else BuiltByFunction(given)


class _Reached(BaseException):
    """Ends the rehearsal of `HyperModel.fit` where it calls `model.fit`."""


def declare(hypermodel: keras_tuner.HyperModel, data: dict[str, Any], hp: Any) -> None:
    """Declares in `hp` what `build` declares, and `fit` up to its call of `model.fit`.

    Both are called with every value of each choice, and both ends of each range of ints, as long as that declares
    more: `if hp.Boolean("dropout"): hp.Float("rate", ...)`, `for i in range(hp.Int("layers", 1, 3)): ...`.
    """
    _rehearse(hypermodel, data, hp)
    tried: set[tuple[str, Any]] = set()
    while new := [one for one in _list_values(hp) if one not in tried]:
        for name, value in new:
            other = hp.copy()
            other.values[name] = value
            other.ensure_active_values()
            _rehearse(hypermodel, data, other)
            known = [(parameter.name, parameter.conditions) for parameter in hp.space]
            hp.merge([one for one in other.space if (one.name, one.conditions) not in known])
        tried |= {*new}


def _list_values(hp: Any) -> list[tuple[str, Any]]:
    """Lists the values that may decide what else is declared."""
    discrete = [one for one in hp.space if not isinstance(one, kinds.Float | kinds.Fixed)]
    return [(one.name, value) for one in discrete for value in extremes(one)]


def _rehearse(hypermodel: keras_tuner.HyperModel, data: dict[str, Any], hp: Any) -> None:
    model = hypermodel.build(hp)
    if type(hypermodel).fit is not keras_tuner.HyperModel.fit:

        def reach(*args: Any, **kwargs: Any) -> None:
            raise _Reached

        with contextlib.suppress(_Reached):
            _call_fit(hypermodel, hp, model, data, 1, reach)


def fit(
    hypermodel: keras_tuner.HyperModel, hp: Any, model: keras.Model, trainer: Trainer, data: dict,
    ckpt_path: str | None,
) -> None:  # fmt: skip
    """Calls `hypermodel.fit(hp, model, x, y, ...)`, where `model.fit` is the Trainer's; resumes if there is a run.

    Raises:
        ValueError: It calls `model.fit` not once, with an argument that the Trainer has not, or returns a score of its
            own.
    """
    done: list[Any] = []

    def fit_by_trainer(*args: Any, **kwargs: Any) -> Any:
        require(not done, "HyperModel.fit", "a function that calls model.fit once", "a second call")
        keywords = _to_keywords(trainer, *args, **kwargs)
        here = vars(model).pop("fit")  # what identifies the model must not reach the Trainer through it
        try:
            done.append(trainer.fit(model, ckpt_path=ckpt_path, **keywords))
        finally:
            vars(model)["fit"] = here
        return done[0]

    found = _call_fit(hypermodel, hp, model, data, trainer.max_epochs, fit_by_trainer)
    require(bool(done), "HyperModel.fit", "a function that calls model.fit once", "no call")
    expected = "a function that returns what model.fit returned: the score is the objective's best value"
    require(found is None or found is done[0], "HyperModel.fit", expected, found)


def _call_fit(hypermodel, hp, model, data: dict, epochs: int | None, replacement: Callable) -> Any:
    """Calls `hypermodel.fit` as KerasTuner does, with a `replacement` of `model.fit`."""
    given = {name: value for name, value in data.items() if name != "data"}
    args = data["data"] if isinstance(data["data"], tuple) else (data["data"],)
    if len(args) == 3:
        given["sample_weight"], args = args[2], args[:2]
    vars(model)["fit"] = replacement
    try:
        return hypermodel.fit(hp, model, *args, epochs=epochs, callbacks=[], verbose=0, **given)
    finally:
        del vars(model)["fit"]


def _to_keywords(
    trainer: Trainer, x: Any = None, y: Any = None, batch_size: int | None = None, epochs: int | None = None,
    verbose: Any = None, callbacks: Any = None, validation_split: float = 0.0, validation_data: Any = None,
    shuffle: bool = True, class_weight: Any = None, sample_weight: Any = None, **others: Any,
) -> dict[str, Any]:  # fmt: skip
    """Converts arguments of Keras' `fit` to those of the Trainer's; epochs and callbacks become the Trainer's own."""
    expected = "left to the Trainer's arguments (limit_train_batches, limit_val_batches, check_val_every_n_epoch)"
    for name in others:
        require(False, name, expected, others[name])
    if epochs and not trainer.fast_dev_run:
        trainer.max_epochs = epochs
    trainer.callbacks = [*(callbacks or []), *trainer.callbacks]
    whole = x if y is None else (x, y) if sample_weight is None else (x, y, sample_weight)
    if validation_split:
        require(validation_data is None, "validation_split", "0 with validation_data", validation_split)
        whole, validation_data = _split(whole, validation_split)
    keywords = {"data": whole, "validation_data": validation_data, "class_weight": class_weight}
    return {**keywords, **({} if batch_size is None else {"batch_size": batch_size}), "shuffle": shuffle}


def _split(arrays: Any, share: float) -> tuple[Any, Any]:
    """Cuts the last `share` of the rows off, as Keras does."""
    leaves = keras.tree.flatten(arrays)
    plain = all(hasattr(leaf, "shape") and hasattr(leaf, "__getitem__") for leaf in leaves)
    require(plain and 0 < share < 1, "validation_split", "a share between 0 and 1 of arrays", share)
    at = int(len(leaves[0]) * (1 - share))
    cut = keras.tree.map_structure
    return cut(lambda one: one[:at], arrays), cut(lambda one: one[at:], arrays)
