"""Draws images as a PNG grid, and grids as an animation."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

PADDING = 2  # pixels between the images of a grid
FRAME = 300  # milliseconds
LAST_FRAME = 2000  # milliseconds
MIN_SIDE = 512  # pixels; a smaller grid is enlarged by a whole factor


def make_grid(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Puts images uint8 (n, height, width, channels) into rows: uint8 (height, width, channels).

    Args:
        images: The images.
        columns: Images in a row; None for nearly a square.
    """
    n, height, width, channels = images.shape
    columns = columns or int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    blank = np.zeros((rows * columns - n, height, width, channels), np.uint8)
    framed = np.pad(np.concatenate([images, blank]), ((0, 0), (0, PADDING), (0, PADDING), (0, 0)))
    framed = framed.reshape(rows, columns, height + PADDING, width + PADDING, channels)
    whole = framed.swapaxes(1, 2).reshape(rows * (height + PADDING), columns * (width + PADDING), channels)
    return np.pad(whole, ((PADDING, 0), (PADDING, 0), (0, 0)))


def write_grid(path: Path | BinaryIO, images: np.ndarray, columns: int | None = None) -> None:
    """Writes a grid of images uint8 (n, height, width, channels) as a PNG file, enlarged if it is small."""
    whole = make_grid(images, columns)
    factor = max(1, MIN_SIDE // max(whole.shape[:2]))
    whole = whole.repeat(factor, axis=0).repeat(factor, axis=1)
    Image.fromarray(whole.squeeze()).save(path, format="PNG")


def write_animation(path: Path, frames: list[Path]) -> None:
    """Writes a GIF that shows PNG files of one size, one after the other, in an endless loop."""
    pictures = []
    for frame in frames:
        with Image.open(frame) as picture:
            pictures.append(picture.copy())
    times = [FRAME] * (len(pictures) - 1) + [LAST_FRAME]
    pictures[0].save(path, format="GIF", save_all=True, append_images=pictures[1:], duration=times, loop=0)
