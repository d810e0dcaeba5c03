"""TFRecord files, read by index: where each record begins is found once and kept in a file beside the records."""

import glob as globbing
import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from lightkeras.data.batched import Reading
from lightkeras.data.batches import add_weight
from lightkeras.data.dataset import AddressedDataset
from lightkeras.data.failures import first_line
from lightkeras.data.forms import find_form, weigh_classes
from lightkeras.utils.checks import ArgumentError, require
from lightkeras.utils.files import write_atomically
from lightkeras.utils.messages import logger

MARK = "lightkeras TFRecord index"  # begins our index files
HEADER, FOOTER = 12, 4  # bytes around a record: its length and checksums
DIGESTED = 2**16  # bytes at both ends of a file
SAID_BYTES = 2**28  # a larger file is said to be indexed
COMPRESSED = {b"\x1f\x8b": "gzip", b"\x78\x01": "zlib", b"\x78\x9c": "zlib", b"\x78\xda": "zlib"}


class TFRecords:
    """Examples in TFRecord files, by index: `Trainer.fit(task, TFRecords("data/*.tfrecord", parse), batch_size=64)`.

    The first use reads the files once: it checks every record's checksums, and writes the places of the records to
    `FILE.index` beside each file. Later uses take these, if size, time and content of the file have not changed.

    Args:
        files: A glob, or a list of files. Their records are numbered in the order of the files' names.
        parse: TensorFlow code that makes an example of a record: `parse(string ()) -> ` a dict, x, (x, y) or
            (x, y, sample_weight) of tensors of static shape.

    Raises:
        FileNotFoundError: No file matches.
        ValueError: A file is compressed, or damaged.
    """

    def __init__(self, files: str | os.PathLike | list, parse: Callable[[tf.Tensor], Any]):
        require(callable(parse), "parse", "a function of a record", parse, TypeError)
        self.parse, self.files = parse, _find_files(files)
        offsets = [index_file(path) for path in self.files]
        counts = [len(one) - 1 for one in offsets]
        self._firsts = np.cumsum([0, *counts])
        self._offsets = offsets

    def __len__(self) -> int:
        """Number of records."""
        return int(self._firsts[-1])

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Returns the records of `indices` (rows,): objects (bytes). They are read in the order of the files."""
        records, numbers = np.empty(len(indices), object), np.searchsorted(self._firsts, indices, "right") - 1
        for number in np.unique(numbers):
            with self.files[number].open("rb", buffering=0) as file:
                for place in np.flatnonzero(numbers == number):
                    records[place] = self._read_one(file, number, indices[place] - self._firsts[number])
        return records

    def _read_one(self, file: Any, number: int, index: int) -> bytes:
        begin, end = self._offsets[number][index : index + 2]
        data = os.pread(file.fileno(), int(end - begin) - FOOTER, int(begin))
        (length,) = struct.unpack_from("<Q", data) if len(data) >= HEADER else (None,)
        if length != len(data) - HEADER:
            raise ArgumentError(
                f"Expected record {index} of {self.files[number]} to be where it was when the file was indexed. "
                "Received: other bytes; the file has changed since the run began"
            )
        return data[HEADER:]

    def batch(
        self, batch_size: int, shuffle: bool = True, class_weight: dict[int, float] | None = None
    ) -> AddressedDataset:
        """Makes the data set of batches; `class_weight` is as for Keras' `fit`."""
        require(len(self) > 0, "files", "TFRecord files with records", f"{len(self.files)} empty files")
        weigh = weigh_classes(class_weight)

        def load(rows: tf.data.Dataset) -> tf.data.Dataset:
            count = rows.element_spec[0].shape[0]
            records = rows.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            examples = records.flat_map(lambda *row: tf.data.Dataset.from_tensor_slices(row))
            parsed = examples.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            batches = parsed.batch(count, drop_remainder=True)
            return batches.map(lambda item, indices: add_weight(weigh(item), indices))

        def read(indices, epoch):
            records = tf.numpy_function(self.read, [tf.maximum(indices, -1 - indices)], tf.string, stateful=False)
            return tf.ensure_shape(records, indices.shape), indices

        def example(record, index):
            return self.parse(record), index

        made = AddressedDataset(len(self), batch_size, load, shuffle)
        parsed = self.parse(tf.constant(self.read(np.zeros(1, np.int64))[0]))
        made.form = find_form(weigh(tf.nest.map_structure(lambda entry: tf.convert_to_tensor(entry)[None], parsed)))
        made.identity = {
            "kind": "TFRecord files",
            "files": len(self.files),
            "records": len(self),
            "digest": self._digest(),
        }
        made.reading = Reading(f"{len(self):,} records of {len(self.files):,} TFRecord files, by index")
        return made

    def _digest(self) -> str:
        found = hashlib.sha256()
        for path, offsets in zip(self.files, self._offsets, strict=True):
            found.update(f"{path.name} {len(offsets)} {digest_file(path)}".encode())
        return found.hexdigest()[:32]


def _find_files(files: str | os.PathLike | list) -> list[Path]:
    patterns = files if isinstance(files, list | tuple) else [files]
    found = [Path(path) for one in patterns for path in sorted(globbing.glob(os.path.expanduser(one), recursive=True))]
    found = [path for path in found if path.suffix != ".index"]
    require(len(found) > 0, "files", "a glob or a list of TFRecord files", files, FileNotFoundError)
    return found


# ---- the index of a file


def index_file(path: Path) -> np.ndarray:
    """Returns where each record begins, and where the last one ends: int64 (records + 1,).

    They are taken from `FILE.index`, or found and written there. If the folder cannot be written, a message says so.

    Raises:
        ValueError: The file is compressed, or damaged.
    """
    beside = path.with_name(f"{path.name}.index")
    known = _read_index(beside, path)
    if known is not None:
        return known
    offsets = _find_records(path)
    if beside.exists() and not beside.read_bytes().startswith(MARK.encode()):
        logger.warning("The index of %s is not kept, so each run reads the file anew: %s is another file", path, beside)
        return offsets
    try:
        with write_atomically(beside) as partial:
            partial.write_bytes(_stamp(path) + offsets.tobytes())
    except OSError as error:
        logger.warning("The index of %s is not kept, so each run reads the file anew: %s", path, error)
    return offsets


def _read_index(beside: Path, path: Path) -> np.ndarray | None:
    try:
        content = beside.read_bytes()
    except FileNotFoundError:
        return None
    stamp = _stamp(path)
    whole = content.startswith(stamp) and (len(content) - len(stamp)) % 8 == 0 and len(content) > len(stamp)
    offsets = np.frombuffer(content, np.int64, offset=len(stamp)) if whole else None
    fits = offsets is not None and offsets[0] == 0 and offsets[-1] == path.stat().st_size
    return offsets if fits else None


def _stamp(path: Path) -> bytes:
    """What a file's index depends on: its size, time and content."""
    found = path.stat()
    return f"{MARK} 1\n{found.st_size} {found.st_mtime_ns} {digest_file(path)}\n".encode()


def digest_file(path: Path) -> str:
    """Hashes the size, and the first and last 64 KB, of a file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(DIGESTED)
        file.seek(max(0, size - DIGESTED))
        return hashlib.sha256(first + file.read(DIGESTED) + str(size).encode()).hexdigest()[:32]


def _find_records(path: Path) -> np.ndarray:
    """Reads a file once, with all checksums, and returns the places of its records."""
    with path.open("rb") as file:
        kind = COMPRESSED.get(file.read(2))
    size = path.stat().st_size
    if size > SAID_BYTES:
        logger.info("Indexing %s (%.1f GB), once.", path, size / 1e9)
    lengths = tf.data.TFRecordDataset(str(path)).map(tf.strings.length).batch(2**16)
    try:
        parts = [np.asarray(part, np.int64) for part in lengths]
    except tf.errors.DataLossError as error:
        how = f"{kind}-compressed: write it without compression" if kind else first_line(error.message)
        raise ArgumentError(f"Expected {path} to be a TFRecord file, not compressed. Received: {how}") from error
    sizes = np.concatenate(parts or [np.zeros(0, np.int64)]) + HEADER + FOOTER
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
