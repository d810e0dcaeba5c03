"""Photos of any size and mode as squares of uint8 RGB pixels."""

import os
import struct

import numpy as np
from PIL import Image, ImageOps

UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
"""The errors of reading a file that is no photo, or a damaged one."""


def read_image(photo: str | os.PathLike | Image.Image, size: int) -> np.ndarray:
    """Reads a photo, a file or an open picture, as uint8 RGB (size, size, 3).

    Turns it upright by its EXIF tag and resizes it to the square, whatever its aspect, so that nothing is cut off.
    Converts grey, CMYK, palette and 16-bit photos; makes transparent pixels white; takes the first picture of an
    animation. A large JPEG file is decoded at a fraction of its size.

    Raises:
        OSError, SyntaxError, ValueError, EOFError, struct.error, DecompressionBombError: No photo, or a damaged one
            (`UNREADABLE` lists these errors).
    """
    return np.asarray(_upright(photo, size).resize((size, size), Image.Resampling.BILINEAR))


def read_photo(photo: str | os.PathLike | Image.Image, size: int) -> np.ndarray:
    """Reads a photo like `read_image`, but keeps its proportions: uint8 (height, width, 3), the larger one `size`."""
    upright = _upright(photo, size)
    scale = size / max(upright.size)
    shape = [max(1, round(side * scale)) for side in upright.size]  # a panorama may be very flat
    return np.asarray(upright.resize(shape, Image.Resampling.BILINEAR))


def _upright(photo: str | os.PathLike | Image.Image, size: int) -> Image.Image:
    """The photo in RGB, turned by its EXIF tag; a file may be shrunk, to no less than twice `size`."""
    if isinstance(photo, Image.Image):
        return _rgb(ImageOps.exif_transpose(photo))
    with Image.open(photo) as opened:
        opened.draft(None, (2 * size, 2 * size))  # twice the size, so that the final resizing still averages
        return _rgb(ImageOps.exif_transpose(opened))


def _rgb(photo: Image.Image) -> Image.Image:
    if photo.has_transparency_data:
        photo = photo.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo).convert("RGB")
    if photo.mode.startswith("I"):  # 16 bits; Pillow reads some of them as 32
        levels = np.clip(np.asarray(photo, np.int64), 0, 65535)  # (height, width)
        return Image.fromarray((levels // 257).astype(np.uint8)).convert("RGB")
    if photo.mode == "F":
        raise ValueError("pixels are floating-point numbers of unknown range")
    return photo.convert("RGB")
