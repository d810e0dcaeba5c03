"""Texts in files, larger than memory: encoded once, into a memory-mapped file of the smallest integer type.

A cache has a folder of its own beside the downloaded data sets. While a text is encoded it holds `codes.TYPE.partial`
and `state.json`, which says how far that is: a call that is cut off is resumed there. At the end the file is renamed to
`codes.TYPE`, and then `index.json` is written: without it, nothing counts as whole.
"""

import contextlib
import functools
import glob
import hashlib
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from rich import progress

from lightkeras.text.characters import CharacterVocabulary
from lightkeras.text.encoded import EncodedText, ids_of
from lightkeras.text.tokenize import TEXT_START, locate_bad_byte
from lightkeras.utils.checks import ArgumentError, require
from lightkeras.utils.files import locked, read_json, write_json
from lightkeras.utils.messages import logger
from lightkeras.utils.paths import cache_folder, local_path

INDEX, STATE = "index.json", "state.json"
KEPT = ("files", "digests", "characters", "points", "type")  # of a state, in the index
CHUNK = 1 << 22  # bytes that are read at a time
SAVE_CHUNKS = 16  # between two states
_SAMPLES, _SAMPLE = 1024, 4096  # places of the codes that their digest covers, and the bytes of each
_TYPES = (np.uint8, np.uint16, np.uint32)


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


class TextCache:
    """The codes of the characters of text files, one after the other as `cat` prints them, in a file on disk.

    Characters have codes in the order in which they appear, so that one pass is enough.

    Args:
        files: UTF-8 files; a byte order mark at the start of one is left out.
        root: The folder of all caches; None for `texts` beside the downloaded data sets.
    """

    def __init__(self, files: list[pathlib.Path], root: str | os.PathLike | None = None):
        self.files = [file.resolve() for file in files]
        digest = hashlib.sha256("\n".join(map(str, self.files)).encode()).hexdigest()
        root = local_path(root) if root else cache_folder() / "texts"
        self.folder = root / f"{self.files[0].stem}-{digest[:12]}"

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
        codes = np.memmap(self.codes_path(index["type"]), index["type"], "r")
        return EncodedText(codes, ids_of(characters, vocabulary, str(self.files[0]))), vocabulary

    def encode(self) -> dict[str, Any]:
        """Encodes the text, or the rest of it, unless the cache is whole; returns the index."""
        with locked(self.folder / ".lock", message=f"Waiting for another process that encodes {self.files[0]}"):
            index = _read_whole(self.folder / INDEX, (*KEPT, "codes_digest"))
            if index is None or not self._is_valid(index):
                (self.folder / INDEX).unlink(missing_ok=True)
                index = _Encoding(self).run()
                write_json(self.folder / INDEX, index)
            return index

    def stamps(self) -> list[list[Any]]:
        """Returns path, bytes and time of change of every file."""
        return [[str(file), (s := file.stat()).st_size, s.st_mtime_ns] for file in self.files]

    def _is_valid(self, index: dict[str, Any]) -> bool:
        """Returns whether the files are those of the index, and the codes are on the disk as they were written."""
        codes, stamps = self.codes_path(index["type"]), self.stamps()
        size = index["characters"] * np.dtype(index["type"]).itemsize
        if not codes.exists() or codes.stat().st_size != size or sample_digest(codes) != index["codes_digest"]:
            return False
        if stamps == index["files"]:
            return True
        if [stamp[:2] for stamp in stamps] != [stamp[:2] for stamp in index["files"]]:
            return False
        same = self._digests() == index["digests"]  # copied or touched, or changed without another size
        if same:
            write_json(self.folder / INDEX, {**index, "files": stamps})
        return same

    def _digests(self) -> list[str]:
        with show_progress("Comparing", self.files) as advance:
            return [functools.reduce(_chain, _chunks(file, 0, advance), "") for file in self.files]

    def codes_path(self, kind: str, partial: bool = False) -> pathlib.Path:
        """Returns the path of the codes of an integer type, whole or not."""
        return self.folder / f"codes.{kind}{'.partial' if partial else ''}"


class _Encoding:
    """One encoding of a text, from its start or from the saved state."""

    def __init__(self, cache: TextCache):
        self._cache, self._stamps = cache, cache.stamps()
        self._state: dict[str, Any] = {
            "files": self._stamps, "digests": [], "digest": "", "position": 0, "characters": 0, "points": [],
            "type": "uint8",
        }  # fmt: skip
        saved = _read_whole(cache.folder / STATE, self._state)
        if saved and saved["files"] == self._stamps and self._has_codes(saved):
            self._state = saved
        self._table = np.full(0x110000, -1, np.int32)  # the code of each code point of Unicode
        self._table[self._state["points"]] = np.arange(len(self._state["points"]))

    def _has_codes(self, saved: dict[str, Any]) -> bool:
        partial = self._cache.codes_path(saved["type"], partial=True)
        return partial.exists() and partial.stat().st_size >= saved["characters"] * np.dtype(saved["type"]).itemsize

    def run(self) -> dict[str, Any]:
        """Encodes what is left; returns the index."""
        state, cache = self._state, self._cache
        done = sum(size for _, size, _ in self._stamps[: len(state["digests"])]) + state["position"]
        self._open()
        try:
            with show_progress("Encoding", cache.files, done) as advance:
                for file in cache.files[len(state["digests"]) :]:
                    self._encode_file(file, advance)
        finally:
            self._file.close()
        require(state["characters"] > 0, "source", "text that is not empty", ", ".join(map(str, cache.files[:3])))
        codes = cache.codes_path(state["type"])
        cache.codes_path(state["type"], partial=True).rename(codes)
        (cache.folder / STATE).unlink(missing_ok=True)
        return {**{name: state[name] for name in KEPT}, "codes_digest": sample_digest(codes)}

    def _open(self) -> None:
        """Opens the codes behind the last one that the state counts."""
        path = self._cache.codes_path(self._state["type"], partial=True)
        self._file = path.open("r+b" if path.exists() else "w+b")
        self._file.truncate(self._state["characters"] * np.dtype(self._state["type"]).itemsize)
        self._file.seek(0, os.SEEK_END)

    def _encode_file(self, file: pathlib.Path, advance: Callable[[int], None]) -> None:
        state = self._state
        for number, chunk in enumerate(_chunks(file, state["position"], advance), 1):
            self._encode_chunk(file, chunk)
            state["digest"] = _chain(state["digest"], chunk)
            state["position"] += len(chunk)
            if number % SAVE_CHUNKS == 0:
                self._save()
        require(state["position"] > 0, "source", "text files that are not empty", str(file))
        state.update(digests=[*state["digests"], state["digest"]], digest="", position=0)
        self._save()

    def _encode_chunk(self, file: pathlib.Path, chunk: bytes) -> None:
        state = self._state
        start = len(TEXT_START) if not state["position"] and chunk.startswith(TEXT_START) else 0
        bad = chunk.find(b"\0")
        try:
            text = str(memoryview(chunk)[start:], "utf-8")
        except UnicodeDecodeError as error:
            bad = start + error.start if bad < 0 else min(bad, start + error.start)
        if bad >= 0:
            raise ArgumentError(f"Expected UTF-8 text. Received: {locate_bad_byte(file, state['position'] + bad)}")
        points = np.frombuffer(text.encode("utf-32-le"), "<u4")
        codes = self._table[points]
        if len(codes) and codes.min() < 0:
            self._add(np.unique(points[codes < 0]))
            codes = self._table[points]
        self._file.write(codes.astype(state["type"]).tobytes())
        state["characters"] += len(codes)

    def _add(self, points: np.ndarray) -> None:
        """Gives new characters their codes; a larger type where they need one."""
        state, known = self._state, len(self._state["points"])
        self._table[points] = np.arange(known, known + len(points))
        state["points"] = [*state["points"], *points.tolist()]
        kind = next(kind for kind in _TYPES if len(state["points"]) <= np.iinfo(kind).max + 1)
        if np.dtype(kind).name != state["type"]:
            self._widen(np.dtype(kind).name)

    def _widen(self, kind: str) -> None:
        """Copies the codes into a file of another type."""
        old, before = self._file, self._state["type"]
        old.flush()
        old.seek(0)
        new = self._cache.codes_path(kind, partial=True).open("w+b")
        while block := old.read(CHUNK):
            new.write(np.frombuffer(block, before).astype(kind).tobytes())
        old.close()
        self._file, self._state["type"] = new, kind

    def _save(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        write_json(self._cache.folder / STATE, self._state)


def _read_whole(path: pathlib.Path, names: Iterable[str]) -> dict[str, Any] | None:
    """Returns an index or a state, or None if there is none or it is damaged: the text is encoded anew then."""
    try:
        written = read_json(path)
    except ValueError:
        written = None
    if not isinstance(written, dict) or not set(names) <= written.keys():
        return None
    points = written["points"]
    known = isinstance(points, list) and all(isinstance(one, int) and 0 <= one < 0x110000 for one in points)
    usable = known and written["type"] in [kind.__name__ for kind in _TYPES] and isinstance(written["characters"], int)
    return written if usable else None


def _chain(digest: str, chunk: bytes) -> str:
    """Hashes a chunk and the digest of those before it: unlike SHA-256's own state, that can be saved."""
    return hashlib.sha256(digest.encode() + chunk).hexdigest()


def _chunks(file: pathlib.Path, position: int, advance: Callable[[int], None]) -> Iterator[bytes]:
    """Yields the bytes from `position` on; a chunk ends with a whole character, if the file is UTF-8."""
    with file.open("rb") as opened:
        opened.seek(position)
        while block := opened.read(CHUNK):
            end = len(block) if len(block) < CHUNK else _whole_characters(block)
            position += end
            advance(end)
            yield block[:end]
            opened.seek(position)  # chunks depend on the place alone, not on where reading began


def _whole_characters(block: bytes) -> int:
    """Returns the length without a character at the end that is cut off."""
    for back in range(1, min(4, len(block)) + 1):
        byte = block[-back]
        if byte & 0xC0 != 0x80:  # the first byte of a character
            needed = 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(block) - back if needed > back else len(block)
    return len(block)


def sample_digest(path: pathlib.Path) -> str:
    """Hashes the size of a file and 1024 evenly spread parts of it."""
    size = path.stat().st_size
    found = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for start in np.unique(np.linspace(0, max(0, size - _SAMPLE), _SAMPLES).astype(np.int64)).tolist():
            file.seek(start)
            found.update(file.read(_SAMPLE))
    return found.hexdigest()


@contextlib.contextmanager
def show_progress(title: str, files: list[pathlib.Path], done: int = 0) -> Iterator[Callable[[int], None]]:
    """Shows a bar in a terminal, else one line; yields a function to call with the bytes of each chunk."""
    terminal, total = sys.stdout.isatty(), sum(file.stat().st_size for file in files)
    title = f"{title} {files[0]}" + (f" and {len(files) - 1} more" if files[1:] else "")
    if not terminal:
        logger.info("%s (%s bytes%s)", title, f"{total:,}", f", {done:,} of them done" if done else "")
    columns = (
        progress.TextColumn("{task.description}"), progress.BarColumn(), progress.DownloadColumn(),
        progress.TransferSpeedColumn(), progress.TimeRemainingColumn(),
    )  # fmt: skip
    with progress.Progress(*columns, disable=not terminal) as bar:
        yield functools.partial(bar.advance, bar.add_task(title, total=total, completed=done))
