"""The checkpoint file layer: arrays and JSON in, one whole checkpoint folder out.

It knows nothing of tasks or the trainer. A checkpoint is a folder::

    folder/step_000000120/
        arrays-00000.npz    arrays under index names, about 1 GiB a file; a larger array has its own file
        manifest.json       step, state, every shard's size, checksum and arrays; its own checksum

The manifest decides: a folder without one is no checkpoint. It is written last, into a temporary folder
beside the checkpoint that is renamed when all of it is on the disk. Remote paths (`gs://`, `s3://`) have no
atomic rename of folders, so there the shards go to their final place and the manifest follows. A checkpoint
of a step that is there already is replaced by putting the new shards beside the old ones, under numbers not
yet taken, and then the new manifest over the old one: at every moment one of the two is whole.

Nothing is ever unpickled. One writer per folder: a second one would take the first one's temporary folder
for the left-over of a killed writer.
"""

import contextlib
import functools
import hashlib
import io
import itertools
import json
import os
import posixpath
import re
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from lightkeras.checks import check, check_int

FORMAT = 1
SHARD_BYTES = 2**30
_MANIFEST = "manifest.json"
_PARTIAL = ".partial"
_CHECKPOINT_NAME = re.compile(r"step_(\d{9,})")
_SHARD_NAME = re.compile(r"arrays-(\d{5,})\.npz")


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written or read; the message says which file, and what was expected."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """One loaded checkpoint: where it was, the step it was taken at, its arrays by name, its JSON state."""

    path: str
    step: int
    arrays: dict[str, np.ndarray]
    state: dict[str, Any]


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
    check_int("step", step, minimum=0)
    check_int("keep", keep, optional=True)
    check(not isinstance(protect, str), "protect", "several paths, not one str", protect)
    content = (_checked_arrays(arrays), _checked_state(state))
    folder = os.fspath(folder)
    path = posixpath.join(folder, f"step_{step:09d}")
    return path, functools.partial(_save, folder, path, int(step), *content, keep, [path, *protect])


def _save(folder: str, path: str, step: int, arrays: dict, state: dict, keep: int | None, protected: list[str]) -> str:
    files = _files(folder)
    size = sum(array.nbytes for array in arrays.values())
    with _explained(files, folder, f"Could not write checkpoint {path} ({size:,} bytes of arrays)"):
        files.sweep(folder)
        shards = _write(files, path, step, arrays, state)
    with _explained(files, folder, f"Wrote checkpoint {path}, but could not delete older files"):
        _delete_unlisted_shards(files, path, shards)
        _delete_old(files, folder, keep, protected)
    return path


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
        return _read_manifest(path)["state"]


def checkpoints(folder: str | os.PathLike) -> list[str]:
    """Paths of the checkpoints in `folder`, by rising step; none for a folder that does not exist.

    A folder counts once its manifest is there; whether its bytes are still right, loading tells.
    Raises CheckpointError where the folder cannot be listed.
    """
    folder = os.fspath(folder)
    files = _files(folder)
    try:
        names = sorted(filter(_CHECKPOINT_NAME.fullmatch, files.names(folder)), key=_step_of)
        paths = [posixpath.join(folder, name) for name in names]
        return [path for path in paths if files.exists(posixpath.join(path, _MANIFEST))]
    except files.errors as error:
        raise CheckpointError(f"Could not list {folder}: {error}") from error


def latest_checkpoint(folder: str | os.PathLike) -> str | None:
    """Path of the checkpoint of the highest step in `folder`, or None."""
    return next(reversed(checkpoints(folder)), None)


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
    for candidate in reversed([p for p in checkpoints(folder) if _step_of(p) <= _step_of(path)]):
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
    names = (f"{path}.damaged" + (f"-{number}" if number > 1 else "") for number in itertools.count(1))
    with contextlib.suppress(FileNotFoundError):  # another worker has done it
        os.rename(path, next(name for name in names if not os.path.exists(name)))


# ---------------------------------------------------------------------------------------------- arguments


def _checked_arrays(arrays: Any) -> dict[str, np.ndarray]:
    check(isinstance(arrays, dict), "arrays", "a dict of NumPy arrays", arrays)
    for name, array in arrays.items():
        check(isinstance(name, str), "arrays", "a dict with str keys", name)
        where = f"arrays[{name!r}]"
        check(isinstance(array, np.ndarray | np.generic), where, "a NumPy array", type(array))
        holdable = array.dtype.kind in "biufcSUmM" or _is_extension(array.dtype)
        check(holdable, where, "an array of numbers, booleans, strings or dates", array.dtype)
    return {name: np.asarray(array) for name, array in arrays.items()}


def _checked_state(state: Any) -> dict[str, Any]:
    check(isinstance(state, dict), "state", "a dict", state)
    return _to_json(state, "state")


def _to_json(value: Any, where: str) -> Any:
    """`value` in Python's own types, or a ValueError that names the place: state['history'][3]."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dict):
        for key in value:
            check(isinstance(key, str), where, "a dict with str keys", key)
        return {key: _to_json(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(item, f"{where}[{index}]") for index, item in enumerate(value)]
    plain = value is None or isinstance(value, bool | int | float | str)
    check(plain, where, "a JSON value (None, bool, int, float, str, list, dict)", value)
    return value


# ------------------------------------------------------------------------------------------------- writing


def _write(files: "_Files", path: str, step: int, arrays: dict[str, np.ndarray], state: dict) -> list[dict]:
    """Writes the checkpoint and puts it in its place; returns its shards' manifest entries."""
    stage = files.stage(path)
    try:
        first = _first_free_number(files.names(path))
        shards = [
            _write_shard(files, stage, f"arrays-{number:05d}.npz", shard)
            for number, shard in enumerate(_cut_into_shards(arrays), start=first)
        ]
        manifest = {"format": FORMAT, "step": step, "state": state, "shards": shards}
        text = json.dumps(manifest | {"sha256": _manifest_checksum(manifest)})
        _write_file(files, posixpath.join(stage, files.staged_manifest), lambda file: file.write(text.encode()))
        files.commit(stage, path)
    except BaseException:
        files.abandon(stage)
        raise
    return shards


def _first_free_number(names: list[str]) -> int:
    taken = [int(match[1]) for match in map(_SHARD_NAME.fullmatch, names) if match]
    return max(taken, default=-1) + 1


def _cut_into_shards(arrays: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Cuts `arrays`, in their order, into groups of at most SHARD_BYTES; a larger array is alone."""
    shards, room = [], -1
    for name, array in arrays.items():
        if array.nbytes > room:
            shards.append({})
            room = SHARD_BYTES
        shards[-1][name] = array
        room -= array.nbytes
    return shards


def _write_shard(files: "_Files", folder: str, shard_name: str, arrays: dict[str, np.ndarray]) -> dict:
    size, checksum = _write_file(
        files, posixpath.join(folder, shard_name), lambda file: _write_npz(file, arrays.values())
    )
    listed = [
        {"name": name, "dtype": _dtype_name(array.dtype), "shape": list(array.shape)} for name, array in arrays.items()
    ]
    return {"name": shard_name, "bytes": size, "sha256": checksum, "arrays": listed}


def _write_npz(file: "_HashingFile", arrays: Iterable[np.ndarray]) -> None:
    """`np.savez` for a file that cannot seek, under index names: real names may be anything."""
    with zipfile.ZipFile(file, "w") as archive:
        for index, array in enumerate(arrays):
            if _is_extension(array.dtype):
                array = array.view(f"V{array.dtype.itemsize}")
            with archive.open(f"{index:05d}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


class _HashingFile:
    """Counts and hashes what is written through it: the checksum is of what was meant, not of a re-read."""

    def __init__(self, file: Any):
        self.file, self.size, self.sha256 = file, 0, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.file.write(data)
        self.sha256.update(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Left to `sync`, once: on an object store every flush would upload the file from its start."""


def _write_file(files: "_Files", path: str, write: Callable[[_HashingFile], Any]) -> tuple[int, str]:
    """Writes one file through to the disk; returns its bytes and SHA-256."""
    with files.open(path, "wb") as file:
        hashing = _HashingFile(file)
        write(hashing)
        files.sync(file)
    return hashing.size, hashing.sha256.hexdigest()


def _delete_unlisted_shards(files: "_Files", path: str, shards: list[dict]) -> None:
    listed = {shard["name"] for shard in shards}
    for name in filter(_SHARD_NAME.fullmatch, files.names(path)):
        if name not in listed:
            files.delete_file(posixpath.join(path, name))


def _delete_old(files: "_Files", folder: str, keep: int | None, protected: list[str]) -> None:
    stays = {_name_of(path) for path in protected}
    for path in checkpoints(folder)[:-keep] if keep else []:
        if _name_of(path) not in stays:
            files.delete_checkpoint(path)


@contextlib.contextmanager
def _explained(files: "_Files", folder: str, what: str) -> Iterator[None]:
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


# ------------------------------------------------------------------------------------------------- reading


def _load(path: str) -> Checkpoint:
    manifest = _read_manifest(path)
    arrays = {}
    for shard in manifest["shards"]:
        arrays |= _read_arrays(path, shard)
    return Checkpoint(path, manifest["step"], arrays, manifest["state"])


def _read_manifest(path: str) -> dict[str, Any]:
    file = posixpath.join(path, _MANIFEST)
    data = _read_file(file, "a checkpoint's manifest")
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"Expected {file} to be whole JSON. Received: {len(data)} bytes, {error}") from error
    version = manifest.get("format") if isinstance(manifest, dict) else None
    if version != FORMAT:
        raise CheckpointError(f"Expected {file} to be of checkpoint format {FORMAT}. Received: {version!r}")
    _expect(file, "SHA-256", manifest.pop("sha256", None), _manifest_checksum(manifest))
    return manifest


def _manifest_checksum(manifest: dict[str, Any]) -> str:
    """SHA-256 of the manifest without its checksum; JSON written, read and written again is the same."""
    return hashlib.sha256(json.dumps(manifest).encode()).hexdigest()


def _read_shard(path: str, shard: dict[str, Any]) -> bytes:
    """A shard's bytes, size and checksum verified: read once, at the cost of a shard of memory."""
    file = posixpath.join(path, shard["name"])
    data = _read_file(file, f"{shard['bytes']:,} bytes of arrays")
    _expect(file, "size in bytes", shard["bytes"], len(data))
    _expect(file, "SHA-256", shard["sha256"], hashlib.sha256(data).hexdigest())
    return data


def _read_arrays(path: str, shard: dict[str, Any]) -> dict[str, np.ndarray]:
    file, arrays = posixpath.join(path, shard["name"]), {}
    try:
        with np.load(io.BytesIO(_read_shard(path, shard)), allow_pickle=False) as archive:
            for index, listed in enumerate(shard["arrays"]):
                arrays[listed["name"]] = _restored(archive[f"{index:05d}"], listed["dtype"])
    except (ValueError, LookupError, TypeError, zipfile.BadZipFile) as error:
        # The checksum was right, so this file was never written by `save_checkpoint`.
        raise CheckpointError(f"Expected {file} to hold plain arrays. Received: {error}") from error
    for listed in shard["arrays"]:
        array, where = arrays[listed["name"]], f"{file}, array {listed['name']!r}"
        _expect(where, "dtype", listed["dtype"], _dtype_name(array.dtype))
        _expect(where, "shape", listed["shape"], list(array.shape))
    return arrays


def _read_file(file: str, content: str) -> bytes:
    files = _files(file)
    try:
        with files.open(file, "rb") as opened:
            return opened.read()
    except files.errors as error:
        raise CheckpointError(f"Expected {file} to hold {content}. Received: {error}") from error


def _expect(where: str, what: str, expected: Any, received: Any) -> None:
    if expected != received:
        raise CheckpointError(f"Expected {where} to have {what} {expected}. Received: {received}")


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
    if not _CHECKPOINT_NAME.fullmatch(_name_of(path)):
        return None
    beside = checkpoints(posixpath.dirname(path.rstrip("/")) or ".")
    return next((p for p in reversed(beside) if _step_of(p) < _step_of(path) and _is_whole(p)), None)


def _verify(path: str) -> None:
    """Reads every byte; raises CheckpointError where one is not what was written."""
    for shard in _read_manifest(path)["shards"]:
        _read_shard(path, shard)


def _is_whole(path: str) -> bool:
    try:
        _verify(path)
    except CheckpointError:
        return False
    return True


# ------------------------------------------------------------------------------------------ names and dtypes


def _name_of(path: str) -> str:
    return posixpath.basename(os.fspath(path).rstrip("/"))


def _step_of(path: str) -> int:
    return int(_CHECKPOINT_NAME.fullmatch(_name_of(path))[1])


def _is_extension(dtype: np.dtype) -> bool:
    """Whether `dtype` is one of ml_dtypes' (bfloat16, float8, int4): .npy files know them only as bytes."""
    return dtype.isbuiltin == 2 and hasattr(ml_dtypes, dtype.name)


def _dtype_name(dtype: np.dtype) -> str:
    return dtype.name if _is_extension(dtype) else dtype.str


def _restored(array: np.ndarray, dtype_name: str) -> np.ndarray:
    extension = getattr(ml_dtypes, dtype_name, None)
    return array if extension is None else array.view(np.dtype(extension))


# --------------------------------------------------------------------------------------------------- files


class _LocalFiles:
    """Whole checkpoints by rename: what is not ready, or no longer wanted, is called `.partial`."""

    errors: tuple[type[Exception], ...] = (OSError,)
    staged_manifest = _MANIFEST

    def open(self, path: str, mode: str) -> Any:
        return open(path, mode)

    def names(self, folder: str) -> list[str]:
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

    def exists(self, path: str) -> bool:
        return os.path.isfile(path)

    def delete_file(self, path: str) -> None:
        os.remove(path)

    def sync(self, file: Any) -> None:
        file.flush()
        os.fsync(file.fileno())

    def stage(self, path: str) -> str:
        os.makedirs(path + _PARTIAL)
        return path + _PARTIAL

    def commit(self, stage: str, path: str) -> None:
        _sync_folder(stage)
        if os.path.isdir(path):
            self._replace_files(stage, path)
        else:
            os.rename(stage, path)
        _sync_folder(posixpath.dirname(path) or ".")

    def _replace_files(self, stage: str, path: str) -> None:
        """Moves the new shards beside the old ones, and then the new manifest over the old one."""
        for name in filter(_SHARD_NAME.fullmatch, self.names(stage)):
            os.replace(posixpath.join(stage, name), posixpath.join(path, name))
        _sync_folder(path)
        os.replace(posixpath.join(stage, _MANIFEST), posixpath.join(path, _MANIFEST))
        _sync_folder(path)
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
            if name.endswith(_PARTIAL) and _CHECKPOINT_NAME.fullmatch(name.removesuffix(_PARTIAL)):
                shutil.rmtree(posixpath.join(folder, name))


class _RemoteFiles:
    """Whole checkpoints by the manifest alone: shards go to their final place, then it follows by rename."""

    staged_manifest = "partial-" + _MANIFEST

    def __init__(self):
        import tensorflow as tf  # Slow to import, and needed for remote paths only.

        self.gfile = tf.io.gfile
        self.errors = (OSError, tf.errors.OpError)

    def open(self, path: str, mode: str) -> Any:
        return self.gfile.GFile(path, mode)

    def names(self, folder: str) -> list[str]:
        if not self.gfile.isdir(folder):
            return []
        return sorted(name.rstrip("/") for name in self.gfile.listdir(folder))

    def exists(self, path: str) -> bool:
        return self.gfile.exists(path)

    def delete_file(self, path: str) -> None:
        self.gfile.remove(path)

    def sync(self, file: Any) -> None:
        """Nothing to do: closing the file uploads it, or raises."""

    def stage(self, path: str) -> str:
        self.gfile.makedirs(path)
        return path

    def commit(self, stage: str, path: str) -> None:
        staged = posixpath.join(stage, self.staged_manifest)
        self.gfile.rename(staged, posixpath.join(path, _MANIFEST), overwrite=True)

    def abandon(self, stage: str) -> None:
        """Leaves the new shards to the next save: the folder may hold an older checkpoint of this step."""

    def delete_checkpoint(self, path: str) -> None:
        self.gfile.remove(posixpath.join(path, _MANIFEST))
        self.gfile.rmtree(path)

    def sweep(self, folder: str) -> None:
        """Deletes what killed writers left: checkpoint folders without a manifest."""
        for name in filter(_CHECKPOINT_NAME.fullmatch, self.names(folder)):
            path = posixpath.join(folder, name)
            if not self.exists(posixpath.join(path, _MANIFEST)):
                self.gfile.rmtree(path)


_Files = _LocalFiles | _RemoteFiles


def _files(path: str) -> _Files:
    return _RemoteFiles() if "://" in path else _LocalFiles()


def _sync_folder(path: str) -> None:
    if os.name != "posix":  # Windows cannot open a folder.
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
