"""Export folders: written whole or not at all, with a list of their files by which damage is found."""

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightkeras.utils.checks import ArgumentError, lightkeras_error, require
from lightkeras.utils.files import sha256
from lightkeras.utils.paths import local_path

CARD = "export.json"


def new_folder(folder: str | os.PathLike) -> Path:
    """Returns the path of a folder that can be made.

    Raises:
        FileExistsError: There is a file or folder of that name.
        FileNotFoundError: There is no folder for it.
    """
    path = local_path(os.path.expanduser(folder))
    require(not path.exists(), "folder", "a new folder", str(folder), FileExistsError)
    require(path.absolute().parent.is_dir(), "folder", "a folder in an existing one", str(folder), FileNotFoundError)
    return path


@contextlib.contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Gives a folder beside `folder`, which gets that name when the block ends without an error, or is deleted."""
    partial = folder.absolute().parent / f".{uuid.uuid4().hex[:8]}.{folder.name}"
    partial.mkdir()
    try:
        yield partial
        require(not folder.exists(), "folder", "a new folder", str(folder), FileExistsError)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_card(folder: Path, facts: dict[str, Any]) -> None:
    """Writes export.json: `facts`, and size and checksum of every other file."""
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    (folder / CARD).write_text(json.dumps({**facts, "files": files}, indent=1) + "\n", encoding="utf-8")


def write_vocabulary(folder: Path, data: Any) -> None:
    """Writes vocabulary.json: what the data knew of the training, such as the words in the order of their ids."""
    text = json.dumps(data.state_dict(), ensure_ascii=False)
    (folder / "vocabulary.json").write_text(text + "\n", encoding="utf-8")


def read_export(folder: str | os.PathLike) -> dict[str, Any]:
    """Returns what export.json says of a whole export: name, version, format, endpoints, run.

    Raises:
        FileNotFoundError: The folder is no export.
        ValueError: A file is missing, cut or changed: the first ones are named.
    """
    path = local_path(folder)
    if not (path / CARD).is_file():
        raise lightkeras_error(FileNotFoundError)(
            f"Expected the folder of an export, with a file {CARD}. Received: {folder}"
        )
    try:
        card = json.loads((path / CARD).read_text(encoding="utf-8"))
        faults = [fault for name, known in card["files"].items() if (fault := _find_fault(path, name, known))]
    except (ValueError, KeyError, TypeError) as error:
        raise ArgumentError(f"Expected {path / CARD} to describe an export. Received: {error}") from error
    if faults:
        raise ArgumentError(f"Expected {folder} to be a whole export. Received: {'; '.join(faults[:5])}")
    return card


def _find_fault(folder: Path, name: str, known: dict) -> str | None:
    path = folder / name
    if not path.is_file():
        return f"{name} is missing"
    if not path.resolve().is_relative_to(folder.resolve()):
        return f"{name} is not in the folder"
    if path.stat().st_size != known["bytes"]:
        return f"{name} has {path.stat().st_size} bytes instead of {known['bytes']}"
    return None if sha256(path) == known["sha256"] else f"{name} has other bytes"
