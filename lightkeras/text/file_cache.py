"""What is made of text files once and kept in a folder: its place, and whether it is whole and of these files.

While the files are read, the folder holds `state.json`, which says how far that is: a call that is cut off is resumed
there. `index.json` is written at the end: without it, nothing counts as whole.
"""

import abc
import contextlib
import functools
import hashlib
import os
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from rich import progress

from lightkeras.text.tokenize import TEXT_START, locate_bad_byte
from lightkeras.utils.checks import ArgumentError, require
from lightkeras.utils.files import locked, read_json, write_json
from lightkeras.utils.messages import logger
from lightkeras.utils.paths import cache_folder, local_path

INDEX, STATE, LOCK = "index.json", "state.json", ".lock"
CHUNK = 1 << 22  # bytes that are read at a time
_SAMPLES, _SAMPLE = 1024, 4096  # places of a file that its digest covers, and the bytes of each


class FileCache(abc.ABC):
    """Something that is made of text files once and kept in a folder of its own.

    Args:
        files: The files.
        root: The folder of all caches; None for `texts` beside the downloaded data sets.
        variant: Tells apart what is made of the same files in several ways.
    """

    def __init__(self, files: list[pathlib.Path], root: str | os.PathLike | None = None, variant: str = ""):
        self.files = [file.resolve() for file in files]
        key = "\n".join([*map(str, self.files), *([variant] if variant else [])])
        root = local_path(root) if root else cache_folder() / "texts"
        self.folder = root / f"{self.files[0].stem}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"

    def encode(self) -> dict[str, Any]:
        """Reads the files, or the rest of them, unless the cache is whole; returns the index."""
        with locked(self.folder / LOCK, message=f"Waiting for another process that encodes {self.files[0]}"):
            index = self._read_facts(INDEX)
            if index is None or not self._is_valid(index):
                (self.folder / INDEX).unlink(missing_ok=True)
                index = self._make()
                outputs = self._outputs(index)
                index["outputs"] = list(map(sample_digest, outputs))
                for path in set(self.folder.iterdir()) - {*outputs, self.folder / LOCK}:
                    path.unlink()  # the state, integers of a smaller type
                write_json(self.folder / INDEX, index)
            return index

    @abc.abstractmethod
    def _make(self) -> dict[str, Any]:
        """Reads what the state leaves; returns the index, with the `files` and their `digests`."""

    @abc.abstractmethod
    def _outputs(self, index: dict[str, Any]) -> list[pathlib.Path]:
        """Returns the files that were made."""

    @abc.abstractmethod
    def _is_usable(self, facts: dict[str, Any]) -> bool:
        """Returns whether an index or a state that was read has what it must have."""

    def stamps(self) -> list[list[Any]]:
        """Returns path, bytes and time of change of every file."""
        return [[str(file), (s := file.stat()).st_size, s.st_mtime_ns] for file in self.files]

    def _read_facts(self, name: str) -> dict[str, Any] | None:
        """Returns an index or a state, or None if there is none or it is damaged: all is made anew then."""
        try:
            facts = read_json(self.folder / name)
        except ValueError:
            return None
        return facts if isinstance(facts, dict) and "files" in facts and self._is_usable(facts) else None

    def _is_valid(self, index: dict[str, Any]) -> bool:
        """Returns whether the files are those of the index, and what was made is on the disk as it was written."""
        outputs, stamps = self._outputs(index), self.stamps()
        whole = all(path.exists() for path in outputs)
        if not whole or list(map(sample_digest, outputs)) != index.get("outputs"):
            return False
        if stamps == index["files"]:
            return True
        if [stamp[:2] for stamp in stamps] != [stamp[:2] for stamp in index["files"]]:
            return False
        same = digest_files(self.files) == index.get("digests")  # copied or touched, or changed without another size
        if same:
            write_json(self.folder / INDEX, {**index, "files": stamps})
        return same


# ---- files, chunk by chunk


def chunks(file: pathlib.Path, position: int, advance: Callable[[int], None]) -> Iterator[bytes]:
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


def decode_chunk(file: pathlib.Path, position: int, chunk: bytes) -> str:
    """Decodes the chunk at `position` of a file, without a byte order mark at its start.

    Raises:
        ValueError: It is not UTF-8, or has a NUL character.
    """
    start = len(TEXT_START) if not position and chunk.startswith(TEXT_START) else 0
    bad = chunk.find(b"\0")
    try:
        text = str(memoryview(chunk)[start:], "utf-8")
    except UnicodeDecodeError as error:
        bad = start + error.start if bad < 0 else min(bad, start + error.start)
    if bad >= 0:
        raise ArgumentError(f"Expected UTF-8 text. Received: {locate_bad_byte(file, position + bad)}")
    return text


def require_text(file: pathlib.Path) -> None:
    """Reads a file of any size once.

    Raises:
        ValueError: It is empty, not UTF-8, or has a NUL character.
    """
    position, characters = 0, 0
    for chunk in chunks(file, 0, lambda size: None):
        characters += len(decode_chunk(file, position, chunk))
        position += len(chunk)
    require(characters > 0, "source", "a text file that is not empty", f"{file}, 0 characters")


def chain(digest: str, chunk: bytes) -> str:
    """Hashes a chunk and the digest of those before it: unlike SHA-256's own state, that can be saved."""
    return hashlib.sha256(digest.encode() + chunk).hexdigest()


def digest_files(files: list[pathlib.Path]) -> list[str]:
    """Hashes all of the content of each file."""
    with show_progress("Comparing", files) as advance:
        return [functools.reduce(chain, chunks(file, 0, advance), "") for file in files]


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
