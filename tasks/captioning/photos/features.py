"""The features that a frozen network computes of each photo, computed once and kept in TFRecord files.

A folder of features holds

    manifest.json            the model, its weights (checksum), image size, preprocessing, dtype, shape of a record
    features-00000.tfrecord  256 records: the bytes of one array each, in the order of the photos
    features-00000.json      name, size and modification time of each of these photos; the TFRecord file's sha256

A shard is written under another name, then renamed, and its `.json` after it. An extraction after a killed one keeps
the finished shards and ends with the same bytes. A shard is computed again if one of its photos was replaced or
changed, or if its checksum is wrong; the others stay. Another encoder or setting has a separate folder.

All records of a folder have the same length, so the place of record i is known, and a training batch reads only its own
photos, in any order: no index, and no more memory for a million photos than for ten. `tf.data`'s `TFRecordDataset`
reads the same files from start to end.
`python -m tasks.captioning.photos.extract` computes features before a training, and measures it.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import itertools
import json
import math
import os
import pathlib
import sys
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf
from rich import progress

import lightkeras as lk
from tasks.captioning.photos.encoders import ROWS, Encoder, Network
from tasks.captioning.photos.pixels import read_image

PHOTOS = 256  # of a shard; a kill loses no more
HEADER, FOOTER = 12, 4  # bytes of a TFRecord before and after its data: length and its checksum, checksum of the data
MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True)
class Shard:
    """`PHOTOS` photos, or the last few, and their two files.

    Args:
        folder: The folder of the features.
        number: The shard's number, from 0.
        paths: The photos.
    """

    folder: pathlib.Path
    number: int
    paths: tuple[pathlib.Path, ...]

    @property
    def records(self) -> pathlib.Path:
        """The TFRecord file."""
        return self.folder / f"features-{self.number:05d}.tfrecord"

    def photos(self) -> list[list]:
        """Returns [path, bytes, modification time in ns] of each photo, by which a changed photo is noticed."""
        return [[str(path), stat.st_size, stat.st_mtime_ns] for path, stat in ((p, p.stat()) for p in self.paths)]

    def written(self) -> dict | None:
        """Returns the note of the shard's `.json`, if the shard exists and belongs to exactly these photos."""
        try:
            note = json.loads(self.records.with_suffix(".json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError, RecursionError):
            return None
        whole = isinstance(note, dict) and {"bytes", "photos", "sha256", "unreadable"} <= set(note)
        same = whole and note["photos"] == self.photos() and self.records.is_file()
        return note if same and self.records.stat().st_size == note["bytes"] else None

    def is_whole(self) -> bool:
        """Whether the shard exists and has the checksum in its note."""
        note = self.written()
        return note is not None and lk.utils.sha256(self.records) == note["sha256"]

    def write(self, network: Network, encoder: Encoder, pool: concurrent.futures.Executor, advance) -> None:
        """Computes the features, and calls `advance(photos)` after each batch.

        The features of an unreadable photo are zeros; the note gives the reason.

        Raises:
            ValueError: Features beyond what float16 can hold.
        """
        photos, unreadable = self.photos(), {}  # before they are read, so that a later change is noticed
        partial = self.records.with_suffix(".partial")
        decoded = zip(self.paths, _decoded(pool, self.paths, encoder.size), strict=True)
        with tf.io.TFRecordWriter(str(partial)) as writer:
            while rows := list(itertools.islice(decoded, ROWS)):
                unreadable.update({str(path): reason for path, reason in rows if isinstance(reason, str)})
                for features in _computed(network, encoder, [pixels for _, pixels in rows]):
                    writer.write(features.tobytes())
                advance(len(rows))
        note = {"bytes": partial.stat().st_size, "sha256": lk.utils.sha256(partial)}
        note |= {"unreadable": unreadable, "photos": photos}
        os.replace(partial, self.records)
        lk.utils.write_json(self.records.with_suffix(".json"), note)


def _decoded(pool: concurrent.futures.Executor, paths: tuple[pathlib.Path, ...], size: int) -> Iterator:
    """Yields the pixels of each photo or the reason it cannot be read, in order; threads decode two batches ahead."""
    waiting = collections.deque()
    for path in paths:
        waiting.append(pool.submit(_pixels, path, size))
        if len(waiting) > 2 * ROWS:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _pixels(path: pathlib.Path, size: int) -> np.ndarray | str:
    try:
        return read_image(path, size)
    except lk.data.ImageError as error:
        return error.reason


def _computed(network: Network, encoder: Encoder, rows: list[np.ndarray | str]) -> np.ndarray:
    """The features of up to `ROWS` photos: (photos, slots, channels); zeros for unreadable ones."""
    images = np.zeros((ROWS, encoder.size, encoder.size, 3), np.uint8)
    readable = [place for place, pixels in enumerate(rows) if isinstance(pixels, np.ndarray)]
    for place in readable:
        images[place] = rows[place]
    with np.errstate(over="ignore"):  # rejected below
        features = network.call(images).astype(encoder.dtype)
    kept = np.zeros((len(rows), *network.shape), encoder.dtype)
    kept[readable] = features[readable]
    if not np.isfinite(kept).all():
        raise lk.utils.ArgumentError(
            f"Expected the features of {encoder.label} to be within float16 (up to 65504). Received: larger ones, or "
            "NaN. The model may need another `preprocessing`"
        )
    return kept


def _shards(folder: pathlib.Path, paths: Sequence[pathlib.Path], numbers: Iterable[int] | None = None):
    """Yields all shards, or those of some numbers."""
    for number in range(-(-len(paths) // PHOTOS)) if numbers is None else numbers:
        yield Shard(folder, number, tuple(paths[number * PHOTOS : (number + 1) * PHOTOS]))


# ---- computing


def extract(paths: Sequence[pathlib.Path], encoder: Encoder, folder: str | os.PathLike) -> int:
    """Computes the features that `folder` lacks, and returns the number of photos that it computed.

    Verifies the checksums of existing features, and waits for another process that computes in this folder. Memory does
    not grow with the number of photos.

    Raises:
        ValueError: The folder has the features of another encoder or setting, or features are beyond float16.
        FileNotFoundError: A photo does not exist.
    """
    folder = lk.utils.local_path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    waiting = f"Waiting for another process that computes features in {folder}"
    with lk.utils.locked(folder / ".lock", message=waiting):
        if (folder / MANIFEST).exists():
            read_manifest(folder, encoder)
        missing = [shard.number for shard in _shards(folder, paths) if not shard.is_whole()]
        total = sum(min(PHOTOS, len(paths) - number * PHOTOS) for number in missing)
        if missing:
            _compute(_shards(folder, paths, missing), total, encoder, folder)
    return total


def _compute(shards: Iterable[Shard], total: int, encoder: Encoder, folder: pathlib.Path) -> None:
    network = encoder.build()
    manifest = {"settings": encoder.settings, "layer": network.layer, "shape": list(network.shape)}
    if not (folder / MANIFEST).exists():
        lk.utils.write_json(folder / MANIFEST, manifest)
    shown = _progress(f"Features of {total:,} photos ({encoder.label})", total, folder)
    with shown as advance, concurrent.futures.ThreadPoolExecutor() as pool:
        for shard in shards:
            shard.write(network, encoder, pool, advance)


def read_manifest(folder: pathlib.Path, encoder: Encoder) -> dict:
    """Reads the manifest of a folder.

    Raises:
        ValueError: The folder has the features of another encoder or setting.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        there, wanted, _ = dict(manifest["settings"]), encoder.settings, tuple(map(int, manifest["shape"]))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise lk.utils.ArgumentError(
            f"Expected {folder / MANIFEST} to describe features. Received: {error!r}. Delete that folder"
        ) from error
    other = [name for name in {**there, **wanted} if there.get(name) != wanted.get(name)]
    if other:
        raise lk.utils.ArgumentError(
            f"Expected {folder} to have features of {', '.join(f'{name}={wanted.get(name)}' for name in other)}. "
            f"Received: {', '.join(f'{name}={there.get(name)}' for name in other)}. Delete that folder, or use another"
        )
    return manifest


@contextlib.contextmanager
def _progress(title: str, total: int, folder: pathlib.Path):
    """Yields a function that takes the number of photos of each batch. Shows a bar in a terminal, else a line."""
    terminal = sys.stdout.isatty()
    if not terminal:
        lk.utils.logger.info(f"{title} into {folder}")
    with progress.Progress(
        *progress.Progress.get_default_columns(), progress.MofNCompleteColumn(), disable=not terminal
    ) as bar:
        task = bar.add_task(title, total=total)
        yield lambda photos: bar.advance(task, photos)


# ---- reading


def feature_folder(root: str | None, source: str, image_folder: str | None, encoder: Encoder) -> pathlib.Path:
    """Returns the folder for the features of a source by an encoder; another source or setting has another folder.

    Args:
        root: The folder of all features; None for `features` beside the downloaded data sets.
        source: An argument of `CaptionData`.
        image_folder: An argument of `CaptionData`.
        encoder: The encoder.
    """
    folder = lk.utils.local_path(root) if root else lk.utils.cache_folder() / "features"
    path = lk.utils.local_path(source)
    places = [str(path.resolve()), image_folder] if path.exists() else [source, os.environ.get("LIGHTKERAS_DATA")]
    digest = hashlib.sha256(json.dumps([places, encoder.settings], sort_keys=True).encode()).hexdigest()
    return folder / f"{path.stem}-{encoder.label}-{digest[:12]}"


class Features:
    """Features by photo, read from their files on demand.

    Args:
        folder: The folder that `extract` wrote.
        paths: The photos that `extract` was given.
        encoder: The encoder that `extract` was given.

    Attributes:
        shape: The shape of a photo's features: (slots, channels), or of pixels (size, size, 3).
        dtype: float16, or uint8 of pixels.
        unreadable: By the number of a photo, the reason why it cannot be read; its features are zeros.

    Raises:
        ValueError: Features are missing or belong to another encoder, or a photo has changed since.
    """

    def __init__(self, folder: str | os.PathLike, paths: Sequence[pathlib.Path], encoder: Encoder):
        self._folder = pathlib.Path(folder)
        if not (self._folder / MANIFEST).exists():
            raise lk.utils.ArgumentError(
                f"Expected {folder} to have features: call `prepare_data()` first. Received: none"
            )
        self.shape = tuple(read_manifest(self._folder, encoder)["shape"])
        self.dtype, self.unreadable = encoder.dtype, {}
        row = HEADER + math.prod(self.shape) * self.dtype.itemsize + FOOTER
        count, missing, wrong = -(-len(paths) // PHOTOS), 0, []
        for shard in _shards(self._folder, paths):
            note = shard.written()
            if note is None:
                missing += 1
                continue
            wrong += [str(shard.records)] * (note["bytes"] != row * len(shard.paths))
            reasons = enumerate(map(note["unreadable"].get, map(str, shard.paths)), shard.number * PHOTOS)
            self.unreadable |= {i: reason for i, reason in reasons if reason is not None}
        if missing:
            raise lk.utils.ArgumentError(
                f"Expected {folder} to have the features of all {len(paths)} photos as they are now: call "
                f"`prepare_data()` first. Received: {missing} of {count} files that are missing or old"
            )
        expected = f"of {row} bytes for each photo, as the shape {self.shape} in {self._folder / MANIFEST} says"
        lk.utils.require(not wrong, "features", expected, wrong[:1])

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Reads the features of the photos with the numbers `indices` (rows,): (rows, slots, channels)."""
        features = np.empty((len(indices), *self.shape), self.dtype)
        for row, index in zip(features.reshape(len(features), -1), np.asarray(indices).tolist(), strict=True):
            self._read_into(row.view(np.uint8), index)
        return features

    def _read_into(self, row: np.ndarray, index: int) -> None:
        shard, place = divmod(index, PHOTOS)
        path = Shard(self._folder, shard, ()).records
        with open(path, "rb", buffering=0) as file:  # opened each time: there may be many shards
            file.seek(place * (HEADER + row.nbytes + FOOTER) + HEADER)
            if file.readinto(row) != row.nbytes:
                raise lk.utils.lightkeras_error(OSError)(
                    f"Expected {path} to have a record {place}. Received: the end of the file"
                )
