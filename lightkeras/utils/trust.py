"""Trust: which classes a file may name. Reading a file runs no code that its reader did not choose.

A checkpoint, a configuration or a search names classes. Such a name is looked up here before anything is called:

- The class must be the base that its place needs, or derive from it.
- Its module must be imported already, or be trusted. Lightkeras and its tasks, the packages of registered tasks and
  benchmarks, and the package of a class that the caller gave are trusted; `trust=["package"]` adds others, and so does
  the environment variable LIGHTKERAS_TRUST (names with commas between), which processes of a search get.
"""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterable
from typing import Any

from lightkeras.utils import entry_points
from lightkeras.utils.checks import LightkerasError, lightkeras_error, nearest, require

VARIABLE = "LIGHTKERAS_TRUST"


class TrustError(LightkerasError, ImportError):
    """A file names a class that must not be imported or created from it."""


def class_path(cls: type) -> str:
    """Returns `"package.module.Class"` of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def package_of(cls: type) -> str:
    """Returns the package of the module of `cls`, or the module itself if it is in none."""
    return cls.__module__.rpartition(".")[0] or cls.__module__


def trusting(trust: Iterable[str], *given: type) -> tuple[str, ...]:
    """Returns the packages `trust` and those of the classes `given`.

    Raises:
        ValueError: `trust` is no collection of names.
    """
    names = not isinstance(trust, str) and all(isinstance(name, str) for name in trust)
    require(names, "trust", 'a list of packages, as trust=["package"]', trust)
    return (*trust, *(package_of(cls) for cls in given))


def environment(trust: Iterable[str]) -> dict[str, str]:
    """Returns the environment that passes on the packages `trust` to a process."""
    return {VARIABLE: ",".join(trust)}


def import_class(path: str, base: type, trust: Iterable[str] = ()) -> type:
    """Returns the class that a file names as `"package.module.Class"`; calls nothing.

    Args:
        path: Its name. A class of a function ("module.function.<locals>.Class") is found if it exists.
        base: The class that it must be or derive from.
        trust: Packages whose modules may be imported, beside those that always may.

    Raises:
        TrustError: Its module is neither imported nor trusted, or it does not derive from `base`.
        ImportError: There is no such module, or it has no such class. An error within the module is raised as it is.
    """
    found = _find(path, base, tuple(trust))
    if not (isinstance(found, type) and issubclass(found, base)):
        raise TrustError(f"Expected {path} to be a {base.__name__}. Received: {found!r}")
    return found


def require_trusted(path: str, trust: Iterable[str] = ()) -> None:
    """Raises a TrustError if the module in `path`, "package.module.name", is neither imported nor trusted."""
    if _imported(path) is None and not is_trusted(path, trust):
        module = path.rpartition(".")[0]
        package = module.partition(".")[0]
        raise TrustError(
            f"Expected {path} to be of a module that is imported already, ships with lightkeras, or is trusted. "
            f"Received: {module!r}, named in a file. If you trust it: trust=[{package!r}] in Python, "
            f"--trust {package} in a command, or import it first"
        )


def is_trusted(path: str, trust: Iterable[str] = ()) -> bool:
    """Returns whether the module in `path` may be imported because a file names it."""
    named = [name for name in os.environ.get(VARIABLE, "").split(",") if name]
    known = (*entry_points.packages(), *named, *trust)
    return any(f"{path}.".startswith(f"{package}.") for package in known)


def is_imported(path: str) -> bool:
    """Returns whether `path` names something in a module that is imported."""
    return _imported(path) is not None


def _find(path: str, base: type, trust: tuple[str, ...]) -> Any:
    imported = _imported(path)
    if imported is not None:
        return imported
    if (alive := _alive(path, base)) is not None:
        return alive
    module, innermost = path.rpartition(".")[0], _innermost_module(path)
    expected = f'Expected an importable class "package.module.Class". Received: "{path}"'
    if innermost and (innermost == module or not hasattr(sys.modules[innermost], "__path__")):
        name = path.removeprefix(f"{innermost}.")
        hint = nearest(name, dir(sys.modules[innermost]))
        raise lightkeras_error(ImportError)(f"{expected} (no {name!r} in {innermost!r}).{hint}")
    if not module:
        raise lightkeras_error(ImportError)(expected)
    require_trusted(path, trust)
    _import(module, expected)
    return _find(path, base, trust)


def _import(module: str, expected: str) -> None:
    """Imports `module`, or the module that holds the class `module`."""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        outer = module.rpartition(".")[0]
        if error.name == module and outer in sys.modules and hasattr(sys.modules[outer], module.rpartition(".")[2]):
            return
        if not f"{module}.".startswith(f"{error.name}."):
            raise
        raise lightkeras_error(ImportError)(f"{expected} ({error})") from error


def _imported(path: str) -> Any:
    """Finds `path` in the modules that are imported; None if it is in none of them."""
    module = _innermost_module(path)
    found = sys.modules.get(module)
    with contextlib.suppress(AttributeError, KeyError):
        for name in path.removeprefix(f"{module}.").split("."):
            found = vars(found)[name] if isinstance(found, type) else getattr(found, name)
        return found
    return None


def _innermost_module(path: str) -> str:
    """Returns the longest beginning of `path` that is an imported module; "" without one."""
    parts = path.split(".")[:-1]
    beginnings = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((name for name in beginnings if sys.modules.get(name) is not None), "")


def _alive(path: str, base: type) -> type | None:
    """Finds the newest class derived from `base` that has this path: one that a function made."""
    kinds = [base]
    for kind in kinds:
        kinds += type.__subclasses__(kind)
    return next((kind for kind in reversed(kinds) if class_path(kind) == path), None)
