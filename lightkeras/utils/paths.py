"""Paths of a run's files: local ones are `pathlib.Path`, and those of TensorFlow's file systems look alike.

`gs://bucket/runs` is a `RemotePath`, with the part of `pathlib.Path` that a run needs. What works on the text of a
local path only (a picture library, say) gets a local folder by `as_local`.
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
    """The path to work with: a `RemotePath` where there is a scheme.

    Args:
        path: A path.
        name: What it is called in the error.

    Raises:
        ValueError: TensorFlow has no file system of that scheme.
    """
    text = os.fspath(path)
    if "://" not in text:
        return Path(text)
    known = sorted(filter(None, _gfile().get_registered_schemes()))
    expected = f"a local path, or one of TensorFlow's file systems {', '.join(f'{scheme}://' for scheme in known)}"
    require(text.split("://")[0] in known, name, f"{expected} (import tensorflow_io first for more)", text)
    return RemotePath(text)


def _gfile() -> Any:
    import tensorflow as tf  # Slow to import, and needed for remote paths only.

    return tf.io.gfile


@contextlib.contextmanager
def os_errors() -> Iterator[None]:
    """TensorFlow's errors of files as Python's own, as for a local path."""
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
    """A path of one of TensorFlow's file systems, under the names that `pathlib.Path` has.

    A file is read as it is opened and written as it is closed. On an object store, appending writes all of it again.

    Args:
        uri: With a scheme: `gs://bucket/folder`.
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

    # ---- what is there

    def exists(self) -> bool:
        with os_errors():
            return _gfile().exists(self._uri)

    def is_dir(self) -> bool:
        with os_errors():
            return _gfile().isdir(self._uri)

    def stat(self) -> SimpleNamespace:
        """`st_size` in bytes and `st_mtime_ns`."""
        with os_errors():
            found = _gfile().stat(self._uri)
        return SimpleNamespace(st_size=found.length, st_mtime_ns=found.mtime_nsec)

    def glob(self, pattern: str) -> list["RemotePath"]:
        """What lies in this folder itself under a matching name."""
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
        """Writes the file; one that is there is replaced when the new one is whole."""
        there = self.exists()
        target = self.parent / f"{self.name}.partial" if there else self
        if there and target.exists():
            target.unlink()  # of a killed process; TensorFlow's file system in memory would append to it
        target._put("wb", data)
        if there:
            target.replace(self)

    def _put(self, mode: str, data: bytes) -> None:
        with os_errors(), _gfile().GFile(self._uri, mode) as file:
            file.write(data)

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def write_text(self, text: str, encoding: str = "utf-8") -> None:
        self.write_bytes(text.encode(encoding))

    def open(self, mode: str = "r", newline: str | None = None, encoding: str = "utf-8") -> io.TextIOWrapper:
        """The file as text: to read ("r"), write ("w") or append to ("a")."""
        file = io.BytesIO(self.read_bytes()) if mode == "r" else _Written(self, mode)
        return io.TextIOWrapper(file, encoding=encoding, newline=newline)

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Makes the folder, and always those above it; not atomic where the file system is not."""
        if self.exists() and not exist_ok:
            raise FileExistsError(f"{self} exists")
        with os_errors():
            _gfile().makedirs(self._uri)

    def replace(self, target: "RemotePath") -> None:
        with os_errors():
            _gfile().rename(self._uri, os.fspath(target), overwrite=True)

    def unlink(self) -> None:
        with os_errors():
            _gfile().remove(self._uri)


class _Written(io.BytesIO):
    """Bytes that are in a remote file once they are closed."""

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
    """Copies all that lies in the folder `source` into `target`, wherever the two lie."""
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.is_dir():
            copy_files(path, target / path.name)
        else:
            (target / path.name).write_bytes(path.read_bytes())


@contextlib.contextmanager
def as_local(folder: Path | RemotePath) -> Iterator[Path]:
    """The folder, made if missing; for a remote one a local copy of it, whose new and changed files are copied back."""
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
