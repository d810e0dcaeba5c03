"""What identifies a plain model in its runs."""

import json
import weakref
from typing import Any

import keras

from lightkeras.keras_models.variables import find_optimizers
from lightkeras.utils.trust import class_path

_first_configs: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # optimizer -> its config when first seen


def describe_model(model: keras.Model, name: str) -> dict[str, Any]:
    """Returns the class of the model and the configuration of its optimizers, in the types of JSON.

    A learning rate that callbacks changed does not count: an optimizer has the configuration that it had when the
    Trainer first saw it. Nor does its name, which Keras numbers over the process.
    """
    optimizers = {path: _first_configs.setdefault(one, _describe(one)) for path, one in find_optimizers(model).items()}
    return {"class_path": class_path(type(model)), "init_args": {"name": name, "optimizers": optimizers}}


def _describe(optimizer: keras.optimizers.Optimizer) -> dict[str, Any]:
    config = {"class_name": type(optimizer).__name__, **optimizer.get_config()}
    del config["name"]
    return json.loads(json.dumps(config, default=_name))


def _name(value: Any) -> str:
    """Names a value that JSON does not hold: a schedule, a function."""
    if hasattr(value, "get_config"):
        return f"{type(value).__name__}({json.dumps(value.get_config(), default=_name, sort_keys=True)})"
    return getattr(value, "__name__", type(value).__name__)
