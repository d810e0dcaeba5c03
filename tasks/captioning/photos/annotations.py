"""Annotation files, which list the captions of each photo: COCO's JSON, Karpathy's JSON, and CSV."""

import collections
import csv
import dataclasses
import io
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import lightkeras as lk

SPLITS = {"train": "train", "restval": "train", "val": "validation", "test": "test", "none": None}  # Karpathy's names
COCO_PARTS = ("train2014", "val2014", "train2017", "val2017")  # official files, not splits
CSV_HEADERS = ("image", "image_name", "image_file", "file", "file_name", "filename", "photo")


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
    - CSV of two columns: image file, caption; a row for each caption. A first row such as `image,caption` is a header.

    In JSON, an image may have a `split`: train, restval, val, test, none, or the name of an official COCO part, which
    is no split. The photos themselves need not exist.

    Args:
        file: `.json` or `.csv`, UTF-8.
        folder: The folder of the photos, to which the file names are relative.

    Raises:
        ValueError: Another format (the message names the missing key or the line), a caption of an image that is not
            listed, an image without a caption, an image listed twice, a file name that leaves the folder.
    """
    file, folder = pathlib.Path(file), pathlib.Path(folder)
    lk.utils.require_choice("suffix of the annotations", file.suffix.lower(), (".json", ".csv"))
    photos = _read_csv(file, folder) if file.suffix.lower() == ".csv" else _read_json(file, folder)
    lk.utils.require(bool(photos), "annotations", "a file with captions", str(file))
    names = [str(photo.path.relative_to(folder)) for photo in photos]
    twice = [name for name, count in collections.Counter(names).items() if count > 1]
    _reject(twice, f"every image of {file} to be listed once", "listed more often")
    empty = [name for name, photo in zip(names, photos, strict=True) if not photo.captions]
    _reject(empty, f"every image of {file} to have a caption", "without one")
    return photos


def _reject(names: list[str], expected: str, what: str) -> None:
    if names:
        raise lk.utils.ArgumentError(f"Expected {expected}. Received: {len(names)} {what}: {listed(names)}")


def listed(names: list[str]) -> str:
    """Joins the first five names, and counts the others."""
    return ", ".join(names[:5]) + (f", and {len(names) - 5} more" if len(names) > 5 else "")


def _inside(folder: pathlib.Path, name: str, file: pathlib.Path) -> pathlib.Path:
    path = pathlib.PurePath(name)
    if not name or path.is_absolute() or ".." in path.parts:
        raise lk.utils.ArgumentError(
            f"Expected the file names in {file} to stay within their folder. Received: {name!r}"
        )
    return folder / path


# ---- CSV


def _read_csv(file: pathlib.Path, folder: pathlib.Path) -> list[Photo]:
    captions = collections.defaultdict(list)
    for line, row in _csv_rows(file):
        header = line == 1 and row[0].strip().lower() in CSV_HEADERS
        if not header:
            if len(row) != 2:
                raise lk.utils.ArgumentError(
                    f"Expected two columns in {file}, an image file and a caption (in quotes where it has a comma). "
                    f"Received: {len(row)} in line {line}"
                )
            captions[row[0].strip()].append(row[1])
    return [Photo(_inside(folder, name, file), _clean(texts)) for name, texts in captions.items()]


def _csv_rows(file: pathlib.Path) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty, each with the line in which it ends."""
    rows = csv.reader(io.StringIO(lk.text.read_text(file), newline=""), strict=True)  # or an open quote eats rows
    try:
        for row in rows:
            if row:
                yield rows.line_num, row
    except csv.Error as error:
        raise lk.utils.ArgumentError(f"Expected {file} to be CSV. Received: {error} in line {rows.line_num}") from error


def _clean(texts: list[str]) -> tuple[str, ...]:
    """The captions that have a letter or a digit."""
    return tuple(text.strip() for text in texts if any(map(str.isalnum, text)))


# ---- JSON


def _read_json(file: pathlib.Path, folder: pathlib.Path) -> list[Photo]:
    try:
        document = json.loads(lk.text.read_text(file))
    except json.JSONDecodeError as error:
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
    return entry[key]


def _split(image: dict, file: pathlib.Path) -> str | None:
    name = image.get("split")
    if name is None or name in COCO_PARTS:
        return None
    lk.utils.require_choice(f"split of an image in {file}", name, (*SPLITS, *COCO_PARTS))
    return SPLITS[name] or "none"


def _karpathy_photo(image: dict, folder: pathlib.Path, file: pathlib.Path) -> Photo:
    where = f"every image in {file}"
    name = os.path.join(image.get("filepath") or "", _get(image, "filename", str, where))
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
    path = _inside(folder, _get(image, "file_name", str, f"every image in {file}"), file)
    size = (image["width"], image["height"]) if "width" in image and "height" in image else None
    return Photo(path, _clean(texts), _split(image, file), image.get("coco_url"), size)
