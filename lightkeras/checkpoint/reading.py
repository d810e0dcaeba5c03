"""Opens checkpoints, every byte verified, and falls back on the one before a damaged one."""

import contextlib
import functools
import itertools
import os
import posixpath
import warnings
from collections.abc import Iterator

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


class Checkpoint:
    """An opened checkpoint: the manifest is verified, the arrays are read and verified on first use, once.

    Args:
        path: The checkpoint's folder.

    Attributes:
        path: The checkpoint's folder.
        step: The update at which it was saved.
        state: Its JSON state.

    Raises:
        CheckpointError: There is no checkpoint, or a damaged one.
    """

    def __init__(self, path: str):
        self._manifest = read_manifest(path)
        self.path, self.step, self.state = path, self._manifest["step"], self._manifest["state"]

    @functools.cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name; a CheckpointError where a byte differs from what was written."""
        with _offering_earlier(self.path):
            return self._read()

    def _read(self) -> dict[str, np.ndarray]:
        arrays = {}
        for shard in self._manifest["shards"]:
            arrays |= read_arrays(self.path, shard)
        return arrays

    def verify(self) -> None:
        """Reads all arrays, and keeps them."""
        self.__dict__["arrays"] = self._read()


def open_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """Opens one checkpoint; its arrays are read later.

    Raises:
        CheckpointError: No checkpoint, or a damaged one. Names the file, what was expected and received, and the
            newest earlier checkpoint beside it that is whole.
    """
    path = os.fspath(path)
    with _offering_earlier(path):
        return Checkpoint(path)


def load_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """Opens one checkpoint and reads its arrays, every checksum verified. Raises as `open_checkpoint` does."""
    opened = open_checkpoint(path)
    _ = opened.arrays
    return opened


def fall_back(path: str) -> Checkpoint:
    """Opens the checkpoint `path`, if its every byte is right, or else the newest whole one before it in its folder.

    Damaged ones are renamed to `NAME.damaged`, and each is named in a warning.

    Raises:
        CheckpointError: None is whole; the message says why for each.
    """
    folder, damaged = posixpath.dirname(path), {}
    for candidate in reversed([p for p in checkpoints(folder) if step_of(p) <= step_of(path)]):
        try:
            opened = Checkpoint(candidate)
            opened.verify()
        except CheckpointError as error:
            damaged[candidate] = str(error)
            continue
        for name, reason in damaged.items():
            _set_aside(name)
            warnings.warn(f"Passed over a damaged checkpoint and resumed from {candidate}. {reason}", stacklevel=2)
        return opened
    reasons = "\n".join(damaged.values()) or "none"
    raise CheckpointError(f"Expected a readable checkpoint in {folder}. Received: {reasons}")


def _set_aside(path: str) -> None:
    files = files_of(path)
    taken = files.names(posixpath.dirname(path) or ".")
    names = (name_of(path) + ".damaged" + (f"-{number}" if number > 1 else "") for number in itertools.count(1))
    target = next(name for name in names if name not in taken)
    files.set_aside(path, posixpath.join(posixpath.dirname(path), target))


@contextlib.contextmanager
def _offering_earlier(path: str) -> Iterator[None]:
    """Adds to a CheckpointError the checkpoint to resume from."""
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


def _is_whole(path: str) -> bool:
    try:
        for shard in read_manifest(path)["shards"]:
            read_shard(path, shard)
    except CheckpointError:
        return False
    return True
