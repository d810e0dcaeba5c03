"""Integers that are appended to a file of the smallest type that holds them."""

import os
import pathlib
from typing import Any

import numpy as np

TYPES = (np.uint8, np.uint16, np.uint32, np.int64)
_BLOCK = 1 << 22  # bytes that are copied at a time


class IntegerFile:
    """A file `NAME.TYPE` in a folder; a larger integer moves all to a file of a larger type.

    Args:
        folder: The folder.
        name: The name.
        state: What `state` returned when the file was last saved; None for a new one. Integers behind it are cut off.
    """

    def __init__(self, folder: pathlib.Path, name: str, state: dict[str, Any] | None = None):
        self._folder, self._name = folder, name
        self.type, self.count = (state["type"], state["count"]) if state else ("uint8", 0)
        path = integer_path(folder, name, self.type)
        self._file = path.open("r+b" if state else "w+b")
        self._file.truncate(self.count * np.dtype(self.type).itemsize)
        self._file.seek(0, os.SEEK_END)

    @property
    def state(self) -> dict[str, Any]:
        """The type and the number of the integers, in JSON's types."""
        return {"type": self.type, "count": self.count}

    def append(self, values: np.ndarray, largest: int | None = None) -> None:
        """Appends integers of 0 or more (n,), none of them above `largest`."""
        needed = smallest_type(int(values.max(initial=0)) if largest is None else largest)
        if np.dtype(needed).itemsize > np.dtype(self.type).itemsize:
            self._widen(needed)
        self._file.write(values.astype(self.type).tobytes())
        self.count += len(values)

    def _widen(self, kind: str) -> None:
        """Copies the integers into a file of another type; the old one stays until the state no longer needs it."""
        old, before = self._file, self.type
        old.flush()
        old.seek(0)
        new = integer_path(self._folder, self._name, kind).open("w+b")
        while block := old.read(_BLOCK):
            new.write(np.frombuffer(block, before).astype(kind).tobytes())
        old.close()
        self._file, self.type = new, kind

    def save(self) -> None:
        """Puts all on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def smallest_type(largest: int) -> str:
    """Returns the name of the smallest type for integers from 0 to `largest`."""
    return np.dtype(next(kind for kind in TYPES if largest <= np.iinfo(kind).max)).name


def integer_path(folder: pathlib.Path, name: str, kind: str) -> pathlib.Path:
    """Returns the path of the integers of a type."""
    return folder / f"{name}.{kind}"


def is_saved(folder: pathlib.Path, name: str, state: Any) -> bool:
    """Returns whether a folder has the integers that a state counts; the state may be damaged."""
    if not isinstance(state, dict) or state.get("type") not in [np.dtype(kind).name for kind in TYPES]:
        return False
    path, count = integer_path(folder, name, state["type"]), state.get("count")
    return isinstance(count, int) and path.exists() and path.stat().st_size >= count * np.dtype(state["type"]).itemsize
