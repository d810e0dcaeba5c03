"""Records the arguments of a constructor, so that a run folder can make the object again."""

import contextlib
import functools
import importlib
import inspect
import json
from collections.abc import Callable
from typing import Any, ClassVar

from lightkeras.utils.checks import lightkeras_error, nearest, require
from lightkeras.utils.lightning import reject_arguments, reject_methods


class HParams(dict):
    """Constructor arguments by name: `hparams["units"]` or `hparams.units`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"Expected one of the hparams {', '.join(self)}. Received: {name!r}") from None


class HyperparametersMixin:
    """Records the constructor's arguments, as Lightning's `save_hyperparameters()` does.

    Attributes:
        replaced_methods, replaced_arguments: Names of Lightning's, and what replaces them here.
    """

    replaced_methods: ClassVar[dict[str, str]] = {}
    replaced_arguments: ClassVar[dict[str, str]] = {}

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        reject_methods(cls, cls.replaced_methods)
        if "__init__" in vars(cls):
            cls.__init__ = _record(cls.__init__)

    @property
    def hparams(self) -> HParams:
        """A copy of the constructor's arguments by name, with defaults and those given to its parents' constructors."""
        return HParams(self.__dict__.get("_hparams", {}))

    @property
    def init_args(self) -> dict[str, Any]:
        """The constructor's own arguments by name, with defaults: they make the object again."""
        return dict(self.__dict__.get("_init_args", {}))


def _record(init: Callable) -> Any:
    """Wraps `init`: the instance keeps its arguments first."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def recorded(self, *args, **kwargs):
        reject_arguments(kwargs, signature.parameters, self.replaced_arguments)
        with contextlib.suppress(TypeError):  # arguments that do not fit: `init` says it better
            values = _bind(init, args, kwargs)
            self.__dict__.setdefault("_init_args", values)  # the first to be called is that of the instance's own class
            self.__dict__["_hparams"] = {**values, **self.__dict__.get("_hparams", {})}
        init(self, *args, **kwargs)

    vars(recorded)["__signature__"] = signature  # Keras looks at it
    return recorded


def _bind(init, args, kwargs) -> dict[str, Any]:
    """Returns the arguments of a call of the constructor `init` by name, defaults included."""
    bound = inspect.signature(init).bind(None, *args, **kwargs)
    bound.apply_defaults()
    values = dict(list(bound.arguments.items())[1:])
    for name, parameter in inspect.signature(init).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            require(not values.pop(name), name, "empty: these arguments are recorded by name", args)
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            values.update(values.pop(name))
    return values


def class_path(cls: type) -> str:
    """Returns `"package.module.Class"` of a class."""
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
    """Returns `{"class_path": ..., "init_args": ...}`, from which `instantiate` makes the object again.

    Raises:
        TypeError: An argument is no plain value (number, string, bool, None, list, dict), so no file can hold it.
    """
    for name, value in instance.init_args.items():
        try:
            json.dumps(value)
        except TypeError as error:
            raise lightkeras_error(TypeError)(
                f"Expected the arguments of {type(instance).__name__} to be plain values, so that its run folder can "
                f"make it again. Received: {name}={value!r}"
            ) from error
    return {"class_path": class_path(type(instance)), "init_args": instance.init_args}


def instantiate(description: dict[str, Any]) -> Any:
    """Makes the object that `describe` described."""
    return import_class(description["class_path"])(**description["init_args"])
