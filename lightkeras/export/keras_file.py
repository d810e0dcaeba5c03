"""Writes a model as Keras' own file, `model.keras`."""

import importlib.util
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from lightkeras.export.check import ExportError

NAME = "model.keras"
FUNCTIONS = ("function", "__lambda__")  # the class names of what is no class


def write(folder: Path, model: Any) -> list[str]:
    """Writes `model.keras`.

    Returns:
        The modules that a program must import before it loads the file: those of registered classes and functions that
        are not Keras' own. A model of Keras' layers needs none.

    Raises:
        ExportError: Another program cannot import a class or function of the model; it is named.
    """
    model.save(folder / NAME)
    with zipfile.ZipFile(folder / NAME) as archive:
        config = json.loads(archive.read("config.json"))
    return sorted({_find_module(described) for described in _find_foreign(config)})


def _find_foreign(value: Any) -> Iterator[dict[str, Any]]:
    """Yields the descriptions of classes and functions that are not Keras' own, without those of `compile`."""
    if isinstance(value, dict):
        named = "registered_name" in value or value.get("class_name") in FUNCTIONS  # tensors and the like are not
        if named and str(value.get("module")).partition(".")[0] != "keras":
            yield value
        for key, inner in value.items():
            if key != "compile_config":
                yield from _find_foreign(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _find_foreign(inner)


def _find_module(described: dict[str, Any]) -> str:
    """Returns the module whose import registers a class or function."""
    name = described["config" if described["class_name"] in FUNCTIONS else "registered_name"]
    name = name if isinstance(name, str) else "a function without a name (lambda)"
    found = keras.saving.get_registered_object(name)
    module = getattr(found, "__module__", None)
    inner = "<locals>" in getattr(found, "__qualname__", "")
    if found is None or inner or module == "__main__" or importlib.util.find_spec(str(module)) is None:
        where = f", made in {module}" if found is not None else ""
        raise ExportError(
            "Expected the classes and functions of the model to be Keras' own, or registered (by the decorator "
            "`keras.saving.register_keras_serializable()`) where a module is imported, for format='keras'. "
            f"Received: {name}{where}. (format='saved_model' takes every model.)"
        )
    return str(module)
