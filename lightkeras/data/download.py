"""Official data files: found in a folder of the user or in the cache, else downloaded and verified.

Nothing here imports TensorFlow. A file is written under another name, verified, and only then renamed, so a
partial file is never taken for a whole one. A lock lets one process at a time download or extract a file.
"""

import contextlib
import dataclasses
import functools
import hashlib
import http.client
import os
import pathlib
import shutil
import stat
import sys
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from typing import IO

from rich import progress

from lightkeras.utils.checks import LightkerasError, require, require_int
from lightkeras.utils.files import locked
from lightkeras.utils.paths import cache_folder, local_path

_TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 1 << 18  # bytes
_HEX_DIGITS = {"md5": 32, "sha256": 64}


class DownloadError(LightkerasError, RuntimeError):
    """The download of a data file failed, or the file is not the expected one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Download:
    """One official data file, or one file or folder of an official zip archive.

    Args:
        url: Address of the file.
        size: Bytes of the file at `url`.
        folder: Folder of the data set: `mnist`.
        name: The file (or folder) in `folder` that `fetch` returns: `mnist.npz`, `annotations/captions.json`.
        checksum: Checksum of the file at `url`, `"sha256:..."` or `"md5:..."` in hexadecimal. None only for an archive
            with a `member_checksum`.
        member: The file or folder in the zip archive at `url` that becomes `name`; nothing else is extracted. `"."` is
            the whole archive. None: `url` is no archive.
        member_checksum: Checksum of the member, if that is a file.

    Raises:
        ValueError: A size or checksum is invalid, or there is no checksum at all.
    """

    url: str
    size: int
    folder: str
    name: str
    checksum: str | None = None
    member: str | None = None
    member_checksum: str | None = None

    def __post_init__(self) -> None:
        require_int("size", self.size)
        _check_checksum("checksum", self.checksum)
        _check_checksum("member_checksum", self.member_checksum)
        has_member = self.member is not None
        require(has_member or not self.member_checksum, "member", "given with `member_checksum`", self.member)
        has_checksum = bool(self.checksum or self.member_checksum)
        require(has_checksum, "checksum", 'given, such as "sha256:..." (or `member_checksum`)', self.checksum)


def _check_checksum(name: str, checksum: str | None) -> None:
    if checksum is not None:
        algorithm, _, digits = checksum.partition(":")
        valid = len(digits) == _HEX_DIGITS.get(algorithm) and set(digits) <= set("0123456789abcdef")
        require(valid, name, '"sha256:" or "md5:" and the digits in lower-case hexadecimal', checksum)


def find_data(source: str | os.PathLike, download: Download) -> pathlib.Path:
    """Finds the data that `source` names: `fetch(download)` for `"download"`, else the user's file or folder.

    A task handles `"sample"` before it calls this. Write `"./download"` for a file with the name `download`.

    Raises:
        ValueError: `source` is neither `"download"` nor an existing file or folder.
        DownloadError: See `fetch`.
    """
    if source == "download":
        return fetch(download)
    path = local_path(source)
    require(path.exists(), "source", '"download", "sample", or an existing file or folder', source)
    return path


def fetch(download: Download, cache: str | os.PathLike | None = None) -> pathlib.Path:
    """Returns the path of a data file: in `$LIGHTKERAS_DATA`, in the cache, or downloaded into the cache.

    A file `$LIGHTKERAS_DATA/<folder>/<name>` belongs to the user and is not checked. In the cache, a downloaded file
    must have the official size; the checksum was verified when it was written. An archive is kept for other members;
    it can be deleted after extraction.

    Args:
        download: Description of the file.
        cache: Folder of all data sets. None: `~/.keras/datasets`, or `$KERAS_HOME/datasets` where that is set.

    Raises:
        DownloadError: The network or the server fails, or the connection is cut (the next call resumes there); a
            checksum or size is wrong; an archive is damaged, lacks the member, or has paths outside its folder.
        ValueError: `LIGHTKERAS_DATA` is set, but not to a folder.
    """
    own = _own_file(download)
    if own is not None:
        return own
    folder = cache_folder(cache) / download.folder
    target = folder / download.name
    fetched = target if download.member is None else folder / _basename(download.url)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = fetched.with_name(f".{fetched.name}.lock")
        with locked(lock, message=f"Waiting for another process that downloads into {lock.parent}"):
            if not fetched.exists():
                _download(download, fetched)
            if not target.exists():
                _check_size(download, fetched)
                _extract(download, fetched, target)
    if download.member is None:
        _check_size(download, target)
    return target


def _own_file(download: Download) -> pathlib.Path | None:
    """The user's file or folder in `$LIGHTKERAS_DATA`, or None."""
    root = os.environ.get("LIGHTKERAS_DATA")
    if not root:
        return None
    folder = local_path(root)
    require(folder.is_dir(), "LIGHTKERAS_DATA", "an existing folder", root)
    path = folder / download.folder / download.name
    return path if path.exists() else None


def _basename(url: str) -> str:
    return pathlib.PurePosixPath(urllib.parse.urlparse(url).path).name


def _check_size(download: Download, file: pathlib.Path) -> None:
    size = file.stat().st_size
    if size != download.size:
        raise DownloadError(
            f"Expected {file} to have {download.size} bytes. Received: {size} bytes. "
            f"Delete this file to download it again from {download.url}"
        )


def _check_digest(checksum: str, file: pathlib.Path, what: str, remedy: str) -> None:
    algorithm = checksum.partition(":")[0]
    with open(file, "rb") as data:
        digest = hashlib.file_digest(data, lambda: hashlib.new(algorithm, usedforsecurity=False))
    received = f"{algorithm}:{digest.hexdigest()}"
    if received != checksum:
        raise DownloadError(f"Expected {what} to have the checksum {checksum}. Received: {received}, {remedy}")


# Downloading


def _download(download: Download, file: pathlib.Path) -> None:
    """Downloads to `NAME.partial`, resuming an earlier call that was cut, verifies and renames it."""
    partial = file.with_name(file.name + ".partial")
    have = partial.stat().st_size if partial.exists() else 0
    if have != download.size:
        have = have if have < download.size else 0  # too long for a part of this file: start again
        with _open(download, have, file) as response:
            _receive(download, response, partial, have)
    if download.checksum is not None:
        try:
            _check_digest(download.checksum, partial, f"the file at {download.url}", "which was removed")
        except DownloadError:
            partial.unlink()
            raise
    partial.rename(file)


def _open(download: Download, have: int, file: pathlib.Path) -> http.client.HTTPResponse:
    """Requests all bytes from `have` on; `file` is named in the error."""
    headers = {"Range": f"bytes={have}-"} if have else {}
    request = urllib.request.Request(download.url, headers=headers)
    try:
        return urllib.request.urlopen(request, timeout=_TIMEOUT)
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(
            f"Could not download {download.url} ({error}). Without a network: put that file into the cache as {file}, "
            f"or set the environment variable LIGHTKERAS_DATA to a folder with {download.folder}/{download.name}, "
            'or use source="sample"'
        ) from error


def _receive(download: Download, response: http.client.HTTPResponse, partial: pathlib.Path, have: int) -> None:
    """Writes the answer to `partial`: appended where the server resumes at `have`, else from the start."""
    have = _start_of(response, have)
    announced = response.headers["Content-Length"]
    if announced is not None and have + int(announced) != download.size:
        raise DownloadError(
            f"Expected {download.url} to have {download.size} bytes. Received: {have + int(announced)} bytes"
        )
    with open(partial, "ab" if have else "wb") as file, _progress(download, partial, have) as advance:
        for chunk in _chunks(download, response, have):
            file.write(chunk)
            advance(len(chunk))


def _start_of(response: http.client.HTTPResponse, have: int) -> int:
    """The offset of the answer's first byte: `have` where the server resumes, 0 where it sends everything."""
    if response.status != http.client.PARTIAL_CONTENT:
        return 0
    content_range = response.headers["Content-Range"] or ""
    if not content_range.startswith(f"bytes {have}-"):
        raise DownloadError(f"Expected {response.url} to resume at byte {have}. Received: {content_range!r}")
    return have


def _chunks(download: Download, response: http.client.HTTPResponse, have: int) -> Iterator[bytes]:
    """Yields the answer's bytes as they arrive, up to the official size.

    Raises:
        DownloadError: They end before that.
    """
    while have < download.size:
        reason = "connection closed"
        try:
            chunk = response.read1(min(_CHUNK, download.size - have))
        except (OSError, http.client.HTTPException) as error:
            chunk, reason = b"", repr(error)
        if not chunk:
            raise DownloadError(
                f"Expected {download.size} bytes from {download.url}. Received: {have} bytes ({reason}). "
                "They are kept: call again to resume there"
            )
        yield chunk
        have += len(chunk)


@contextlib.contextmanager
def _progress(download: Download, partial: pathlib.Path, have: int) -> Iterator[Callable[[int], None]]:
    """Shows a progress bar in a terminal, else one line; yields a function to call with the bytes of each chunk."""
    terminal = sys.stdout.isatty()
    if not terminal:
        print(f"Downloading {download.url} ({download.size} bytes) into {partial.parent}", flush=True)
    columns = [
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    ]
    with progress.Progress(*columns, disable=not terminal) as bar:
        task = bar.add_task(_basename(download.url), total=download.size, completed=have)
        yield functools.partial(bar.advance, task)


# Extracting


def _extract(download: Download, archive: pathlib.Path, target: pathlib.Path) -> None:
    """Extracts `download.member` beside `target`, and renames it to `target` once it is complete."""
    print(f"Extracting {archive} to {target}", flush=True)
    staging, member = target.with_name(f".{target.name}.extracting"), str(download.member)
    _remove(staging)  # left by a process that was killed
    try:
        _extract_member(archive, member, staging)
        if download.member_checksum is not None:
            what, remedy = f"{member} in {archive}", f"delete {archive} to download it again"
            _check_digest(download.member_checksum, staging / member, what, remedy)
        (staging / member).rename(target)
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(f"Expected {archive} to be extracted. Received: {error}") from error
    except Exception as error:  # damaged archives make `zipfile` and its decoders raise errors of any kind
        raise DownloadError(
            f"Expected {archive} to be a zip archive. Received: {error!r}, delete it to download it again"
        ) from error
    finally:
        _remove(staging)


def _remove(folder: pathlib.Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _extract_member(archive: pathlib.Path, member: str, folder: pathlib.Path) -> None:
    names = []
    for name, open_file in _files(archive):
        names.append(str(name))
        if name.is_relative_to(member):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with open_file() as source, open(folder / name, "wb") as copy:
                shutil.copyfileobj(source, copy, _CHUNK)
    if not (folder / member).exists():
        listed = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        raise DownloadError(f"Expected {archive} to contain {member}. Received: {listed or 'no files'}")


def _files(archive: pathlib.Path) -> Iterator[tuple[pathlib.PurePosixPath, Callable[[], IO[bytes]]]]:
    """Yields the path of each file in the archive, and a function that opens it.

    Raises:
        DownloadError: An entry is a link, or its path is absolute or climbs up, on any system.
    """
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            if info.is_dir():
                continue
            path = pathlib.PureWindowsPath(info.filename)  # knows drives and both kinds of slashes
            is_link = stat.S_ISLNK(info.external_attr >> 16)
            if path.anchor or ".." in path.parts or is_link:
                raise DownloadError(
                    f"Expected {archive} to hold plain files in its folder. Received: {info.filename!r}"
                )
            yield pathlib.PurePosixPath(info.filename), functools.partial(opened.open, info)
