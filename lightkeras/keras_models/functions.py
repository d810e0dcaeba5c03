"""Functions that build a plain model and give its data, by their names "package.module:function"."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from lightkeras.distribution.strategies import make_strategy
from lightkeras.utils.checks import UsageError, nearest, require

LOAD_DATA = "load_data"
TESTED = ("test_data", "predict_data")  # not for `fit`


def find_named(name: str) -> Any:
    """Returns what a module has under a name: "package.module:name".

    Raises:
        UsageError: There is no such module, or it has nothing of this name.
    """
    module, _, attribute = name.partition(":")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise
        raise UsageError(f"Expected package.module:function. Received: {name} ({error})") from error
    if not hasattr(found, attribute):
        raise UsageError(f"Expected a function of {module}. Received: {attribute!r}.{nearest(attribute, dir(found))}")
    return getattr(found, attribute)


def find_function(name: str) -> Callable:
    """Returns the function of "package.module:function".

    Raises:
        UsageError: There is none, or it has required arguments.
    """
    function = find_named(name)
    if not callable(function):
        raise UsageError(f"Expected {name} to be a function. Received: {function!r}")
    required = [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    if required:
        raise UsageError(f"Expected {name} to have defaults for all arguments. Received: none of {', '.join(required)}")
    return function


def function_path(function: Callable) -> str:
    """Returns "package.module:function".

    Raises:
        ValueError: No module has the function under its name, or it has required arguments.
    """
    path = f"{function.__module__}:{function.__qualname__}"
    require("." not in function.__qualname__, "function", "one of a module, which its name finds again", path)
    found = find_function(path)
    require(found is function, "function", "what its module has under its name", path)
    return path


def load_data_of(build: Callable) -> Callable:
    """Returns the function `load_data` of the module of `build`.

    Raises:
        UsageError: There is none.
    """
    function = getattr(importlib.import_module(build.__module__), LOAD_DATA, None)
    if function is None:
        raise UsageError(
            f"Expected --data package.module:function, or a function `{LOAD_DATA}` beside {build.__name__}. "
            "Received: neither"
        )
    return function


def build_model(trainer: Any, build: Callable[[], keras.Model]) -> keras.Model:
    """Builds the model under the Trainer's strategy, by its seed."""
    keras.utils.set_random_seed(trainer.seed)
    strategy: tf.distribute.Strategy = make_strategy(trainer.devices, trainer.strategy)
    with strategy.scope():
        return build()


def as_keywords(loaded: Any) -> dict[str, Any]:
    """Returns the keywords of `Trainer.fit` that the data function gave, or makes them of the data itself."""
    return dict(loaded) if isinstance(loaded, dict) and "data" in loaded else {"data": loaded}


def fit_keywords(loaded: Any) -> dict[str, Any]:
    """Returns the keywords of `Trainer.fit` without those of tests and predictions."""
    return {name: one for name, one in as_keywords(loaded).items() if name not in TESTED}
