"""Rows of differing lengths, one after the other in a flat array: in memory, or in files that are read by place."""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from lightkeras.text.encoded import Descriptor
from lightkeras.text.integers import IntegerFile, integer_path, is_saved, smallest_type

BOUNDS = "bounds"  # of a file's name: where each row begins, and where the last one ends
BLOCK = 1 << 14  # rows of `blocks`


class Rows:
    """Rows of integers, read by number.

    Args:
        values: The integers of all rows (values,); an array, or a `FileIntegers`.
        bounds: Where each row begins, and where the last one ends: int64 (rows + 1,); the same.
    """

    def __init__(self, values: Any, bounds: Any):
        self._values, self._bounds = values, bounds
        self.dtype, self.in_memory = values.dtype, isinstance(values, np.ndarray)

    @classmethod
    def open(cls, folder: pathlib.Path, name: str, state: dict[str, Any]) -> "Rows":
        """Opens the rows that a `RowsFile` with this state wrote."""
        kinds = (state["values"]["type"], state[BOUNDS]["type"])
        return cls(*map(FileIntegers, row_paths(folder, name, state), kinds))

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def lengths(self) -> np.ndarray:
        """Returns the length of every row: int32 (rows,)."""
        return np.diff(self._bounds if self.in_memory else self._bounds.every()).astype(np.int32)

    def values(self) -> np.ndarray:
        """Returns the integers of all rows, in memory (values,)."""
        return self._values if self.in_memory else self._values.every()

    def read(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the integers of some rows, one after the other (values,), and the length of each, int64 (rows,)."""
        numbers = np.asarray(numbers, np.int64)
        bounds = _take(self._bounds, numbers, np.full(len(numbers), 2)).reshape(-1, 2)
        lengths = bounds[:, 1] - bounds[:, 0]
        return _take(self._values, bounds[:, 0], lengths), lengths

    def blocks(self) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Yields all rows, many at a time: the slice of their numbers, their integers and lengths, as `read`."""
        for first in range(0, len(self), BLOCK):
            count = min(BLOCK, len(self) - first)
            bounds = _take(self._bounds, np.array([first]), np.array([count + 1]))
            values = _take(self._values, bounds[:1], bounds[-1:] - bounds[:1])
            yield slice(first, first + count), values, np.diff(bounds)


class FileIntegers:
    """Integers in a file, read by `pread`: pages that are read through a map would count as memory of this process.

    Args:
        path: The file.
        kind: The type of the integers.
    """

    def __init__(self, path: pathlib.Path, kind: str):
        self.path, self.dtype, self._file = path, np.dtype(kind), Descriptor(path)

    def __len__(self) -> int:
        return self.path.stat().st_size // self.dtype.itemsize

    def every(self) -> np.ndarray:
        """Returns all integers, in memory."""
        return np.fromfile(self.path, self.dtype)

    def read(self, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Returns the integers of some stretches, one after the other."""
        found, place = np.empty(int(lengths.sum()), self.dtype), 0
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
            self._file.read_into(found[place : place + length], start * self.dtype.itemsize)
            place += length
        return found


def _take(values: Any, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    if isinstance(values, FileIntegers):
        return values.read(starts, lengths)
    places = np.arange(int(lengths.sum())) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    return values[places]


def cut(numbers: np.ndarray) -> list[np.ndarray]:
    """Cuts numbers of rows into parts of `BLOCK` at most."""
    return [numbers[first : first + BLOCK] for first in range(0, len(numbers), BLOCK)]


class RowsFile:
    """Appends rows to two files in a folder.

    Args:
        folder: The folder.
        name: The name.
        state: What `state` returned when the rows were last saved; None for new ones.
    """

    def __init__(self, folder: pathlib.Path, name: str, state: dict[str, Any] | None = None):
        self._folder, self._name = folder, name
        self._values = IntegerFile(folder, name, state and state["values"])
        self._bounds = IntegerFile(folder, f"{name}-{BOUNDS}", state and state[BOUNDS])
        if state is None:
            self._bounds.append(np.zeros(1, np.int64), largest=np.iinfo(np.int64).max)

    @property
    def state(self) -> dict[str, Any]:
        """What is in the files, in JSON's types."""
        return {"values": self._values.state, BOUNDS: self._bounds.state}

    def append(self, values: np.ndarray, lengths: np.ndarray) -> None:
        """Appends rows: their integers (values,) and the length of each (rows,)."""
        self._bounds.append(self._values.count + np.cumsum(lengths))
        self._values.append(values)

    def save(self) -> None:
        """Puts all on the disk."""
        self._values.save()
        self._bounds.save()

    def rows(self) -> Rows:
        """Saves the rows and returns those so far."""
        self.save()
        return Rows.open(self._folder, self._name, self.state)

    def close(self) -> None:
        """Closes the files."""
        self._values.close()
        self._bounds.close()


class RowsInMemory:
    """Appends rows as `RowsFile`, in memory."""

    def __init__(self):
        self._values, self._lengths = [np.zeros(0, np.uint8)], [np.zeros(1, np.int64)]

    def append(self, values: np.ndarray, lengths: np.ndarray) -> None:
        """Appends rows: their integers (values,) and the length of each (rows,)."""
        self._values.append(values.astype(smallest_type(int(values.max(initial=0)))))
        self._lengths.append(np.asarray(lengths, np.int64))

    def rows(self) -> Rows:
        """Returns the rows."""
        return Rows(np.concatenate(self._values), np.cumsum(np.concatenate(self._lengths)))


def row_paths(folder: pathlib.Path, name: str, state: dict[str, Any]) -> list[pathlib.Path]:
    """Returns the paths of the integers and of the bounds of a `RowsFile` with this state."""
    parts = (name, state["values"]), (f"{name}-{BOUNDS}", state[BOUNDS])
    return [integer_path(folder, part, saved["type"]) for part, saved in parts]


def are_saved(folder: pathlib.Path, name: str, state: Any) -> bool:
    """Returns whether a folder has the rows that a state counts; the state may be damaged."""
    if not isinstance(state, dict):
        return False
    whole = is_saved(folder, name, state.get("values")) and is_saved(folder, f"{name}-{BOUNDS}", state.get(BOUNDS))
    return whole and state[BOUNDS]["type"] == "int64"
