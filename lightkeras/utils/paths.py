"""Paths of a run's files: a `pathlib.Path`, or a `RemotePath` with its methods for TensorFlow's file systems.

`gs://bucket/runs` is a `RemotePath`. Libraries that can only write to a local path get a local folder from `as_local`.
"""

import contextlib
import fnmatch
import io
import os
import posixpath
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lightkeras.utils.checks import require


def as_path(path: "str | os.PathLike", name: str = "path") -> "Path | RemotePath":
    """Converts to a `Path` with the home folder in place of `~`, or to a `RemotePath` if there is a scheme.

    Args:
        path: A path.
        name: The argument's name, for the error.

    Raises:
        ValueError: TensorFlow has no file system for the scheme.
    """
    text = os.fspath(path)
    if "://" not in text:
        return local_path(text)
    known = sorted(filter(None, _gfile().get_registered_schemes()))
    expected = f"a local path, or one of TensorFlow's file systems {', '.join(f'{scheme}://' for scheme in known)}"
    require(text.split("://")[0] in known, name, f"{expected} (import tensorflow_io first for more)", text)
    return RemotePath(text)


def local_path(path: "str | os.PathLike") -> Path:
    """Converts to a `Path`, with the home folder in place of `~`."""
    return Path(os.path.expanduser(path))  # unlike `Path.expanduser`, it keeps a name such as `~notes.txt`


def cache_folder(cache: "str | os.PathLike | None" = None) -> Path:
    """Returns the folder of all data sets: `cache`, or `$KERAS_HOME/datasets`, by default `~/.keras/datasets`."""
    return local_path(os.environ.get("KERAS_HOME") or "~/.keras") / "datasets" if cache is None else local_path(cache)


def _gfile() -> Any:
    import tensorflow as tf  # Slow to import, and needed for remote paths only.

    return tf.io.gfile


@contextlib.contextmanager
def os_errors() -> Iterator[None]:
    """Converts TensorFlow's file errors to Python's own."""
    import tensorflow as tf

    kinds = {
        tf.errors.NotFoundError: FileNotFoundError,
        tf.errors.AlreadyExistsError: FileExistsError,
        tf.errors.PermissionDeniedError: PermissionError,
    }
    try:
        yield
    except tf.errors.OpError as error:
        raise kinds.get(type(error), OSError)(error.message) from error


class RemotePath(os.PathLike):
    """A path of one of TensorFlow's file systems, with methods named as those of `pathlib.Path`.

    A text file is read when it is opened and written when it is closed. On an object store, appending writes the whole
    file again.

    Args:
        uri: A path with a scheme: `gs://bucket/folder`.
    """

    def __init__(self, uri: str):
        scheme, rest = uri.split("://", 1)
        self._uri = f"{scheme}://{posixpath.normpath(rest) if rest else ''}"

    def __fspath__(self) -> str:
        return self._uri

    __str__ = __fspath__

    def __repr__(self) -> str:
        return f"RemotePath({self._uri!r})"

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, RemotePath) and other._uri == self._uri

    def __lt__(self, other: "RemotePath") -> bool:
        return self._uri < other._uri

    def __hash__(self) -> int:
        return hash(self._uri)

    def __truediv__(self, part: str) -> "RemotePath":
        return RemotePath(posixpath.join(self._uri, part))

    @property
    def name(self) -> str:
        return posixpath.basename(self._uri)

    @property
    def parent(self) -> "RemotePath":
        return RemotePath(posixpath.dirname(self._uri))

    # ---- looking

    def exists(self) -> bool:
        with os_errors():
            return _gfile().exists(self._uri)

    def is_dir(self) -> bool:
        with os_errors():
            return _gfile().isdir(self._uri)

    def stat(self) -> SimpleNamespace:
        """Returns `st_size` (in bytes) and `st_mtime_ns`."""
        with os_errors():
            found = _gfile().stat(self._uri)
        return SimpleNamespace(st_size=found.length, st_mtime_ns=found.mtime_nsec)

    def glob(self, pattern: str) -> list["RemotePath"]:
        """Lists the files and folders in this folder whose names match; subfolders are not searched."""
        with os_errors():
            names = [name.rstrip("/") for name in _gfile().listdir(self._uri)] if self.is_dir() else []
        return [self / name for name in sorted(fnmatch.filter(names, pattern))]

    def iterdir(self) -> list["RemotePath"]:
        return self.glob("*")

    # ---- reading and writing

    def read_bytes(self) -> bytes:
        with os_errors(), _gfile().GFile(self._uri, "rb") as file:
            return file.read()

    def write_bytes(self, data: bytes) -> None:
        """Writes the file; an existing one is replaced after the new one is complete."""
        if not self.exists():
            self._put("wb", data)
            return
        partial = self.parent / f"{self.name}.partial"
        if partial.exists():
            partial.unlink()  # of a killed process; TensorFlow's file system in memory would append to it
        partial._put("wb", data)
        partial.replace(self)

    def _put(self, mode: str, data: bytes) -> None:
        with os_errors(), _gfile().GFile(self._uri, mode) as file:
            file.write(data)

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def write_text(self, text: str, encoding: str = "utf-8") -> None:
        self.write_bytes(text.encode(encoding))

    def open(self, mode: str = "r", newline: str | None = None, encoding: str = "utf-8") -> Any:
        """Opens the file as text ("r", "w" or "a"), or as bytes ("rb" or "wb") with TensorFlow's own errors."""
        if "b" in mode:
            return _gfile().GFile(self._uri, mode)
        file = io.BytesIO(self.read_bytes()) if mode == "r" else _Written(self, mode)
        return io.TextIOWrapper(file, encoding=encoding, newline=newline)

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Creates the folder, always with its parents; atomic only if the file system is."""
        if self.exists() and not exist_ok:
            raise FileExistsError(f"{self} exists")
        with os_errors():
            _gfile().makedirs(self._uri)

    def replace(self, target: os.PathLike) -> None:
        with os_errors():
            _gfile().rename(self._uri, os.fspath(target), overwrite=True)

    def unlink(self) -> None:
        with os_errors():
            _gfile().remove(self._uri)

    def delete_tree(self) -> None:
        """Deletes the folder and everything in it."""
        with os_errors():
            _gfile().rmtree(self._uri)


class _Written(io.BytesIO):
    """Bytes that are written to a remote file when they are closed."""

    def __init__(self, path: RemotePath, mode: str):
        super().__init__()
        self._path, self._mode = path, mode

    def close(self) -> None:
        if self.closed:
            return
        data = self.getvalue()
        super().close()
        if self._mode == "a":
            self._path._put("ab", data)
        else:
            self._path.write_bytes(data)


Folder = Path | RemotePath


def truncate(path: Path | RemotePath, size: int) -> None:
    """Cuts a file to its first `size` bytes."""
    if isinstance(path, Path):
        os.truncate(path, size)
    elif path.stat().st_size != size:
        path.write_bytes(path.read_bytes()[:size])


def copy_files(source: Path | RemotePath, target: Path | RemotePath) -> None:
    """Copies everything in the folder `source` into `target`; each may be local or remote."""
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.is_dir():
            copy_files(path, target / path.name)
        else:
            (target / path.name).write_bytes(path.read_bytes())


@contextlib.contextmanager
def as_local(folder: Path | RemotePath) -> Iterator[Path]:
    """Gives the folder, created if missing, or a local copy of a remote one; new and changed files are copied back."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(folder, Path):
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        local, changed = Path(temporary) / "local", Path(temporary) / "changed"
        copy_files(folder, local)
        before = _contents(local)
        yield local
        for name, content in _contents(local).items():
            if content != before.get(name):
                (changed / name).parent.mkdir(parents=True, exist_ok=True)
                (changed / name).write_bytes(content)
        if changed.exists():
            copy_files(changed, folder)


def _contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
