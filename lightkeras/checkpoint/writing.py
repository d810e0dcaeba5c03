"""Writing a checkpoint, and deleting those that are too old."""

import contextlib
import functools
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from lightkeras.checkpoint.archive import checked_arrays, cut_into_shards, write_shard
from lightkeras.checkpoint.manifest import checked_state, write_manifest
from lightkeras.checkpoint.storage import (
    SHARD_NAME,
    CheckpointError,
    Files,
    checkpoints,
    files_of,
    latest_checkpoint,
    name_of,
)
from lightkeras.utils.checks import require, require_int


def save_checkpoint(
    folder: str | os.PathLike,
    step: int,
    arrays: dict[str, np.ndarray],
    state: dict[str, Any],
    keep: int | None = None,
    protect: Iterable[str] = (),
) -> str:
    """Writes the checkpoint of `step` into `folder` atomically, then deletes the oldest beyond `keep`.

    Args:
        folder: where the checkpoints lie; made if missing. A local path, or a remote one with a scheme.
        step: the number of optimizer updates done.
        arrays: host arrays by name: numbers, booleans, strings, dates; bfloat16 and its kin too. Any str
            is a name.
        state: JSON values. NaN and infinities are kept, NumPy scalars become Python's, tuples lists.
        keep: how many checkpoints to keep, the newest; None keeps all. The one just written always stays.
        protect: paths of checkpoints that are never deleted, e.g. the best one; they do not widen `keep`.

    Returns:
        The path of the checkpoint's folder.

    Raises:
        ValueError: an argument, array or state value that a checkpoint cannot hold, before anything is
            written.
        CheckpointError: the file system refused (disk full, read-only folder). What was there before is
            intact.
    """
    _, write = prepare_checkpoint(folder, step, arrays, state, keep, protect)
    return write()


def prepare_checkpoint(
    folder: str | os.PathLike,
    step: int,
    arrays: dict[str, np.ndarray],
    state: dict[str, Any],
    keep: int | None = None,
    protect: Iterable[str] = (),
) -> tuple[str, Callable[[], str]]:
    """The first half of `save_checkpoint`: everything is checked, the state is copied, nothing is written.

    Returns:
        The checkpoint's path, and the second half: it may run in another thread, if the arrays stay as they are.
    """
    require_int("step", step, minimum=0)
    require_int("keep", keep, optional=True)
    require(not isinstance(protect, str), "protect", "several paths, not one str", protect)
    content = (checked_arrays(arrays), checked_state(state))
    folder = os.fspath(folder)
    path = posixpath.join(folder, f"step_{step:09d}")
    return path, functools.partial(_save, folder, path, int(step), *content, keep, [path, *protect])


def _save(folder: str, path: str, step: int, arrays: dict, state: dict, keep: int | None, protected: list[str]) -> str:
    files = files_of(folder)
    size = sum(array.nbytes for array in arrays.values())
    with _explained(files, folder, f"Could not write checkpoint {path} ({size:,} bytes of arrays)"):
        files.sweep(folder)
        shards = _write(files, path, step, arrays, state)
    with _explained(files, folder, f"Wrote checkpoint {path}, but could not delete older files"):
        _delete_unlisted_shards(files, path, shards)
        _delete_old(files, folder, keep, protected)
    return path


def _write(files: Files, path: str, step: int, arrays: dict[str, np.ndarray], state: dict) -> list[dict]:
    """Writes the checkpoint and puts it in its place; returns its shards' manifest entries."""
    stage = files.stage(path)
    try:
        first = _first_free_number(files.names(path))
        shards = [
            write_shard(files, stage, f"arrays-{number:05d}.npz", shard)
            for number, shard in enumerate(cut_into_shards(arrays), start=first)
        ]
        write_manifest(files, posixpath.join(stage, files.staged_manifest), step, state, shards)
        files.commit(stage, path)
    except BaseException:
        files.abandon(stage)
        raise
    return shards


def _first_free_number(names: list[str]) -> int:
    taken = [int(match[1]) for match in map(SHARD_NAME.fullmatch, names) if match]
    return max(taken, default=-1) + 1


def _delete_unlisted_shards(files: Files, path: str, shards: list[dict]) -> None:
    listed = {shard["name"] for shard in shards}
    for name in filter(SHARD_NAME.fullmatch, files.names(path)):
        if name not in listed:
            files.delete_file(posixpath.join(path, name))


def _delete_old(files: Files, folder: str, keep: int | None, protected: list[str]) -> None:
    stays = {name_of(path) for path in protected}
    for path in checkpoints(folder)[:-keep] if keep else []:
        if name_of(path) not in stays:
            files.delete_checkpoint(path)


@contextlib.contextmanager
def _explained(files: Files, folder: str, what: str) -> Iterator[None]:
    """Turns an error of the file system into a CheckpointError that says what is still there."""
    try:
        yield
    except files.errors as error:
        raise CheckpointError(f"{what}: {error}. {_what_is_left(folder)}") from error


def _what_is_left(folder: str) -> str:
    try:
        latest = latest_checkpoint(folder)
    except CheckpointError as error:
        return str(error)
    return f"Checkpoints there are intact, the latest: {latest}" if latest else "No checkpoint was there before."
