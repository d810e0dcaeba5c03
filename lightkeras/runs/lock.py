"""One process trains in a run's folder at a time."""

import contextlib
import datetime
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightkeras.utils.checks import lightkeras_error
from lightkeras.utils.paths import Folder, RemotePath

LOCK = ".run.lock"  # in the run's folder; it says who trains there


@contextlib.contextmanager
def hold(folder: Folder) -> Iterator[None]:
    """Locks a run's folder during the `with` block. The lock of a process that was killed is free.

    A remote folder cannot be locked: there it does nothing.

    Raises:
        BlockingIOError: Another process trains there; the message says which, where and since when.
    """
    if isinstance(folder, RemotePath):
        yield
        return
    path = Path(folder) / LOCK
    file = _acquire(path)
    if file is None:
        raise lightkeras_error(BlockingIOError)(_explain(folder))
    with file:
        path.write_text(json.dumps(_whoami()), encoding="utf-8")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # a disk that failed: a lock that stays there is free
                path.unlink()


def require_free(runs: list[Folder]) -> None:
    """Raises a BlockingIOError if a process trains in one of the folders `runs`."""
    for folder in runs:
        path = Path(folder) / LOCK
        if not isinstance(folder, RemotePath) and path.exists():
            file = _acquire(path, fcntl.LOCK_SH)  # two that look at once do not see each other
            if file is None:
                raise lightkeras_error(BlockingIOError)(_explain(folder))
            file.close()


def _acquire(path: Path, kind: int = fcntl.LOCK_EX) -> Any:
    """Opens and locks the file; None if another process holds it.

    It is open for reading only: a disk cannot be made read-only while a file is open for writing.
    """
    while True:
        path.touch()
        file = path.open(encoding="utf-8")
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        if path.exists() and os.fstat(file.fileno()).st_ino == path.stat().st_ino:
            return file
        file.close()  # its holder ended, and deleted it, in between


def _whoami() -> dict[str, Any]:
    now = datetime.datetime.now().isoformat(" ", "seconds")
    return {"process": os.getpid(), "machine": socket.gethostname(), "since": now}


def _explain(folder: Folder) -> str:
    try:
        holder = json.loads((Path(folder) / LOCK).read_text(encoding="utf-8"))
        who = f"process {holder['process']} on {holder['machine']} trains there since {holder['since']}"
    except (OSError, ValueError, LookupError):  # it has just begun, or ended
        who = "another process trains there"
    return f"Expected {folder} to be free. Received: {who}"
