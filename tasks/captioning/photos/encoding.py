"""Photos and captions as arrays: in memory, or, of large files, encoded once and kept on the disk."""

import hashlib
import json
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

import lightkeras as lk
from tasks.captioning.photos.annotations import Image, Record, is_json, read_records

IN_MEMORY = 1 << 25  # bytes of the files that are encoded in memory
SPLITS = (None, "train", "validation", "test", "none")  # by their number in a `KEYS`
KEYS = np.dtype([("key", "<u8"), ("name", "<u8"), ("order", ">u8", 2), ("split", "u1")])  # hashes, and the split
ROWS = ("images", "image_keys", "texts", "text_keys", "words", "list", "captions_of")


class PhotoTable:
    """Images and their captions as they follow each other in the files.

    An image of a table that comes several times has all its captions at its first place.

    Args:
        rows: The rows by their names, `ROWS`.
        bounds: The number of images before each file, and that of all.

    Attributes:
        images: The name, address and size of each image, in JSON.
        keys: What each is found by, `KEYS` (images,).
        texts: The captions, in UTF-8.
        words: Their words, by number.
        list: The words, in the order of their numbers.
        captions_of: The numbers of each image's captions.
        bounds: As above.
    """

    def __init__(self, rows: dict[str, lk.text.Rows], bounds: list[int]):
        self.images, self.texts, self.words = rows["images"], rows["texts"], rows["words"]
        self.captions_of, self.keys = rows["captions_of"], rows["image_keys"].values().view(KEYS)
        self.list, self.bounds = list(lk.text.every_text(rows["list"])), np.array(bounds)

    def captions(self, image: int) -> tuple[str, ...]:
        """Returns the captions of an image, as they were written."""
        return tuple(lk.text.read_texts(self.texts, self.captions_of.read([image])[0]))


class Encoder:
    """Encodes blocks of images and captions.

    Args:
        rows: Where the rows go, by their names, `ROWS`.
        known: The words so far.
    """

    def __init__(self, rows: dict[str, Any], known: Iterable[str] = ()):
        self._rows, self._words = rows, lk.text.WordRows(rows["words"], rows["list"], known)

    def encode(self, records: list[Record], part: int = 0) -> int:
        """Appends images and captions of a file, which has the number `part`; returns the number of the images."""
        images = [record for record in records if isinstance(record, Image)]
        captions = [record for record in records if not isinstance(record, Image)]
        keys = np.empty(len(images), KEYS)
        keys["key"], keys["name"] = _hashes(_keys(images, part)), _hashes(repr((part, image.name)) for image in images)
        files = (hashlib.sha256(pathlib.PurePath(image.name).name.encode()).digest()[:16] for image in images)
        keys["order"] = np.frombuffer(b"".join(files), ">u8").reshape(-1, 2)
        keys["split"] = [SPLITS.index(image.split) for image in images]
        lk.text.append_texts(self._rows["images"], [json.dumps(image[1:2] + image[3:]) for image in images])
        self._rows["image_keys"].append(keys.view(np.uint8), np.full(len(images), KEYS.itemsize))
        lk.text.append_texts(self._rows["texts"], [caption.text for caption in captions])
        self._rows["text_keys"].append(_hashes(_keys(captions, part)).view(np.uint8), np.full(len(captions), 8))
        self._words.append([lk.metrics.tokenize_caption(caption.text).split() for caption in captions])
        return len(images)


def _keys(records: Iterable[Record], part: int) -> Iterator[str]:
    return (repr((part, record.key)) for record in records)


def _hashes(texts: Iterable[str]) -> np.ndarray:
    """The first eight bytes of each SHA-256: uint64 (texts,)."""
    return np.frombuffer(b"".join(hashlib.sha256(text.encode()).digest()[:8] for text in texts), "<u8")


def encode_in_memory(files: list[pathlib.Path], records: Iterable[tuple[int, list[Record]]]) -> PhotoTable:
    """Encodes blocks of records, each with the number of its file."""
    rows, bounds = {name: lk.text.RowsInMemory() for name in ROWS}, [0] * (len(files) + 1)
    encoder = Encoder(rows)
    for part, block in records:
        bounds[part + 1] = max(bounds[part : part + 2]) + encoder.encode(block, part)
    group_captions(rows, files, bounds)
    return PhotoTable({name: one.rows() for name, one in rows.items()}, bounds)


def open_table(files: list[pathlib.Path]) -> PhotoTable:
    """Reads annotation files, or opens what was made of them; see `read_records`.

    Raises:
        ValueError: Another format, a caption of an image that is not listed, an image without a caption, an image
            listed twice.
    """
    for file in files:
        is_json(file)
    if sum(file.stat().st_size for file in files) > IN_MEMORY:
        rows, facts = TableCache(files, variant="captions").open()
        return PhotoTable(rows, facts["bounds"])
    for file in files:
        lk.text.require_text(file)
    return encode_in_memory(files, ((i, block) for i, file in enumerate(files) for block, _ in read_records(file)))


class TableCache(lk.text.RowsCache):
    """The photos and captions of large files, encoded once and kept on the disk."""

    NAMES, FACTS = ROWS, ("done", "part", "place", "bounds")

    def _begin(self) -> dict[str, Any]:
        for file in self.files:
            lk.text.require_text(file)
        return {"done": 0, "part": 0, "place": None, "bounds": [0]}

    def _append(self, rows: dict[str, lk.text.RowsFile], facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
        encoder, count = Encoder(rows, lk.text.every_text(rows["list"].rows())), len(rows["images"].rows())
        bounds = facts["bounds"]
        for part, file in enumerate(self.files[facts["part"] :], facts["part"]):
            before = sum(one.stat().st_size for one in self.files[:part])
            for records, place in read_records(file, facts["place"] if part == facts["part"] else None):
                count += encoder.encode(records, part)
                done = before + (place[0]["offset"] if is_json(file) else place[0] % (1 << 64))
                yield {"done": done, "part": part, "place": place, "bounds": bounds}
            bounds = [*bounds, count]
        done = sum(one.stat().st_size for one in self.files)
        yield {"done": done, "part": len(self.files), "place": None, "bounds": bounds}
        group_captions(rows, self.files, bounds)


# ---- the captions of each image


def group_captions(rows: dict[str, Any], files: list[pathlib.Path], bounds: list[int]) -> None:
    """Appends the captions of each image, and checks that every caption has its image, and every image a caption."""
    keys = rows["image_keys"].rows().values().view(KEYS)
    owners = _find_owners(keys["key"], rows["text_keys"].rows().values().view("<u8"), files)
    in_order = bool((owners[1:] >= owners[:-1]).all())
    numbers = np.arange(len(owners)) if in_order else np.argsort(owners, kind="stable")
    counts = np.bincount(owners, minlength=len(keys))
    rows["captions_of"].append(numbers, counts)
    images = rows["images"].rows()
    for part, file in enumerate(files):
        own = np.arange(bounds[part], bounds[part + 1])
        lk.utils.require(len(own) > 0, "annotations", "a file with captions", str(file))
        own = own if is_json(file) else own[is_first(keys["key"][own])]
        twice = own[~is_first(keys["name"][own])]
        _reject(read_names(images, twice), f"every image of {file} to be listed once", "listed more often")
        empty = own[counts[own] == 0]
        _reject(read_names(images, empty), f"every image of {file} to have a caption", "without one")


def _find_owners(images: np.ndarray, captions: np.ndarray, files: list[pathlib.Path]) -> np.ndarray:
    """The number of each caption's image, of the first one with its key: int32 (captions,)."""
    order = np.argsort(images, kind="stable").astype(np.int32)
    ordered, owners = images[order], np.empty(len(captions), np.int32)
    for part in lk.text.cut(np.arange(len(captions))):
        places = np.minimum(np.searchsorted(ordered, captions[part]), len(ordered) - 1)
        owners[part] = np.where(ordered[places] == captions[part], order[places], -1) if len(ordered) else -1
    if owners.min(initial=0) < 0:
        lost = set(captions[owners < 0].tolist())
        names = [str(key) for number, file in enumerate(files) for key in _keys_among(lost, number, file)]
        expected = f"every caption in {', '.join(map(str, files))} to have its image in `images`"
        _reject(names, expected, "image ids without")
    return owners


def _keys_among(lost: set[int], part: int, file: pathlib.Path) -> list[Any]:
    """The keys in a file whose hashes are among some, each once."""
    found = (record.key for records, _ in read_records(file) for record in records)
    return list({key: None for key in found if int(_hashes([repr((part, key))])[0]) in lost})


def is_first(keys: np.ndarray) -> np.ndarray:
    """Whether each key is the first of those that are equal: bool (keys,)."""
    first = np.zeros(len(keys), bool)
    first[np.unique(keys, return_index=True)[1]] = True
    return first


def read_names(images: lk.text.Rows, numbers) -> list[str]:
    """Returns the files of some images, relative to the folder of the photos."""
    return [json.loads(text)[0] for text in lk.text.read_texts(images, numbers)]


def _reject(names: list[str], expected: str, what: str) -> None:
    if names:
        raise lk.utils.ArgumentError(f"Expected {expected}. Received: {len(names)} {what}: {lk.utils.listed(names)}")
