"""Records the arguments that a task or a data module was made with, so that a run folder can make it again."""

import contextlib
import functools
import importlib
import inspect
import json
from typing import Any

from lightkeras.utils.checks import lightkeras_error, nearest, require


def _arguments(init, args, kwargs) -> dict[str, Any]:
    """The arguments of a call of the constructor `init`, defaults included, by name."""
    bound = inspect.signature(init).bind(None, *args, **kwargs)
    bound.apply_defaults()
    values = dict(list(bound.arguments.items())[1:])
    for name, parameter in inspect.signature(init).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            require(not values.pop(name), name, "empty: these arguments are recorded by name", args)
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            values.update(values.pop(name))
    return values


def _recorded(init):
    """`init`, which keeps its arguments on the instance first."""

    @functools.wraps(init)
    def recorded(self, *args, **kwargs):
        with contextlib.suppress(TypeError):  # arguments that do not fit: `init` says it better
            values = _arguments(init, args, kwargs)
            self.__dict__.setdefault("_init_args", values)  # the first to be called is that of the instance's own class
            self.__dict__["_hparams"] = {**values, **self.__dict__.get("_hparams", {})}
        init(self, *args, **kwargs)

    recorded.__signature__ = inspect.signature(init)  # Keras looks at it
    return recorded


class HyperparametersMixin:
    """Mixin that records the constructor's arguments, as Lightning's `save_hyperparameters()` does."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _recorded(cls.__init__)

    @property
    def hparams(self) -> dict[str, Any]:
        """The constructor's arguments by name, defaults included, and those that it gave its parents' constructors."""
        return dict(self.__dict__.get("_hparams", {}))

    @property
    def init_args(self) -> dict[str, Any]:
        """The constructor's own arguments by name, defaults included: what makes the object again."""
        return dict(self.__dict__.get("_init_args", {}))


def class_path(cls: type) -> str:
    """`"package.module.Class"` of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def import_class(path: str) -> type:
    """Imports the class at `"package.module.Class"`.

    Raises:
        ImportError: There is no such module, or it has no such class. An error within the module is raised as it is.
    """
    module, _, name = path.rpartition(".")
    expected = f'Expected an importable class "package.module.Class". Received: "{path}"'
    try:
        found = importlib.import_module(module) if module else None
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise
        raise lightkeras_error(ImportError)(f"{expected} ({error})") from error
    if not hasattr(found, name):
        raise lightkeras_error(ImportError)(f"{expected} (no {name!r} in {module!r}).{nearest(name, dir(found))}")
    return getattr(found, name)


def describe(instance: HyperparametersMixin) -> dict[str, Any]:
    """`{"class_path": ..., "init_args": ...}`: what makes `instance` again.

    Raises:
        TypeError: An argument is no plain value (number, string, bool, None, list, dict), so no file can hold it.
    """
    for name, value in instance.init_args.items():
        try:
            json.dumps(value)
        except TypeError as error:
            raise TypeError(
                f"Expected the arguments of {type(instance).__name__} to be plain values, so that its run folder can "
                f"make it again. Received: {name}={value!r}"
            ) from error
    return {"class_path": class_path(type(instance)), "init_args": instance.init_args}


def make(description: dict[str, Any]) -> Any:
    """The object that `describe` described."""
    return import_class(description["class_path"])(**description["init_args"])
