"""Annotation files, which list the captions of each photo: COCO's JSON, Karpathy's JSON, and tables."""

import itertools
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import lightkeras as lk
from tasks.captioning.photos.json_lists import ListReader, missing_key
from tasks.captioning.photos.tables import read_table

SPLITS = {"train": "train", "restval": "train", "val": "validation", "test": "test", "none": None}  # Karpathy's names
_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can escape half a character
LONGEST = 255  # bytes of a file name
COCO_PARTS = ("train2014", "val2014", "train2017", "val2017")  # official files, not splits
TABLES = (".csv", ".tsv", ".txt", ".token")
BLOCK = 1 << 13  # records that are read at a time


class Image(NamedTuple):
    """A photo as a file lists it.

    Args:
        key: What its captions name it by.
        name: Its file, relative to the folder of the photos.
        split: "train", "validation", "test", "none" (for a photo that the author of the split left out), or None if no
            split is given.
        url: The official address, if it is given.
        size: (width, height) in pixels, if it is given.
    """

    key: Any
    name: str
    split: str | None = None
    url: str | None = None
    size: tuple[int, int] | None = None


class Caption(NamedTuple):
    """A caption as a file lists it.

    Args:
        key: The key of its image.
        text: At least a letter or a digit, without spaces around.
    """

    key: Any
    text: str


Record = Image | Caption


def read_records(file: pathlib.Path, place: Any = None) -> Iterator[tuple[list[Record], Any]]:
    """Yields the images and captions of a file, many at a time, and the place behind them; begins at such a place.

    - COCO's JSON: `images` with `id` and `file_name`, `annotations` with `image_id` and `caption`.
    - Karpathy's JSON: `images` with `filename`, perhaps `filepath`, and `sentences` with `raw`.
    - CSV of two columns: image file, caption; a row for each caption. A first row such as `image,caption` is a header,
      and then captions with commas need no quotes (Flickr8k's `captions.txt`).
    - Lines `a.jpg#0`, tab, caption (`Flickr8k.token.txt`); lines `a.jpg| 0| caption` after a header (Flickr30k's
      `results.csv`).

    In JSON, an image may have a `split`: train, restval, val, test, none, or the name of an official COCO part, which
    is no split. Of a table, an image may come several times.

    Args:
        file: `.json`, `.csv`, `.tsv`, `.txt` or `.token`, UTF-8.
        place: As above, in JSON's types; None for the start.

    Raises:
        ValueError: Another format (the message names the missing key or the line), a file name that leaves the folder.
    """
    return _read_json(file, place) if is_json(file) else _read_table(file, place)


def is_json(file: pathlib.Path) -> bool:
    """Returns whether annotations are JSON, or else a table.

    Raises:
        ValueError: The name has another suffix.
    """
    lk.utils.require_choice("suffix of the annotations", file.suffix.lower(), (".json", *TABLES))
    return file.suffix.lower() == ".json"


def _inside(name: str, file: pathlib.Path) -> str:
    path = pathlib.PurePath(name)
    if not name or path.is_absolute() or ".." in path.parts:
        raise lk.utils.ArgumentError(
            f"Expected the file names in {file} to stay within their folder. Received: {name!r}"
        )
    if "\0" in name or any(len(part.encode(errors="replace")) > LONGEST for part in path.parts):
        raise lk.utils.ArgumentError(f"Expected the file names in {file} to be possible. Received: {name[:80]!r}")
    return str(path)


def _captions(key: Any, texts: list[str]) -> list[Record]:
    """The captions that have a letter or a digit."""
    return [Caption(key, text.strip()) for text in texts if any(map(str.isalnum, text))]


def _read_table(file: pathlib.Path, place: Any) -> Iterator[tuple[list[Record], Any]]:
    for rows, behind in read_table(file, place):
        records = []
        for name, same in itertools.groupby(rows, key=lambda row: row[0]):
            records += [Image(name, _inside(name, file)), *_captions(name, [text for _, text in same])]
        yield records, behind


# ---- JSON


def _read_json(file: pathlib.Path, place: Any) -> Iterator[tuple[list[Record], Any]]:
    where, form = place or (None, None)
    with file.open(encoding="utf-8", newline="") as opened:
        reader = ListReader(opened, file, ("images", "annotations"), where)
        entries = iter(reader)
        while block := list(itertools.islice(entries, BLOCK)):
            records = []
            for key, entry in block:
                lk.utils.require(isinstance(entry, dict), key, f"a list of objects in {file}", type(entry).__name__)
                if form is None and key == "images":
                    form = "Karpathy" if "sentences" in entry else "COCO"
                records += _READERS[key, form if key == "images" else None](entry, file)
            yield records, [reader.place(), form]
        for key in ("images",) if form == "Karpathy" else ("images", "annotations"):
            if key not in reader.keys:
                raise lk.utils.ArgumentError(missing_key(file, ", ".join(reader.keys) or "no keys", key))


def _get(entry: dict, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    if not isinstance(entry.get(key), kind):
        received = f"{key}={entry[key]!r}" if key in entry else f"the keys {', '.join(entry)}"
        names = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
        raise lk.utils.ArgumentError(f'Expected {where} to have the key "{key}" ({names}). Received: {received}')
    value = entry[key]
    if isinstance(value, str) and _SURROGATE.search(value):
        raise lk.utils.ArgumentError(f"Expected {where} to have Unicode text. Received: {key}={value!r}")
    return value


def _split(image: dict, file: pathlib.Path) -> str | None:
    name = image.get("split")
    if name is None or name in COCO_PARTS:
        return None
    lk.utils.require_choice(f"split of an image in {file}", name, (*SPLITS, *COCO_PARTS))
    return SPLITS[name] or "none"


def _karpathy_image(image: dict, file: pathlib.Path) -> list[Record]:
    where = f"every image in {file}"
    place = _get(image, "filepath", str, where) if image.get("filepath") else ""
    name = os.path.join(place, _get(image, "filename", str, where))
    texts = [_get(s, "raw", str, f"every sentence in {file}") for s in _get(image, "sentences", list, where)]
    return [Image(name, _inside(name, file), _split(image, file)), *_captions(name, texts)]


def _coco_image(image: dict, file: pathlib.Path) -> list[Record]:
    where = f"every image in {file}"
    name = _inside(_get(image, "file_name", str, where), file)
    sides = {"width", "height"} <= set(image)
    size = (_get(image, "width", int, where), _get(image, "height", int, where)) if sides else None
    key = _get(image, "id", (int, str), where)
    return [Image(key, name, _split(image, file), image.get("coco_url"), size)]


def _coco_caption(entry: dict, file: pathlib.Path) -> list[Record]:
    where = f"every annotation in {file}"
    return _captions(_get(entry, "image_id", (int, str), where), [_get(entry, "caption", str, where)])


_READERS = {("images", "Karpathy"): _karpathy_image, ("images", "COCO"): _coco_image,
            ("annotations", None): _coco_caption}  # fmt: skip
