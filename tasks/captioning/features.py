"""What a frozen network sees in each photo, computed once and kept in TFRecord files.

A folder of features holds

    manifest.json            the model, its weights (checksum), image size, preprocessing, dtype, shape of a record
    features-00000.tfrecord  256 records: the bytes of one array each, in the order of the photos
    features-00000.json      name, size and modification time of each of these photos; the TFRecord file's sha256

A shard is written under another name and renamed, its `.json` after it, so what a killed extraction has finished is
taken up by the next one, which ends with the same bytes. A shard is computed again where one of its photos is another
or has changed, or where its checksum is wrong; all others stay. Another encoder or setting has a folder of its own.

All records of a folder have the same length, so the place of record i is known, and a training batch, which asks for
photos in any order, reads just its own: no index, and no more memory for a million photos than for ten. `tf.data`'s
`TFRecordDataset` reads the same files from front to back.
`python -m tasks.captioning.extract` computes features beforehand, and measures it.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import fcntl
import itertools
import json
import os
import pathlib
import sys
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from rich import progress

from tasks.captioning.encoders import ROWS, Encoder, Network, sha256
from tasks.captioning.images import UNREADABLE, read_image

PHOTOS = 256  # of a shard: a kill loses no more than these
HEADER, FOOTER = 12, 4  # bytes of a TFRecord before and after its data: length and its checksum, checksum of the data
MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True)
class Shard:
    """`PHOTOS` photos, or the last few, and their two files.

    Args:
        folder: Of the features.
        number: From 0.
        paths: Of the photos.
    """

    folder: pathlib.Path
    number: int
    paths: tuple[pathlib.Path, ...]

    @property
    def records(self) -> pathlib.Path:
        """The TFRecord file."""
        return self.folder / f"features-{self.number:05d}.tfrecord"

    def photos(self) -> list[list]:
        """[path, bytes, modification time in ns] of each photo: what a changed photo is known by."""
        return [[str(path), stat.st_size, stat.st_mtime_ns] for path, stat in ((p, p.stat()) for p in self.paths)]

    def written(self) -> dict | None:
        """What was noted when the shard was written, if it is there and of these very photos."""
        try:
            note = json.loads(self.records.with_suffix(".json").read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        same = note["photos"] == self.photos() and self.records.is_file()
        return note if same and self.records.stat().st_size == note["bytes"] else None

    def is_whole(self) -> bool:
        """Whether the shard is written, with the bytes that were written then."""
        note = self.written()
        return note is not None and sha256(self.records) == note["sha256"]

    def write(self, network: Network, encoder: Encoder, pool: concurrent.futures.Executor, advance) -> None:
        """Computes the features, and calls `advance(photos)` after each batch.

        Photos that cannot be read are noted with the reason, and have zeros for features.

        Raises:
            ValueError: Features beyond what float16 can hold.
        """
        photos, unreadable = self.photos(), {}  # noted before they are read: a later change is then seen
        partial = self.records.with_suffix(".partial")
        decoded = zip(self.paths, _decoded(pool, self.paths, encoder.size), strict=True)
        with tf.io.TFRecordWriter(str(partial)) as writer:
            while rows := list(itertools.islice(decoded, ROWS)):
                unreadable.update({str(path): str(reason) for path, reason in rows if isinstance(reason, Exception)})
                for features in _computed(network, encoder, [pixels for _, pixels in rows]):
                    writer.write(features.tobytes())
                advance(len(rows))
        note = {"bytes": partial.stat().st_size, "sha256": sha256(partial), "unreadable": unreadable, "photos": photos}
        os.replace(partial, self.records)
        _write_json(self.records.with_suffix(".json"), note)


def _decoded(pool: concurrent.futures.Executor, paths: tuple[pathlib.Path, ...], size: int) -> Iterator:
    """The pixels of each photo or the error it raised, in order; threads decode two batches ahead."""
    waiting = collections.deque()
    for path in paths:
        waiting.append(pool.submit(_pixels, path, size))
        if len(waiting) > 2 * ROWS:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _pixels(path: pathlib.Path, size: int) -> np.ndarray | Exception:
    try:
        return read_image(path, size)
    except UNREADABLE as error:
        return error


def _computed(network: Network, encoder: Encoder, rows: list[np.ndarray | Exception]) -> np.ndarray:
    """The features of up to `ROWS` photos: (photos, slots, channels); zeros of those that could not be read."""
    images = np.zeros((ROWS, encoder.size, encoder.size, 3), np.uint8)
    readable = [place for place, pixels in enumerate(rows) if isinstance(pixels, np.ndarray)]
    for place in readable:
        images[place] = rows[place]
    with np.errstate(over="ignore"):  # refused below
        features = network.call(images).astype(encoder.dtype)
    made = np.zeros((len(rows), *network.shape), encoder.dtype)
    made[readable] = features[readable]
    if not np.isfinite(made).all():
        raise ValueError(
            f"Expected the features of {encoder.label} to be within float16 (up to 65504). Received: larger ones, or "
            "none at all (NaN). Another `preprocessing` may be what this model needs"
        )
    return made


def _write_json(path: pathlib.Path, value: dict) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value), encoding="utf-8")
    os.replace(partial, path)


def _shards(folder: pathlib.Path, paths: list[pathlib.Path]) -> list[Shard]:
    return [Shard(folder, i, tuple(paths[i * PHOTOS : (i + 1) * PHOTOS])) for i in range(-(-len(paths) // PHOTOS))]


# ---- computing


def extract(paths: list[pathlib.Path], encoder: Encoder, folder: str | os.PathLike) -> int:
    """Computes the features of the photos that `folder` does not have yet, and returns how many these were.

    What it has is read once, to verify the checksums. Another process that computes in this folder is waited for.
    Memory does not grow with the number of photos.

    Raises:
        ValueError: The folder has the features of another encoder or setting, or features are beyond float16.
        FileNotFoundError: A photo is not there.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if (folder / MANIFEST).exists():
            read_manifest(folder, encoder)
        missing = [shard for shard in _shards(folder, paths) if not shard.is_whole()]
        if missing:
            _compute(missing, encoder, folder)
    return sum(len(shard.paths) for shard in missing)


def _compute(shards: list[Shard], encoder: Encoder, folder: pathlib.Path) -> None:
    network = encoder.build()
    manifest = {"settings": encoder.settings, "layer": network.layer, "shape": list(network.shape)}
    if not (folder / MANIFEST).exists():
        _write_json(folder / MANIFEST, manifest)
    total = sum(len(shard.paths) for shard in shards)
    shown = _progress(f"Features of {total:,} photos ({encoder.label})", total, folder)
    with shown as advance, concurrent.futures.ThreadPoolExecutor() as pool:
        for shard in shards:
            shard.write(network, encoder, pool, advance)


def read_manifest(folder: pathlib.Path, encoder: Encoder) -> dict:
    """The manifest of a folder that has this encoder's features.

    Raises:
        ValueError: They are those of another encoder or setting.
    """
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    there, wanted = manifest["settings"], encoder.settings
    other = [name for name in {**there, **wanted} if there.get(name) != wanted.get(name)]
    if other:
        raise ValueError(
            f"Expected {folder} to have features of {', '.join(f'{name}={wanted.get(name)}' for name in other)}. "
            f"Received: {', '.join(f'{name}={there.get(name)}' for name in other)}. Delete that folder, or use another"
        )
    return manifest


@contextlib.contextmanager
def _alone(folder: pathlib.Path) -> Iterator[None]:
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Waiting for another process that computes features in {folder}", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _progress(title: str, total: int, folder: pathlib.Path):
    """A function to call with the photos of each batch: a progress bar in a terminal, else one line."""
    terminal = sys.stdout.isatty()
    if not terminal:
        print(f"{title} into {folder}", flush=True)
    with progress.Progress(
        *progress.Progress.get_default_columns(), progress.MofNCompleteColumn(), disable=not terminal
    ) as bar:
        task = bar.add_task(title, total=total)
        yield lambda photos: bar.advance(task, photos)


# ---- reading


class Features:
    """Features by photo, read from their files when they are asked for.

    Args:
        folder: Where `extract` put them.
        paths: The photos, as `extract` had them.
        encoder: The same.

    Attributes:
        shape: Of a photo's features: (slots, channels), or of pixels (size, size, 3).
        dtype: float16, or of pixels uint8.
        unreadable: Why a photo could not be read, by its number; its features are zeros.

    Raises:
        ValueError: They are not there, or not all, or of another encoder, or a photo has changed since.
    """

    def __init__(self, folder: str | os.PathLike, paths: list[pathlib.Path], encoder: Encoder):
        folder = pathlib.Path(folder)
        if not (folder / MANIFEST).exists():
            raise ValueError(f"Expected {folder} to have features: call `prepare_data()` first. Received: none")
        self.shape = tuple(read_manifest(folder, encoder)["shape"])
        self.dtype = encoder.dtype
        shards = _shards(folder, paths)
        notes = [shard.written() for shard in shards]
        if None in notes:
            raise ValueError(
                f"Expected {folder} to have the features of all {len(paths)} photos as they are now: call "
                f"`prepare_data()` first. Received: {notes.count(None)} of {len(notes)} files that are missing or old"
            )
        self._files = [shard.records for shard in shards]
        reasons = {path: reason for note in notes for path, reason in note["unreadable"].items()}
        self.unreadable = {i: reasons[str(path)] for i, path in enumerate(paths) if str(path) in reasons}

    def read(self, indices: np.ndarray) -> np.ndarray:
        """The features of some photos: (rows, slots, channels) for the numbers (rows,)."""
        made = np.empty((len(indices), *self.shape), self.dtype)
        for row, index in zip(made.reshape(len(made), -1), np.asarray(indices).tolist(), strict=True):
            self._read_into(row.view(np.uint8), index)
        return made

    def _read_into(self, row: np.ndarray, index: int) -> None:
        shard, place = divmod(index, PHOTOS)
        with open(self._files[shard], "rb", buffering=0) as file:  # opened each time: shards may be many
            file.seek(place * (HEADER + row.nbytes + FOOTER) + HEADER)
            if file.readinto(row) != row.nbytes:
                raise OSError(f"Expected {self._files[shard]} to have a record {place}. Received: the end of the file")
