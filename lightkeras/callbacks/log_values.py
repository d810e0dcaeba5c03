"""Values that callbacks add to logs and states: numbers are kept, and JSON is checked."""

import numbers
from collections.abc import Container
from typing import Any

import keras
import numpy as np

from lightkeras.utils.checks import ArgumentError

_KINDS = {"int": int, "uint": int, "float": float, "bfloat": float, "bool": bool}  # by the beginning of a dtype


def as_number(value: Any) -> int | float | bool | None:
    """Returns a number as Python's: a NumPy scalar, a 0-d array, tensor or variable too; None for anything else."""
    if isinstance(value, bool | int | float):
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(value, numbers.Real):
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    if getattr(value, "shape", None) != () or not hasattr(value, "dtype"):
        return None
    try:
        dtype = keras.backend.standardize_dtype(value.dtype)
    except ValueError:
        return None
    kinds = [kind for prefix, kind in _KINDS.items() if dtype.startswith(prefix)]
    return kinds[0](value) if kinds else None


def numbers_of(logs: dict[str, Any]) -> dict[str, Any]:
    """Keeps the numbers of a dict of logs, as Python's."""
    found = {name: as_number(value) for name, value in logs.items()}
    return {name: value for name, value in found.items() if value is not None}


def for_history(logs: dict[str, Any], own: Container[str]) -> dict[str, Any]:
    """Keeps the numbers of a dict of logs, and the arrays that a step returned, as lists: a checkpoint holds both.

    Args:
        logs: The logs of an epoch.
        own: The names of the values that steps return.
    """

    def is_own(name: str) -> bool:
        return name in own or name.removeprefix("val_") in own

    arrays = {name: value.tolist() for name, value in logs.items() if isinstance(value, np.ndarray) and is_own(name)}
    found = numbers_of(logs) | arrays
    return {name: found[name] for name in logs if name in found}


def is_speed(name: str) -> bool:
    """Returns whether a name in records is that of a speed or a share of time: those differ each time."""
    return name.endswith("_per_second") or name in ("mfu", "goodput")


def to_json(value: Any, where: str) -> Any:
    """Returns a callback's state with numbers as Python's.

    Args:
        value: The state.
        where: The callback's name and the key, for the error.

    Raises:
        ArgumentError: JSON cannot hold a value, or a key is no string.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise ArgumentError(
                    f"Expected the keys of {where} to be strings, as a checkpoint has them. Received: {key!r}"
                )
        return {key: to_json(one, f"{where}[{key!r}]") for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(one, f"{where}[{index}]") for index, one in enumerate(value)]
    number = as_number(value)
    if number is None:
        shown = f"{value!r:.100}"
        raise ArgumentError(
            f"Expected {where} to hold JSON values: numbers, strings, bools, None, lists, dicts. Received: {shown} "
            f"({type(value).__name__})"
        )
    return number
