"""Records the arguments of a constructor, so that a run folder can make the object again."""

import contextlib
import copy
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from lightkeras.utils.checks import lightkeras_error, require
from lightkeras.utils.lightning import reject_arguments, reject_methods
from lightkeras.utils.trust import class_path
from lightkeras.utils.values import from_written, to_written


class HParams(dict):
    """Constructor arguments by name: `hparams["units"]` or `hparams.units`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"Expected one of the hparams {', '.join(self)}. Received: {name!r}") from None


class HyperparametersMixin:
    """Records the constructor's arguments, as Lightning's `save_hyperparameters()` does.

    They are recorded as they were given, whatever the constructor does with them. A `@dataclass` is recorded too.

    Attributes:
        replaced_methods, replaced_arguments: Names of Lightning's, and what replaces them here.
        construction: Makes the context in which the whole constructor runs.
    """

    construction: ClassVar[Callable[[], contextlib.AbstractContextManager]] = contextlib.nullcontext
    replaced_methods: ClassVar[dict[str, str]] = {}
    replaced_arguments: ClassVar[dict[str, str]] = {}

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        reject_methods(cls, cls.replaced_methods)
        _record_calls(cls)

    if not TYPE_CHECKING:  # a type checker looks at the constructor

        def __new__(cls, *args, **kwargs):
            """Creates the instance; a decorator such as `@dataclass` may have given the class another constructor."""
            for kind in cls.__mro__:
                if issubclass(kind, HyperparametersMixin):
                    _record_calls(kind)
            created = super().__new__
            return created(cls) if created is object.__new__ else created(cls, *args, **kwargs)

    @property
    def hparams(self) -> HParams:
        """A copy of the constructor's arguments by name, with defaults and those given to its parents' constructors."""
        return HParams(_copied(self.__dict__.get("_hparams", {})))

    @property
    def init_args(self) -> dict[str, Any]:
        """The constructor's own arguments by name, with defaults: they make the object again."""
        return _copied(self.__dict__.get("_init_args", {}))


def _copied(value: Any) -> Any:
    """Copies containers, which a constructor may change, and what is in them; other objects stay the same."""
    if type(value) is dict:
        return {key: _copied(item) for key, item in value.items()}
    return type(value)(map(_copied, value)) if type(value) in (list, tuple, set) else value


def _record_calls(cls: type) -> None:
    """Wraps the constructor that `cls` itself defines, unless it is wrapped already."""
    init = vars(cls).get("__init__")
    if init is not None and not hasattr(init, "records_arguments"):
        type.__setattr__(cls, "__init__", _record(init, cls))


def _record(init: Callable, owner: type) -> Any:
    """Wraps the constructor `init` of the class `owner`: the instance keeps its arguments first."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def recorded(self, *args, **kwargs):
        reject_arguments(kwargs, signature.parameters, self.replaced_arguments)
        kwargs |= _made_defaults(owner, signature, args, kwargs)
        outermost = "_init_args" not in self.__dict__
        with contextlib.suppress(TypeError):  # arguments that do not fit: `init` says it better
            values = _bind(signature, args, kwargs)
            _keep(self, values)
        with self.construction() if outermost else contextlib.nullcontext():
            init(self, *args, **kwargs)

    vars(recorded).update(__signature__=signature, records_arguments=True)  # Keras looks at the signature
    return recorded


def _keep(instance: HyperparametersMixin, values: dict[str, Any]) -> None:
    kept = instance.__dict__
    if "_init_args" not in kept:  # the first constructor to be called is that of the instance's own class
        kept["_init_args"], kept["_written"] = _copied(values), {name: _written(v) for name, v in values.items()}
    kept["_hparams"] = {**_copied(values), **kept.get("_hparams", {})}


def _written(value: Any) -> Any:
    """The written form of an argument as it is given, or the error of `describe`."""
    try:
        return to_written(value)
    except (TypeError, RecursionError) as error:
        return lightkeras_error(TypeError)(str(error))


def _made_defaults(owner: type, signature: inspect.Signature, args: tuple, kwargs: dict) -> dict[str, Any]:
    """Makes the defaults of the factories of a dataclass `owner` here, so that they are recorded."""
    factories = {
        field.name: field.default_factory
        for field in (dataclasses.fields(owner) if "__dataclass_fields__" in vars(owner) else ())
        if field.init and field.default_factory is not dataclasses.MISSING
    }
    names = list(signature.parameters)[1:]
    given = {*names[: len(args)], *kwargs}
    return {name: make() for name, make in factories.items() if name in names and name not in given}


def _bind(signature: inspect.Signature, args: tuple, kwargs: dict) -> dict[str, Any]:
    """Returns the arguments of a call of a constructor by name, defaults included."""
    bound = signature.bind(None, *args, **kwargs)
    bound.apply_defaults()
    values = dict(list(bound.arguments.items())[1:])
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            require(not values.pop(name), name, "empty: these arguments are recorded by name", args)
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            values.update(values.pop(name))
    return values


def describe(instance: HyperparametersMixin) -> dict[str, Any]:
    """Returns `{"class_path": ..., "init_args": ...}` in the types of JSON; `read_arguments` reads
    the arguments.

    Raises:
        TypeError: An argument has a type that no file can hold (see `utils.values`).
    """
    arguments = instance.__dict__.get("_written", {})
    for name, written in arguments.items():
        if isinstance(written, Exception):
            raise lightkeras_error(TypeError)(
                f"Expected the arguments of {type(instance).__name__} to be of types that its run folder can hold. "
                f"Received: {name}={instance.init_args[name]!r:.200}. {written}"
            )
    return {"class_path": class_path(type(instance)), "init_args": copy.deepcopy(arguments)}


def read_arguments(init_args: dict[str, Any], trust: Iterable[str] = ()) -> dict[str, Any]:
    """Returns the constructor's arguments that `describe` wrote; `trust` is as in `utils.trust.import_class`.

    Raises:
        TrustError: An argument is of a class that may not be imported.
    """
    return {name: from_written(value, trust) for name, value in init_args.items()}
