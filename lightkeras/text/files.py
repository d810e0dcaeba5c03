"""Texts in files, larger than memory: encoded once, into a memory-mapped file of the smallest integer type."""

import glob
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from lightkeras.text.characters import CharacterVocabulary
from lightkeras.text.encoded import EncodedText, ids_of
from lightkeras.text.file_cache import STATE, FileCache, chain, chunks, decode_chunk, show_progress
from lightkeras.text.integers import IntegerFile, integer_path, is_saved
from lightkeras.utils.checks import require
from lightkeras.utils.files import write_json
from lightkeras.utils.paths import local_path

CODES = "codes"
SAVE_CHUNKS = 16  # between two states


def find_texts(source: str | os.PathLike) -> list[pathlib.Path]:
    """Finds a text file; all files in a folder and its folders, in the order of their paths; or those of a glob.

    Files and folders whose names begin with a dot are left out.

    Raises:
        ValueError: There is no such file.
    """
    path = local_path(source)
    if path.is_file():
        return [path]
    found = path.rglob("*") if path.is_dir() else map(pathlib.Path, glob.glob(str(path), recursive=True))
    root = path if path.is_dir() else pathlib.Path()
    files = sorted(one for one in found if one.is_file() and not _is_hidden(one, root))
    require(bool(files), "source", "a text file, a folder with text files, or a glob that matches some", str(source))
    return files


def _is_hidden(path: pathlib.Path, root: pathlib.Path) -> bool:
    parts = path.relative_to(root).parts if path.is_relative_to(root) else (path.name,)
    return any(part.startswith(".") for part in parts)


class TextCache(FileCache):
    """The codes of the characters of text files, one after the other as `cat` prints them, in a file on disk.

    Characters have codes in the order in which they appear, so that one pass is enough.

    Args:
        files: UTF-8 files; a byte order mark at the start of one is left out.
        root: The folder of all caches; None for `texts` beside the downloaded data sets.
    """

    def open(self, vocabulary: CharacterVocabulary | None = None) -> tuple[EncodedText, CharacterVocabulary]:
        """Returns the text and its vocabulary; encodes the text first, unless that was done.

        Args:
            vocabulary: Gives the ids; None makes one of the characters of the text.

        Raises:
            ValueError: A file is empty or not UTF-8; or the vocabulary lacks characters.
        """
        index = self.encode()
        characters = list(map(chr, index["points"]))
        vocabulary = vocabulary or CharacterVocabulary(tuple(sorted(characters)))
        kind = index["codes"]["type"]
        codes = np.memmap(self.codes_path(kind), kind, "r")
        return EncodedText(codes, ids_of(characters, vocabulary, str(self.files[0]))), vocabulary

    def codes_path(self, kind: str) -> pathlib.Path:
        """Returns the path of the codes of an integer type."""
        return integer_path(self.folder, CODES, kind)

    def _make(self) -> dict[str, Any]:
        return _Encoding(self, self._read_facts(STATE)).run()

    def _outputs(self, index: dict[str, Any]) -> list[pathlib.Path]:
        return [self.codes_path(index["codes"]["type"])]

    def _is_usable(self, facts: dict[str, Any]) -> bool:
        points = facts.get("points")
        known = isinstance(points, list) and all(isinstance(one, int) and 0 <= one < 0x110000 for one in points)
        return known and is_saved(self.folder, CODES, facts.get("codes"))


class _Encoding:
    """One encoding of a text, from its start or from the saved state."""

    def __init__(self, cache: TextCache, saved: dict[str, Any] | None):
        self._cache, self._stamps = cache, cache.stamps()
        fits = saved and saved["files"] == self._stamps
        self._state: dict[str, Any] = saved if fits else {
            "files": self._stamps, "digests": [], "digest": "", "position": 0, "points": [], "codes": None,
        }  # fmt: skip
        self._table = np.full(0x110000, -1, np.int32)  # the code of each code point of Unicode
        self._table[self._state["points"]] = np.arange(len(self._state["points"]))

    def run(self) -> dict[str, Any]:
        """Encodes what is left; returns the index."""
        state, cache = self._state, self._cache
        done = sum(size for _, size, _ in self._stamps[: len(state["digests"])]) + state["position"]
        self._codes = IntegerFile(cache.folder, CODES, state["codes"])
        try:
            with show_progress("Encoding", cache.files, done) as advance:
                for file in cache.files[len(state["digests"]) :]:
                    self._encode_file(file, advance)
        finally:
            self._codes.close()
        require(self._codes.count > 0, "source", "text that is not empty", ", ".join(map(str, cache.files[:3])))
        return {name: state[name] for name in ("files", "digests", "points", "codes")}

    def _encode_file(self, file: pathlib.Path, advance: Callable[[int], None]) -> None:
        state = self._state
        for number, chunk in enumerate(chunks(file, state["position"], advance), 1):
            self._encode_chunk(file, chunk)
            state["digest"] = chain(state["digest"], chunk)
            state["position"] += len(chunk)
            if number % SAVE_CHUNKS == 0:
                self._save()
        require(state["position"] > 0, "source", "text files that are not empty", str(file))
        state.update(digests=[*state["digests"], state["digest"]], digest="", position=0)
        self._save()

    def _encode_chunk(self, file: pathlib.Path, chunk: bytes) -> None:
        text = decode_chunk(file, self._state["position"], chunk)
        points = np.frombuffer(text.encode("utf-32-le"), "<u4")
        codes = self._table[points]
        if len(codes) and codes.min() < 0:
            self._add(np.unique(points[codes < 0]))
            codes = self._table[points]
        self._codes.append(codes, largest=len(self._state["points"]) - 1)

    def _add(self, points: np.ndarray) -> None:
        """Gives new characters their codes."""
        known = len(self._state["points"])
        self._table[points] = np.arange(known, known + len(points))
        self._state["points"] = [*self._state["points"], *points.tolist()]

    def _save(self) -> None:
        self._codes.save()
        self._state["codes"] = self._codes.state
        write_json(self._cache.folder / STATE, self._state)
