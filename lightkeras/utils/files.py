"""The files of a search: written whole or not at all, and never by two processes at once."""

import contextlib
import fcntl
import json
import os
import tempfile
from pathlib import Path
from typing import Any

RESULT = "result.json"  # of a trial that has ended, in its folder
JOB = "job.json"  # what a trial is, in its folder
LOG = "log.txt"  # what it printed, there too


def write_text(path: Path, text: str) -> None:
    """Writes a file that is there as a whole, or as it was before, whenever the process is killed."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(name, 0o644)
    os.replace(name, path)


def write_json(path: Path, value: Any) -> None:
    """`write_text` of a JSON value; floats come back to the bit."""
    write_text(path, json.dumps(value, indent=1))


def read_json(path: Path) -> Any:
    """The value of a JSON file, or None where there is no file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def trial_folder(folder: Path, trial_id: str) -> Path:
    """The folder of a trial in that of its search."""
    return folder / "trials" / trial_id


def failed_result(reason: str) -> dict[str, Any]:
    """What `result.json` holds of a trial that has failed."""
    nothing = dict.fromkeys(("score", "step", "seconds", "run"))
    return {"status": "FAILED", "reason": reason, **nothing, "values": []}


@contextlib.contextmanager
def locked(folder: Path, wait: bool, what: str):
    """Holds the lock of `folder`, which ends with the process.

    Raises:
        BlockingIOError: Another process has it, and `wait` is False.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise BlockingIOError(
                f"Expected {what} {folder} not to be in use. Received: another process runs it"
            ) from error
        yield
