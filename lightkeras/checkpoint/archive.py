"""Shards: files of arrays, checksummed as they are written and as they are read. Nothing is ever unpickled."""

import hashlib
import io
import posixpath
import zipfile
from collections.abc import Callable, Iterable
from typing import Any

import ml_dtypes
import numpy as np

from lightkeras.checkpoint.storage import CheckpointError, Files, files_of
from lightkeras.utils.checks import require
from lightkeras.utils.npz import read_array

SHARD_BYTES = 2**30


def checked_arrays(arrays: Any) -> dict[str, np.ndarray]:
    """Returns `arrays` as arrays; a ValueError names an array that a shard cannot hold."""
    require(isinstance(arrays, dict), "arrays", "a dict of NumPy arrays", arrays)
    for name, array in arrays.items():
        require(isinstance(name, str), "arrays", "a dict with str keys", name)
        where = f"arrays[{name!r}]"
        require(isinstance(array, np.ndarray | np.generic), where, "a NumPy array", type(array))
        holdable = array.dtype.kind in "biufcSUmM" or _is_extension(array.dtype)
        require(holdable, where, "an array of numbers, booleans, strings or dates", array.dtype)
    return {name: np.asarray(array) for name, array in arrays.items()}


def cut_into_shards(arrays: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Cuts `arrays`, in their order, into groups of at most SHARD_BYTES; a larger array is alone."""
    shards, room = [], -1
    for name, array in arrays.items():
        if array.nbytes > room:
            shards.append({})
            room = SHARD_BYTES
        shards[-1][name] = array
        room -= array.nbytes
    return shards


def write_shard(files: Files, folder: str, shard_name: str, arrays: dict[str, np.ndarray]) -> dict:
    """Writes a shard; returns its entry of the manifest."""
    size, checksum = write_file(
        files, posixpath.join(folder, shard_name), lambda file: _write_npz(file, arrays.values())
    )
    listed = [
        {"name": name, "dtype": _dtype_name(array.dtype), "shape": list(array.shape)} for name, array in arrays.items()
    ]
    return {"name": shard_name, "bytes": size, "sha256": checksum, "arrays": listed}


def _write_npz(file: Any, arrays: Iterable[np.ndarray]) -> None:
    """`np.savez` for a file that cannot seek, under index names: real names may be anything."""
    with zipfile.ZipFile(file, "w") as archive:
        for index, array in enumerate(arrays):
            if _is_extension(array.dtype):
                array = array.view(f"V{array.dtype.itemsize}")
            with archive.open(f"{index:05d}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


class HashingFile:
    """Counts and hashes what is written through it: the checksum covers the bytes written, not a re-read."""

    def __init__(self, file: Any):
        self.file, self.size, self.sha256 = file, 0, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.file.write(data)
        self.sha256.update(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Left to `sync`, once: on an object store every flush would upload the file from its start."""


def write_file(files: Files, path: str, write: Callable[[HashingFile], Any]) -> tuple[int, str]:
    """Writes one file through to the disk; returns its bytes and SHA-256."""
    with files.open(path, "wb") as file:
        hashing = HashingFile(file)
        write(hashing)
        files.sync(file)
    return hashing.size, hashing.sha256.hexdigest()


def read_shard(path: str, shard: dict[str, Any]) -> bytes:
    """A shard's bytes, size and checksum verified: read once, at the cost of a shard of memory."""
    file = posixpath.join(path, shard["name"])
    data = read_file(file, f"{shard['bytes']:,} bytes of arrays")
    expect(file, "size in bytes", shard["bytes"], len(data))
    expect(file, "SHA-256", shard["sha256"], hashlib.sha256(data).hexdigest())
    return data


def read_arrays(path: str, shard: dict[str, Any]) -> dict[str, np.ndarray]:
    """Returns the arrays of a shard, checked against its manifest entry."""
    file, arrays = posixpath.join(path, shard["name"]), {}
    try:
        with zipfile.ZipFile(io.BytesIO(read_shard(path, shard))) as archive:
            for index, listed in enumerate(shard["arrays"]):
                arrays[listed["name"]] = _restored(_read_member(archive, f"{index:05d}.npy"), listed["dtype"])
    except (ValueError, LookupError, TypeError, NotImplementedError, zipfile.BadZipFile) as error:
        # The checksum was right, so this file was never written by `save_checkpoint`.
        raise CheckpointError(f"Expected {file} to hold plain arrays. Received: {error}") from error
    for listed in shard["arrays"]:
        array, where = arrays[listed["name"]], f"{file}, array {listed['name']!r}"
        expect(where, "dtype", listed["dtype"], _dtype_name(array.dtype))
        expect(where, "shape", listed["shape"], list(array.shape))
    return arrays


def _read_member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Reads an array that is stored as it is: a compressed one could need more memory than the file has bytes."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise ValueError(f"a compressed array {name}")
    with archive.open(info) as member:
        return read_array(member, info.file_size)


def read_file(file: str, content: str) -> bytes:
    """A file's bytes, or a CheckpointError that says what `content` was expected."""
    files = files_of(file)
    try:
        with files.open(file, "rb") as opened:
            return opened.read()
    except files.errors as error:
        raise CheckpointError(f"Expected {file} to hold {content}. Received: {error}") from error


def expect(where: str, what: str, expected: Any, received: Any) -> None:
    """Raises a CheckpointError where the two differ."""
    if expected != received:
        raise CheckpointError(f"Expected {where} to have {what} {expected}. Received: {received}")


def _is_extension(dtype: np.dtype) -> bool:
    """Whether `dtype` is one of ml_dtypes' (bfloat16, float8, int4): .npy files know them only as bytes."""
    return dtype.isbuiltin == 2 and hasattr(ml_dtypes, dtype.name)


def _dtype_name(dtype: np.dtype) -> str:
    return dtype.name if _is_extension(dtype) else dtype.str


def _restored(array: np.ndarray, dtype_name: str) -> np.ndarray:
    extension = getattr(ml_dtypes, dtype_name, None)
    return array if extension is None else array.view(np.dtype(extension))
