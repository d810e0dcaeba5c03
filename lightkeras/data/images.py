"""Images from outside: the images in a folder, and any file that Pillow reads as a picture of eight bits."""

import functools
import os
import pathlib
from collections.abc import Iterable
from typing import IO

import numpy as np
from PIL import Image, ImageOps

from lightkeras.utils.checks import ArgumentError, lightkeras_error, listed
from lightkeras.utils.messages import logger
from lightkeras.utils.paths import local_path

SKIPPED = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found"}  # written by archivers and operating systems
UNSUPPORTED = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}  # other programs draw these; EPS would run one
GREY = ("1", "L", "LA", "La")  # Pillow's modes without colour


class ImageError(ArgumentError):
    """A file that is no image, or a damaged one.

    Args:
        photo: The file.
        reason: Why it cannot be read.

    Attributes:
        reason: The same.
    """

    def __init__(self, photo: object, reason: object):
        self.reason = " ".join(str(reason).split()) or type(reason).__name__
        super().__init__(f"Expected {photo} to be an image. Received: {self.reason}")


def open_image(photo: str | os.PathLike | IO[bytes] | Image.Image, least_side: int | None = None) -> Image.Image:
    """Reads an image as it is meant to be seen: mode "L" if it has no colour, else "RGB".

    Turns it upright by its EXIF tag. Scales 16 bits to 8, converts palettes and CMYK, makes transparent pixels white,
    and takes the first picture of an animation.

    Args:
        photo: A file, open or its path, of any format that Pillow reads by itself; or a picture that Pillow has opened.
        least_side: Pixels of a side that are enough: a larger JPEG file is decoded at a fraction of its size, which is
            faster. None for the whole size.

    Raises:
        FileNotFoundError: There is no such file.
        ImageError: The file is no image, or is damaged, or its pixels have an unknown range.
    """
    try:
        if isinstance(photo, Image.Image):
            return _convert(photo)
        source = local_path(photo) if isinstance(photo, str | os.PathLike) else photo
        with Image.open(source, formats=_formats()) as opened:
            if least_side:
                opened.draft(None, (least_side, least_side))
            return _convert(opened)
    except FileNotFoundError as error:
        raise lightkeras_error(FileNotFoundError)(
            f"Expected an image file. Received: {photo}, which is missing"
        ) from error
    except Exception as error:  # damaged files make Pillow's decoders raise errors of any kind
        raise ImageError(photo, error) from error


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(sorted(set(Image.OPEN) - UNSUPPORTED))


def _convert(picture: Image.Image) -> Image.Image:
    """Converts to "L" or "RGB", upright."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):
        return _scale_sixteen_bits(picture)
    if picture.mode == "F":
        raise ValueError("pixels are floating-point numbers of unknown range")
    mode = "L" if picture.mode in GREY else "RGB"
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert(mode)


def _scale_sixteen_bits(picture: Image.Image) -> Image.Image:
    levels = np.asarray(picture).astype(np.int64)  # (height, width); Pillow reads some of 16 bits as 32
    if levels.min() < 0 or levels.max() > 65535:
        raise ValueError(f"pixels are integers from {levels.min()} to {levels.max()}, of unknown range")
    return Image.fromarray((levels // 257).astype(np.uint8))


# ---- folders


def find_images(folder: str | os.PathLike) -> list[pathlib.Path]:
    """Finds the images in a folder and its subfolders, sorted by path.

    Hidden files and folders are left out, and those that archivers and operating systems write (`__MACOSX`). A file
    whose suffix is none of an image is taken if its content is an image. A message counts and names what is left out.
    """
    folder, found, hidden, others, seen = pathlib.Path(folder), [], [], [], set()
    for place, folders, files in os.walk(folder, followlinks=True):
        inside, real = pathlib.Path(place), os.path.realpath(place)
        if real in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add(real)
        hidden += [f"{inside / name}/" for name in folders if _is_hidden(name)]
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        for path in (inside / name for name in files):
            kind = hidden if _is_hidden(path.name) else found if _is_image(path) else others
            kind.append(path)
    counted = [(hidden, "hidden"), (others, "without an image")]
    left_out = [f"{len(paths)} {what} ({listed(_names(folder, paths))})" for paths, what in counted if paths]
    if left_out:
        logger.info("Left out of %s: %s", folder, "; ".join(left_out))
    return sorted(found)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in SKIPPED


def _is_image(path: pathlib.Path) -> bool:
    """Whether it is to be an image, by its suffix or else by its content; a damaged one is an image too."""
    if not path.is_file():  # a link to nothing
        return False
    if Image.registered_extensions().get(path.suffix.lower()) in _formats():
        return True
    try:
        with Image.open(path, formats=_formats()):
            return True
    except Exception:  # as in `open_image`
        return False


def _names(folder: pathlib.Path, paths: Iterable[str | pathlib.Path]) -> list[str]:
    return sorted(os.path.relpath(path, folder) + "/" * str(path).endswith("/") for path in paths)
