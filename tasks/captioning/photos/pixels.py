"""Photos of any size and mode as squares of uint8 RGB pixels."""

import os

import numpy as np
from PIL import Image

import lightkeras as lk


def read_image(photo: str | os.PathLike | Image.Image, size: int) -> np.ndarray:
    """Reads a photo, a file or an open picture, by `lk.data.open_image` as uint8 RGB (size, size, 3).

    Resizes it to the square, whatever its aspect, so that nothing is cut off. A large JPEG file is decoded at a
    fraction of its size, no less than twice `size`.

    Raises:
        FileNotFoundError, lk.data.ImageError: See `lk.data.open_image`.
    """
    return np.asarray(_rgb(photo, size).resize((size, size), Image.Resampling.BILINEAR))


def read_photo(photo: str | os.PathLike | Image.Image, size: int) -> np.ndarray:
    """Reads a photo like `read_image`, but keeps its proportions: uint8 (height, width, 3), the larger one `size`."""
    whole = _rgb(photo, size)
    scale = size / max(whole.size)
    shape = [max(1, round(side * scale)) for side in whole.size]  # a panorama may be very flat
    return np.asarray(whole.resize(shape, Image.Resampling.BILINEAR))


def _rgb(photo: str | os.PathLike | Image.Image, size: int) -> Image.Image:
    return lk.data.open_image(photo, 2 * size).convert("RGB")  # twice the size, so that the resizing still averages
