"""Loading a checkpoint, every byte verified; and what to do about a damaged one."""

import contextlib
import itertools
import os
import posixpath
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightkeras.checkpoint.archive import read_arrays, read_shard
from lightkeras.checkpoint.manifest import read_manifest
from lightkeras.checkpoint.storage import (
    CHECKPOINT_NAME,
    CheckpointError,
    checkpoints,
    files_of,
    latest_checkpoint,
    name_of,
    step_of,
)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """One loaded checkpoint: where it was, the step it was taken at, its arrays by name, its JSON state."""

    path: str
    step: int
    arrays: dict[str, np.ndarray]
    state: dict[str, Any]


def load_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """Loads one checkpoint, every checksum verified.

    Raises:
        CheckpointError: no checkpoint, or a damaged one. Names the file, what was expected and received,
            and the newest earlier checkpoint beside it that is whole.
    """
    path = os.fspath(path)
    with _offering_earlier(path):
        return _load(path)


def read_state(path: str | os.PathLike) -> dict[str, Any]:
    """The JSON state of a checkpoint, its arrays left unread. Raises as `load_checkpoint` does."""
    path = os.fspath(path)
    with _offering_earlier(path):
        return read_manifest(path)["state"]


def load_latest(folder: str | os.PathLike) -> Checkpoint:
    """Loads the newest checkpoint in `folder`; a damaged one is named in a warning and passed over.

    Raises:
        CheckpointError: there is no checkpoint, or none can be read; the message says why for each.
    """
    damaged = []
    for path in reversed(checkpoints(folder)):
        try:
            checkpoint = _load(path)
        except CheckpointError as error:
            damaged.append(f"{path}: {error}")
            continue
        for reason in damaged:
            warnings.warn(f"Passed over a damaged checkpoint and loaded {path}. {reason}", stacklevel=2)
        return checkpoint
    reasons = "\n".join(damaged) or "none"
    raise CheckpointError(f"Expected a readable checkpoint in {os.fspath(folder)}. Received: {reasons}")


def fall_back(path: str) -> str:
    """The checkpoint `path`, if its every byte is right, or else the newest whole one before it in its folder.

    Damaged ones are put out of the way, as `NAME.damaged`, and each is named in a warning.

    Raises:
        CheckpointError: None is whole; the message says why for each.
    """
    folder, damaged = posixpath.dirname(path), {}
    for candidate in reversed([p for p in checkpoints(folder) if step_of(p) <= step_of(path)]):
        try:
            _verify(candidate)
        except CheckpointError as error:
            damaged[candidate] = str(error)
            continue
        for name, reason in damaged.items():
            _set_aside(name)
            warnings.warn(f"Passed over a damaged checkpoint and went on from {candidate}. {reason}", stacklevel=2)
        return candidate
    reasons = "\n".join(damaged.values()) or "none"
    raise CheckpointError(f"Expected a readable checkpoint in {folder}. Received: {reasons}")


def _set_aside(path: str) -> None:
    files = files_of(path)
    taken = files.names(posixpath.dirname(path) or ".")
    names = (name_of(path) + ".damaged" + (f"-{number}" if number > 1 else "") for number in itertools.count(1))
    target = next(name for name in names if name not in taken)
    files.set_aside(path, posixpath.join(posixpath.dirname(path), target))


def _load(path: str) -> Checkpoint:
    manifest = read_manifest(path)
    arrays = {}
    for shard in manifest["shards"]:
        arrays |= read_arrays(path, shard)
    return Checkpoint(path, manifest["step"], arrays, manifest["state"])


@contextlib.contextmanager
def _offering_earlier(path: str) -> Iterator[None]:
    """Adds to a CheckpointError where to go on from."""
    try:
        yield
    except CheckpointError as error:
        inside, earlier = latest_checkpoint(path), _earlier_whole(path)
        if inside:
            raise CheckpointError(f"{error}\nThis folder holds checkpoints, the latest: {inside}") from error
        if earlier:
            raise CheckpointError(f"{error}\nAn earlier whole checkpoint: {earlier}") from error
        raise


def _earlier_whole(path: str) -> str | None:
    """The newest checkpoint beside `path`, of an earlier step, whose every byte is right."""
    if not CHECKPOINT_NAME.fullmatch(name_of(path)):
        return None
    beside = checkpoints(posixpath.dirname(path.rstrip("/")) or ".")
    return next((p for p in reversed(beside) if step_of(p) < step_of(path) and _is_whole(p)), None)


def _verify(path: str) -> None:
    """Reads every byte; raises CheckpointError where one is not what was written."""
    for shard in read_manifest(path)["shards"]:
        read_shard(path, shard)


def _is_whole(path: str) -> bool:
    try:
        _verify(path)
    except CheckpointError:
        return False
    return True
