"""Finds checkpoints on a local disk or on a remote file system of TensorFlow's, and tells the whole ones.

Remote paths (`gs://`) have no atomic rename of folders, so there the shards go to their final place and the
manifest follows. Locally all of it goes into a temporary folder beside the checkpoint, which is renamed.
"""

import contextlib
import os
import posixpath
import re
import shutil
from typing import Any

from lightkeras.utils.checks import LightkerasError
from lightkeras.utils.paths import RemotePath, as_path

MANIFEST = "manifest.json"
CHECKPOINT_NAME = re.compile(r"step_(\d{9,})")
SHARD_NAME = re.compile(r"arrays-(\d{5,})\.npz")
_PARTIAL = ".partial"


class CheckpointError(LightkerasError, RuntimeError):
    """A checkpoint that cannot be written or read; the message says which file, and what was expected."""


class _SharedFiles:
    """The calls that local and remote files share."""

    errors: tuple[type[Exception], ...] = (OSError,)
    staged_manifest = MANIFEST

    def open(self, path: str, mode: str) -> Any:
        return as_path(path).open(mode)

    def names(self, folder: str) -> list[str]:
        where = as_path(folder)
        return sorted(path.name for path in where.iterdir()) if where.is_dir() else []

    def exists(self, path: str) -> bool:
        return as_path(path).exists()

    def delete_file(self, path: str) -> None:
        as_path(path).unlink()


class LocalFiles(_SharedFiles):
    """Whole checkpoints by rename: an unfinished or unwanted folder is called `.partial`."""

    def sync(self, file: Any) -> None:
        file.flush()
        os.fsync(file.fileno())

    def stage(self, path: str) -> str:
        os.makedirs(path + _PARTIAL)
        return path + _PARTIAL

    def commit(self, stage: str, path: str) -> None:
        sync_folder(stage)
        if os.path.isdir(path):
            self._replace_files(stage, path)
        else:
            os.rename(stage, path)
        sync_folder(posixpath.dirname(path) or ".")

    def _replace_files(self, stage: str, path: str) -> None:
        """Moves the new shards beside the old ones, and then the new manifest over the old one."""
        for name in filter(SHARD_NAME.fullmatch, self.names(stage)):
            os.replace(posixpath.join(stage, name), posixpath.join(path, name))
        sync_folder(path)
        os.replace(posixpath.join(stage, MANIFEST), posixpath.join(path, MANIFEST))
        sync_folder(path)
        os.rmdir(stage)

    def abandon(self, stage: str) -> None:
        shutil.rmtree(stage, ignore_errors=True)  # What resists is swept at the next save.

    def delete_checkpoint(self, path: str) -> None:
        # Renamed first, so that a half-deleted folder is never taken for a checkpoint.
        os.rename(path, path + _PARTIAL)
        shutil.rmtree(path + _PARTIAL)

    def sweep(self, folder: str) -> None:
        """Deletes what killed writers left."""
        for name in self.names(folder):
            if name.endswith(_PARTIAL) and CHECKPOINT_NAME.fullmatch(name.removesuffix(_PARTIAL)):
                shutil.rmtree(posixpath.join(folder, name))

    def set_aside(self, path: str, target: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # another worker has done it
            os.rename(path, target)


class RemoteFiles(_SharedFiles):
    """Whole checkpoints by the manifest alone: shards go to their final place, and the manifest follows by rename."""

    staged_manifest = "partial-" + MANIFEST

    def __init__(self):
        import tensorflow as tf  # Slow to import, and needed for remote paths only.

        self.errors = (OSError, tf.errors.OpError)

    def sync(self, file: Any) -> None:
        """Nothing to do: closing the file uploads it, or raises."""

    def stage(self, path: str) -> str:
        as_path(path).mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # of a killed writer
            (as_path(path) / self.staged_manifest).unlink()
        return path

    def commit(self, stage: str, path: str) -> None:
        (as_path(stage) / self.staged_manifest).replace(as_path(path) / MANIFEST)

    def abandon(self, stage: str) -> None:
        """Leaves the new shards to the next save: the folder may hold an older checkpoint of this step."""

    def delete_checkpoint(self, path: str) -> None:
        (as_path(path) / MANIFEST).unlink()
        self._delete_folder(path)

    def _delete_folder(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # an object store has no empty folders
            RemotePath(path).delete_tree()

    def sweep(self, folder: str) -> None:
        """Deletes what killed writers left: checkpoint folders without a manifest."""
        for name in filter(CHECKPOINT_NAME.fullmatch, self.names(folder)):
            path = posixpath.join(folder, name)
            if not self.exists(posixpath.join(path, MANIFEST)):
                self._delete_folder(path)

    def set_aside(self, path: str, target: str) -> None:
        """Moves file by file, the manifest first: without it, the folder is no checkpoint."""
        as_path(target).mkdir(exist_ok=True)
        for name in sorted(self.names(path), key=MANIFEST.__ne__):
            with contextlib.suppress(FileNotFoundError):  # another worker has done it
                (as_path(path) / name).replace(as_path(target) / name)
        self._delete_folder(path)


Files = LocalFiles | RemoteFiles


def files_of(path: str) -> Files:
    """The file system that `path` lies on."""
    return RemoteFiles() if "://" in path else LocalFiles()


def sync_folder(path: str) -> None:
    """Puts the names in a local folder on the disk."""
    if os.name != "posix":  # Windows cannot open a folder.
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checkpoints(folder: str | os.PathLike) -> list[str]:
    """Paths of the checkpoints in `folder`, by rising step; none for a folder that does not exist.

    A folder counts once its manifest is there; whether its bytes are still right, loading tells.
    Raises CheckpointError where the folder cannot be listed.
    """
    folder = os.fspath(folder)
    files = files_of(folder)
    try:
        names = sorted(filter(CHECKPOINT_NAME.fullmatch, files.names(folder)), key=step_of)
        paths = [posixpath.join(folder, name) for name in names]
        return [path for path in paths if files.exists(posixpath.join(path, MANIFEST))]
    except files.errors as error:
        raise CheckpointError(f"Could not list {folder}: {error}") from error


def latest_checkpoint(folder: str | os.PathLike) -> str | None:
    """Path of the checkpoint of the highest step in `folder`, or None."""
    return next(reversed(checkpoints(folder)), None)


def name_of(path: str) -> str:
    """The last part of a checkpoint's path."""
    return posixpath.basename(os.fspath(path).rstrip("/"))


def step_of(path: str) -> int:
    """The step in a checkpoint's name."""
    return int(name_of(path).removeprefix("step_"))
