"""The sources of captioned photos: official COCO files, folders in `LIGHTKERAS_DATA`, files of your own."""

import concurrent.futures
import http.client
import io
import itertools
import os
import pathlib
import sys
import urllib.request
import warnings
from collections.abc import Callable

import numpy as np
from rich import progress

import lightkeras as lk
from tasks.captioning.photos.annotations import TABLES
from tasks.captioning.photos.encoding import SPLITS, is_first, open_table
from tasks.captioning.photos.photo_list import Photo, PhotoList
from tasks.captioning.photos.tables import find_layout

COCO = "http://images.cocodataset.org"
TIMEOUT = 30.0  # seconds without a byte
CONNECTIONS = 16
SOME = 20  # photos that are looked for to find their folder


def _annotations(year: int, size: int, checksum: str) -> lk.data.Download:
    return lk.data.Download(
        url=f"{COCO}/annotations/annotations_trainval{year}.zip", size=size, checksum=f"sha256:{checksum}",
        folder="coco", name=f"annotations/captions_train{year}.json", member=f"annotations/captions_train{year}.json",
    )  # fmt: skip


def _photos(year: int, size: int, checksum: str) -> lk.data.Download:
    return lk.data.Download(
        url=f"{COCO}/zips/train{year}.zip", size=size, checksum=f"sha256:{checksum}",
        folder="coco", name=f"train{year}", member=f"train{year}",
    )  # fmt: skip


EDITIONS = {  # checksums as in TensorFlow Datasets (url_checksums/coco.txt)
    "download": (
        _annotations(2014, 252_872_794, "031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009"),
        _photos(2014, 13_510_573_713, "ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775"),
    ),
    "download-2017": (
        _annotations(2017, 252_907_541, "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268"),
        _photos(2017, 19_336_861_798, "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929"),
    ),
}
SUBSETS = {  # in `LIGHTKERAS_DATA`
    "coco": "coco/annotations/captions_subset.json",
    "flickr8k": "flickr8k/annotations/captions_flickr8k_1k.json",
}
BOTH = "coco+flickr8k"


def find_photos(source: str, image_folder: str | None, max_images: int | None, skip_missing: bool) -> PhotoList:
    """Finds the photos of a source; all of them exist. Their order is fixed and independent of their contents.

    `max_images` takes the first of that order. Photos with the split "none" are left out.

    Args:
        source: An argument of `CaptionData`, except "sample".
        image_folder: An argument of `CaptionData`.
        max_images: An argument of `CaptionData`.
        skip_missing: Whether to leave out missing photos, with a warning that counts them.

    Raises:
        ValueError: No such source, invalid annotations, or missing photos.
        DownloadError: An official file is neither present nor available.
    """
    if source in EDITIONS:
        return _downloaded(source, max_images)
    photos = _listed(source, image_folder)
    chosen = photos.chosen(photos.splits != SPLITS.index("none")).in_order()[:max_images]
    is_there = np.fromiter((path.is_file() for path in chosen.paths), bool, len(chosen))
    missing = chosen.chosen(~is_there).paths
    if len(missing) and not skip_missing:
        raise lk.utils.ArgumentError(
            f"Expected every photo to exist, or skip_corrupt=True to leave the others out. Received: "
            f"{len(missing)} of {len(chosen)} missing: {lk.utils.listed(list(map(str, missing)))}"
        )
    if len(missing):
        warnings.warn(f"Left out {len(missing)} of {len(chosen)} photos that are missing", stacklevel=2)
    lk.utils.require(bool(is_there.any()), "source", "photos with captions", source)
    return chosen.chosen(is_there)


def _listed(source: str, image_folder: str | None) -> PhotoList:
    def find_folder(file: pathlib.Path, some: list[pathlib.Path]) -> pathlib.Path:
        return _image_folder(file, image_folder if source != BOTH else None, some)

    if source != BOTH:
        file = _subset(source) if source in SUBSETS else _annotation_file(lk.utils.local_path(source))
        return open_photos([file], find_folder)
    photos = open_photos(list(map(_subset, SUBSETS)), find_folder)
    is_coco = photos.numbers < photos.table.bounds[1]  # few photos without a split: all are for training
    photos.table.keys["split"][photos.numbers[is_coco]] = SPLITS.index("train")
    return photos.chosen(slice(None))


def open_photos(
    files: list[pathlib.Path], find_folder: Callable[[pathlib.Path, list[pathlib.Path]], pathlib.Path]
) -> PhotoList:
    """Reads annotation files, each image once; see `read_records` and `open_table`.

    Args:
        files: The files.
        find_folder: Finds the folder of the photos of a file, of which some photos are named.
    """
    table = open_table(files)
    numbers = np.flatnonzero(is_first(table.keys["key"]))
    bare = PhotoList(table, [pathlib.Path()] * len(files), numbers)
    starts = np.searchsorted(numbers, table.bounds).tolist()
    some = [bare.paths[start : min(start + SOME, end)] for start, end in itertools.pairwise(starts)]
    return PhotoList(table, list(map(find_folder, files, some)), numbers)


def _subset(source: str) -> pathlib.Path:
    root = os.environ.get("LIGHTKERAS_DATA")
    expected = f"set to a folder with {SUBSETS[source]} for source={source!r}"
    lk.utils.require(bool(root), "LIGHTKERAS_DATA", expected, root)
    file = lk.utils.local_path(root) / SUBSETS[source]
    lk.utils.require(file.is_file(), "LIGHTKERAS_DATA", expected, root)
    return file


def _annotation_file(path: pathlib.Path) -> pathlib.Path:
    """`path`, or the only file with captions in it, or else in its subfolders."""
    choices = ", ".join(f'"{name}"' for name in (*EDITIONS, *SUBSETS, BOTH, "sample"))
    lk.utils.require(path.exists(), "source", f"{choices}, or an existing file or folder", str(path))
    if path.is_file():
        return path
    found = _caption_files(path) or [file for folder in _subfolders(path) for file in _caption_files(folder)]
    expected = "a folder with one file with captions (.json, .csv, captions.txt, Flickr8k.token.txt), or that file"
    received = f"{path} with {', '.join(str(f.relative_to(path)) for f in found) or 'none'}"
    lk.utils.require(len(found) == 1, "source", expected, received)
    return found[0]


def _caption_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files in a folder that may have captions; of a text file, the first line decides."""
    files = sorted(path for path in folder.glob("*") if path.is_file() and not path.name.startswith("."))
    files = [path for path in files if path.suffix.lower() in (".json", ".csv") or _has_layout(path)]
    words = [path for path in files if ".lemma." not in path.name]  # Flickr8k has its captions in base forms, too
    return words or files


def _has_layout(path: pathlib.Path) -> bool:
    if path.suffix.lower() not in TABLES:
        return False
    with path.open("rb") as file:
        return find_layout(file.readline(4096).decode("utf-8-sig", "replace")) is not None


def _subfolders(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in folder.glob("*") if os.path.isdir(path) and not path.name.startswith((".", "__")))


def _image_folder(file: pathlib.Path, given: str | None, some: list[pathlib.Path]) -> pathlib.Path:
    """The folder of the photos: `given`, or one near the file, first of all `images`, that has one of `some` photos."""
    if given is not None:
        folder = lk.utils.local_path(given)
        lk.utils.require(folder.is_dir(), "image_folder", "an existing folder", given)
        return folder
    near = [*_subfolders(file.parent), *_subfolders(file.parent.parent)]
    images = [folder for folder in near if folder.name.lower() == "images"]
    choices = [*images, file.parent, *near]
    holding = (folder for folder in choices if any(os.path.isfile(folder / photo) for photo in some))
    return next(holding, choices[0])


# ---- official photos


def _downloaded(source: str, max_images: int | None) -> PhotoList:
    annotations, archive = EDITIONS[source]
    captions = lk.data.find_data("download", annotations)
    own = captions.parent.parent / archive.name  # from an earlier download, or the user's
    if max_images is None or own.is_dir():
        folder = lk.data.find_data("download", archive)
        return open_photos([captions], lambda file, some: folder).in_order()[:max_images]
    folder = lk.utils.cache_folder() / "coco" / f"{archive.name}_some"
    photos = open_photos([captions], lambda file, some: folder).in_order()[:max_images]
    _fetch_each(photos, folder)
    return photos


def _fetch_each(photos: PhotoList, folder: pathlib.Path) -> None:
    """Downloads single photos, except those that exist."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [photo for photo in photos if not photo.path.exists()]
    terminal = sys.stdout.isatty()
    if missing and not terminal:
        lk.utils.logger.info(f"Downloading {len(missing)} photos from {COCO} into {folder}")
    with (
        progress.Progress(disable=not terminal) as bar,
        concurrent.futures.ThreadPoolExecutor(CONNECTIONS) as pool,
    ):
        try:
            for _ in bar.track(pool.map(_fetch, missing), len(missing), description=f"{len(missing)} photos"):
                pass
        finally:
            pool.shutdown(cancel_futures=True)  # do not wait for the rest after an error or Ctrl-C


def _fetch(photo: Photo) -> None:
    """Downloads one photo. It gets its name after it was decoded: single photos have no official checksums."""
    try:
        with urllib.request.urlopen(photo.url, timeout=TIMEOUT) as response:
            content = response.read()
        size = lk.data.open_image(io.BytesIO(content)).size
    except (OSError, lk.data.ImageError, http.client.HTTPException) as error:
        raise lk.data.DownloadError(
            f"Could not download {photo.url} ({error}). The photos so far are kept: call again to resume. Without "
            'the network: use a folder of your own, or source="sample"'
        ) from error
    if photo.size not in (None, size, size[::-1]):  # the official size may be that before it is turned upright
        raise lk.data.DownloadError(f"Expected {photo.url} to have {photo.size} pixels. Received: {size}")
    with lk.utils.write_atomically(photo.path) as partial:
        partial.write_bytes(content)
