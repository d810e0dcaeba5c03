"""Names of functions and classes, as "package.module:name"."""

import importlib
import sys
from typing import Any

from lightkeras.utils.checks import UsageError, nearest


def find_object(name: str) -> Any:
    """Returns the object of "package.module:name".

    Raises:
        UsageError: There is none.
    """
    module, _, attribute = name.partition(":")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise
        raise UsageError(f"Expected package.module:function. Received: {name} ({error})") from error
    if not hasattr(found, attribute):
        raise UsageError(f"Expected a name of {module}. Received: {attribute!r}.{nearest(attribute, dir(found))}")
    return getattr(found, attribute)


def refer_to(value: Any) -> str | None:
    """Returns "package.module:name" of a class or function that another process can import, or else None."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    there = module in sys.modules and module != "__main__" and getattr(sys.modules[module], name, None) is value
    return f"{module}:{name}" if there and name else None
