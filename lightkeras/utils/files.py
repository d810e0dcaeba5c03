"""Files that are written whole or not at all, locks between processes, and checksums."""

import contextlib
import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightkeras.utils.paths import RemotePath


@contextlib.contextmanager
def write_atomically(path: Path | RemotePath) -> Iterator[Path | RemotePath]:
    """Gives a new path beside `path`; the file written there replaces `path` when the block ends without an error.

    Whenever the process is killed, `path` holds the old content or the new one, never a part of either. The new
    path has the suffix of `path`, so that writers which choose a format by it do the same.
    """
    partial = path.parent / f".{uuid.uuid4().hex[:8]}.{path.name}"
    try:
        yield partial
        if isinstance(partial, Path):
            _sync(partial)
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
        raise


def _sync(path: Path) -> None:
    """Puts a file's bytes on the disk: else a power cut might leave the new name with old bytes."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_text(path: Path | RemotePath, text: str) -> None:
    """Writes a text file atomically."""
    with write_atomically(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path | RemotePath, value: Any) -> None:
    """Writes a JSON file atomically; floats come back to the bit."""
    write_text(path, json.dumps(value, indent=1))


def read_json(path: Path | RemotePath) -> Any:
    """Returns the value in a JSON file, or None if there is no file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True, message: str | None = None) -> Iterator[None]:
    """Holds a lock that only one process (and thread) has at a time; it ends with the process at the latest.

    Args:
        path: The lock's file, created if missing, together with its folder.
        wait: Whether to wait for a process that holds the lock.
        message: Printed before waiting.

    Raises:
        BlockingIOError: Another process holds the lock, and `wait` is False.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if not wait:
                raise BlockingIOError(
                    f"Expected {path.parent} not to be in use. Received: another process holds {path}"
                ) from error
            if message:
                print(message, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sha256(path: str | os.PathLike) -> str:
    """Returns the SHA-256 checksum of a file in hexadecimal."""
    with open(os.path.expanduser(path), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
