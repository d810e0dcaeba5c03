"""Annotation files, which list the captions of each photo: COCO's JSON, Karpathy's JSON, and tables."""

import collections
import dataclasses
import json
import os
import pathlib
import re
from typing import Any

import lightkeras as lk
from tasks.captioning.photos.tables import read_table

SPLITS = {"train": "train", "restval": "train", "val": "validation", "test": "test", "none": None}  # Karpathy's names
_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can escape half a character
LONGEST = 255  # bytes of a file name
COCO_PARTS = ("train2014", "val2014", "train2017", "val2017")  # official files, not splits
TABLES = (".csv", ".tsv", ".txt", ".token")


@dataclasses.dataclass(frozen=True)
class Photo:
    """A photo and its captions.

    Args:
        path: The file.
        captions: At least one.
        split: "train", "validation", "test", "none" (for a photo that the author of the split left out), or None if no
            split is given.
        url: The official address, if it is given.
        size: (width, height) in pixels, if it is given.
    """

    path: pathlib.Path
    captions: tuple[str, ...]
    split: str | None = None
    url: str | None = None
    size: tuple[int, int] | None = None


def read_annotations(file: str | os.PathLike, folder: str | os.PathLike) -> list[Photo]:
    """Reads the photos of a file, in its order, with their captions.

    - COCO's JSON: `images` with `id` and `file_name`, `annotations` with `image_id` and `caption`.
    - Karpathy's JSON: `images` with `filename`, perhaps `filepath`, and `sentences` with `raw`.
    - CSV of two columns: image file, caption; a row for each caption. A first row such as `image,caption` is a header,
      and then captions with commas need no quotes (Flickr8k's `captions.txt`).
    - Lines `a.jpg#0`, tab, caption (`Flickr8k.token.txt`); lines `a.jpg| 0| caption` after a header (Flickr30k's
      `results.csv`).

    In JSON, an image may have a `split`: train, restval, val, test, none, or the name of an official COCO part, which
    is no split. The photos themselves need not exist.

    Args:
        file: `.json`, `.csv`, `.tsv`, `.txt` or `.token`, UTF-8.
        folder: The folder of the photos, to which the file names are relative.

    Raises:
        ValueError: Another format (the message names the missing key or the line), a caption of an image that is not
            listed, an image without a caption, an image listed twice, a file name that leaves the folder.
    """
    file, folder = pathlib.Path(file), pathlib.Path(folder)
    lk.utils.require_choice("suffix of the annotations", file.suffix.lower(), (".json", *TABLES))
    photos = _read_json(file, folder) if file.suffix.lower() == ".json" else _read_table(file, folder)
    lk.utils.require(bool(photos), "annotations", "a file with captions", str(file))
    names = [str(photo.path.relative_to(folder)) for photo in photos]
    twice = [name for name, count in collections.Counter(names).items() if count > 1]
    _reject(twice, f"every image of {file} to be listed once", "listed more often")
    empty = [name for name, photo in zip(names, photos, strict=True) if not photo.captions]
    _reject(empty, f"every image of {file} to have a caption", "without one")
    return photos


def _reject(names: list[str], expected: str, what: str) -> None:
    if names:
        raise lk.utils.ArgumentError(f"Expected {expected}. Received: {len(names)} {what}: {lk.utils.listed(names)}")


def _inside(folder: pathlib.Path, name: str, file: pathlib.Path) -> pathlib.Path:
    path = pathlib.PurePath(name)
    if not name or path.is_absolute() or ".." in path.parts:
        raise lk.utils.ArgumentError(
            f"Expected the file names in {file} to stay within their folder. Received: {name!r}"
        )
    if "\0" in name or any(len(part.encode(errors="replace")) > LONGEST for part in path.parts):
        raise lk.utils.ArgumentError(f"Expected the file names in {file} to be possible. Received: {name[:80]!r}")
    return folder / path


# ---- tables


def _read_table(file: pathlib.Path, folder: pathlib.Path) -> list[Photo]:
    captions = collections.defaultdict(list)
    for name, caption in read_table(file):
        captions[name].append(caption)
    return [Photo(_inside(folder, name, file), _clean(texts)) for name, texts in captions.items()]


def _clean(texts: list[str]) -> tuple[str, ...]:
    """The captions that have a letter or a digit."""
    return tuple(text.strip() for text in texts if any(map(str.isalnum, text)))


# ---- JSON


def _read_json(file: pathlib.Path, folder: pathlib.Path) -> list[Photo]:
    text = lk.text.read_text(file)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise lk.utils.ArgumentError(f"Expected {file} to be JSON. Received: {error}") from error
    images = _list(document, "images", file)
    if any("sentences" in image for image in images):
        return [_karpathy_photo(image, folder, file) for image in images]
    return _coco_photos(images, _list(document, "annotations", file), folder, file)


def _list(document: Any, key: str, file: pathlib.Path) -> list[dict]:
    if not isinstance(document, dict) or key not in document:
        there = ", ".join(document) if isinstance(document, dict) else f"a {type(document).__name__}"
        raise lk.utils.ArgumentError(
            f'Expected {file} to have the key "{key}" (COCO: "images" and "annotations"; Karpathy: "images" with '
            f'"sentences"). Received: {there or "no keys"}'
        )
    entries = document[key]
    good = isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)
    lk.utils.require(good, key, f"a list of objects in {file}", type(entries).__name__)
    return entries


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


def _karpathy_photo(image: dict, folder: pathlib.Path, file: pathlib.Path) -> Photo:
    where = f"every image in {file}"
    place = _get(image, "filepath", str, where) if image.get("filepath") else ""
    name = os.path.join(place, _get(image, "filename", str, where))
    texts = [_get(s, "raw", str, f"every sentence in {file}") for s in _get(image, "sentences", list, where)]
    return Photo(_inside(folder, name, file), _clean(texts), _split(image, file))


def _coco_photos(images: list[dict], annotations: list[dict], folder: pathlib.Path, file: pathlib.Path) -> list[Photo]:
    captions = collections.defaultdict(list)
    for entry in annotations:
        where = f"every annotation in {file}"
        captions[_get(entry, "image_id", (int, str), where)].append(_get(entry, "caption", str, where))
    ids = [_get(image, "id", (int, str), f"every image in {file}") for image in images]
    known = set(ids)
    missing = [str(number) for number in captions if number not in known]
    _reject(missing, f"every caption in {file} to have its image in `images`", "image ids without")
    return [_coco_photo(image, captions[number], folder, file) for number, image in zip(ids, images, strict=True)]


def _coco_photo(image: dict, texts: list[str], folder: pathlib.Path, file: pathlib.Path) -> Photo:
    where = f"every image in {file}"
    path = _inside(folder, _get(image, "file_name", str, where), file)
    sides = {"width", "height"} <= set(image)
    size = (_get(image, "width", int, where), _get(image, "height", int, where)) if sides else None
    return Photo(path, _clean(texts), _split(image, file), image.get("coco_url"), size)
