"""Argument checks with one wording, and the errors that lightkeras raises itself.

Every message says what was expected and what was received::

    Expected `devices` to be a positive int or "auto". Received: devices=0

The command line shows a `LightkerasError` in one line, and any other error with its traceback.
"""

import difflib
import functools
import importlib
import importlib.util
import numbers
import os
import pathlib
from collections.abc import Iterable
from typing import Any


class LightkerasError(Exception):
    """Base of the errors that lightkeras raises itself."""


class ArgumentError(LightkerasError, ValueError):
    """A value from outside that cannot be used: an argument, a file, a batch."""


class UsageError(ArgumentError):
    """A command line that is wrong: exit code 2."""


@functools.cache
def lightkeras_error(kind: type[Exception]) -> type[Exception]:
    """Returns a subclass of `kind` and LightkerasError: `raise lightkeras_error(TypeError)("Expected ...")`."""
    if issubclass(kind, LightkerasError):
        return kind
    return type(kind.__name__, (LightkerasError, kind), {"__module__": __name__, "__doc__": kind.__doc__})


def require(condition: bool, name: str, expected: str, received: Any, error: type[Exception] = ArgumentError) -> None:
    """Raises an `error` that is a LightkerasError too, unless `condition` holds."""
    if not condition:
        raise lightkeras_error(error)(f"Expected `{name}` to be {expected}. Received: {name}={received!r}")


def _is_int(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def require_int(name: str, value: Any, minimum: int = 1, optional: bool = False) -> None:
    """Checks that `value` is an int of at least `minimum` (or None, where `optional`)."""
    expected = {0: "a non-negative int", 1: "a positive int"}.get(minimum, f"an int of at least {minimum}")
    ok = (optional and value is None) or (_is_int(value) and value >= minimum)
    require(ok, name, expected + (" or None" if optional else ""), value)


def require_number(
    name: str,
    value: Any,
    above: float = 0.0,
    optional: bool = False,
    inclusive: bool = False,
    below: float | None = None,
) -> None:
    """Checks that `value` is a number above (`inclusive`: or equal to) a bound, and below another if given."""
    ok = _is_number(value) and (value >= above if inclusive else value > above) and (below is None or value < below)
    expected = f"a number {'of at least' if inclusive else 'above'} {above:g}"
    expected += f" and below {below:g}" if below is not None else ""
    require((optional and value is None) or ok, name, expected + (" or None" if optional else ""), value)


def import_extra(extra: str, name: str) -> Any:
    """Imports the module `name` of a package that the extra `extra` installs.

    Raises:
        ImportError: The package is not installed; the message has the line that does.
    """
    package = name.partition(".")[0]
    if importlib.util.find_spec(package) is None:
        raise lightkeras_error(ImportError)(
            f"Expected the package `{package}` to be installed: pip install 'lightkeras[{extra}]'. Received: none"
        )
    return importlib.import_module(name)


def nearest(name: str, known: Iterable[str]) -> str:
    """`' Did you mean "x"?'` for the known name closest to `name`, or an empty string."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f' Did you mean "{close[0]}"?' if close else ""


def listed(names: Iterable[str]) -> str:
    """Joins the first five names, and counts the others; a name that would break the line is quoted."""
    names = [name if name.isprintable() else repr(name) for name in names]
    return ", ".join(names[:5]) + (f", and {len(names) - 5} more" if len(names) > 5 else "")


def nearest_multiples(value: int, of: int) -> str:
    """`"60 or 66"` for 64 and 6: the nearest positive multiples below and above."""
    below = value // of * of
    return " or ".join(str(multiple) for multiple in (below, below + of) if multiple)


def require_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Checks that `value` is one of `choices`; the error lists them and suggests the nearest."""
    choices = list(choices)
    if value not in choices:
        listed = ", ".join(repr(c) for c in choices)
        hint = nearest(value, [c for c in choices if isinstance(c, str)])
        raise ArgumentError(f"Expected `{name}` to be one of {listed}. Received: {name}={value!r}.{hint}")


def new_file(name: str, path: str | os.PathLike) -> pathlib.Path:
    """Returns `path`, with the home folder in place of `~`, if a new file can be written there.

    Raises:
        FileExistsError: There is a file of that name.
        FileNotFoundError: There is no folder for it.
    """
    new = pathlib.Path(os.path.expanduser(path))
    require(not new.exists(), name, "a new file", str(path), FileExistsError)
    require(new.parent.is_dir(), name, "a file in an existing folder", str(path), FileNotFoundError)
    return new
