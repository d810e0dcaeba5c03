"""Records the arguments that a task or a data module was made with, so that a run folder can make it again."""

import importlib
import inspect
import json
from typing import Any


def _bind(init, args, kwargs) -> dict[str, Any]:
    """The arguments of a call of the constructor `init`, defaults included, by name."""
    bound = inspect.signature(init).bind(None, *args, **kwargs)
    bound.apply_defaults()
    values = dict(list(bound.arguments.items())[1:])
    for name, parameter in inspect.signature(init).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            values.update(values.pop(name))
    return values


class Hyperparameters:
    """Mixin: `self.hparams` holds the constructor's arguments, as Lightning's `save_hyperparameters()` does."""

    def __new__(cls, *args, **kwargs):
        parent = super().__new__
        instance = parent(cls) if parent is object.__new__ else parent(cls, *args, **kwargs)
        object.__setattr__(instance, "_hparams", _bind(cls.__init__, args, kwargs))
        return instance

    @property
    def hparams(self) -> dict[str, Any]:
        """The constructor's arguments by name, defaults included."""
        return dict(self._hparams)


def class_path(cls: type) -> str:
    """`"package.module.Class"` of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def import_class(path: str) -> type:
    """The class at `"package.module.Class"`.

    Raises:
        ImportError: The module cannot be imported or has no such class.
    """
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ImportError(
            f'Expected an importable class "package.module.Class". Received: "{path}" ({error})'
        ) from error


def describe(instance: Hyperparameters) -> dict[str, Any]:
    """`{"class_path": ..., "init_args": ...}`: what makes `instance` again.

    Raises:
        TypeError: An argument is no plain value (number, string, bool, None, list, dict), so no file can hold it.
    """
    for name, value in instance.hparams.items():
        try:
            json.dumps(value)
        except TypeError as error:
            raise TypeError(
                f"Expected the arguments of {type(instance).__name__} to be plain values, so that its run folder can "
                f"make it again. Received: {name}={value!r}"
            ) from error
    return {"class_path": class_path(type(instance)), "init_args": instance.hparams}


def make(description: dict[str, Any]) -> Any:
    """The object that `describe` described."""
    return import_class(description["class_path"])(**description["init_args"])
