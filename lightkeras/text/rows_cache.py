"""Rows that are made of text files once, in one pass, and kept in a folder."""

import abc
import contextlib
from collections.abc import Iterator
from typing import Any

from lightkeras.text.file_cache import STATE, FileCache, digest_files, show_progress
from lightkeras.text.rows import Rows, RowsFile, are_saved, row_paths
from lightkeras.utils.checks import require
from lightkeras.utils.files import write_json

SAVE_BLOCKS = 16  # between two states


class RowsCache(FileCache):
    """Rows of several names, made of text files once; see `FileCache` for the arguments.

    Attributes:
        NAMES: The names of the rows.
        FACTS: The names of what is known beside them, in JSON's types; `done` counts the bytes that were read.
    """

    NAMES: tuple[str, ...] = ()
    FACTS: tuple[str, ...] = ("done",)

    @abc.abstractmethod
    def _begin(self) -> dict[str, Any]:
        """Returns the `FACTS` of files of which nothing is read yet."""

    @abc.abstractmethod
    def _append(self, rows: dict[str, RowsFile], facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Reads what is left of the files and appends to the rows; yields the facts after each block."""

    def open(self) -> tuple[dict[str, Rows], dict[str, Any]]:
        """Returns the rows and the facts; reads the files first, unless that was done."""
        index = self.encode()
        return {name: Rows.open(self.folder, name, index["rows"][name]) for name in self.NAMES}, index["facts"]

    def _make(self) -> dict[str, Any]:
        state, stamps = self._read_facts(STATE), self.stamps()
        if state is None or state["files"] != stamps:
            state = {"files": stamps, "facts": self._begin(), "rows": dict.fromkeys(self.NAMES)}
        rows = {name: RowsFile(self.folder, name, state["rows"][name]) for name in self.NAMES}
        done = state["facts"]["done"]
        with contextlib.ExitStack() as stack:
            for one in rows.values():
                stack.callback(one.close)
            advance = stack.enter_context(show_progress("Encoding", self.files, done))
            for number, facts in enumerate(self._append(rows, state["facts"]), 1):
                advance(facts["done"] - done)
                state["facts"], done = facts, facts["done"]
                if number % SAVE_BLOCKS == 0:
                    write_json(self.folder / STATE, {**state, "rows": _saved(rows)})
            state["rows"] = _saved(rows)
        digests = digest_files(self.files)
        require(self.stamps() == stamps, "source", "files that stay as they are while they are read", "changed ones")
        return {**state, "digests": digests}

    def _outputs(self, index: dict[str, Any]):
        return [path for name in self.NAMES for path in row_paths(self.folder, name, index["rows"][name])]

    def _is_usable(self, facts: dict[str, Any]) -> bool:
        rows, known = facts.get("rows"), facts.get("facts")
        if not isinstance(rows, dict) or not isinstance(known, dict) or set(known) != set(self.FACTS):
            return False
        return all(are_saved(self.folder, name, rows.get(name)) for name in self.NAMES)


def _saved(rows: dict[str, RowsFile]) -> dict[str, Any]:
    for one in rows.values():
        one.save()
    return {name: one.state for name, one in rows.items()}
