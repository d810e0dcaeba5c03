"""A picture of the attention of a caption on its photo."""

import math
from pathlib import Path
from typing import BinaryIO

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

COLUMNS = 5
PANEL_WIDTH = 2.2  # inches
MIN_ASPECT = 0.4  # a panel's height, as a share of its width
TITLE_HEIGHT = 0.45  # inches
MIN_LIGHT = 0.15  # share of the brightness at places without attention


def write_attention(path: Path | BinaryIO, photo: np.ndarray, words: list[str], weights: np.ndarray) -> None:
    """Writes a PNG file: the photo, then for each word the photo again, dark at places without attention.

    Args:
        path: The file, or what to write it to.
        photo: uint8 (height, width, 3).
        words: The caption's words (steps,).
        weights: Attention (steps, slots); the slots form a square grid stretched over the photo, row by row.
    """
    panels = [photo, *(light(photo, one) for one in weights)]
    rows = math.ceil(len(panels) / COLUMNS)
    height = PANEL_WIDTH * min(1.0, max(MIN_ASPECT, photo.shape[0] / photo.shape[1]))
    figure = Figure(figsize=(PANEL_WIDTH * COLUMNS, (height + TITLE_HEIGHT) * rows), layout="constrained")
    for place, axes in enumerate(figure.subplots(rows, COLUMNS, squeeze=False).flat):
        axes.axis("off")
        if place < len(panels):
            axes.imshow(panels[place])
            axes.set_title(["", *words][place], parse_math=False, fontsize=13)
    figure.savefig(path, dpi=100)


def light(photo: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Darkens a photo, uint8 (height, width, 3), where the weights (slots,) are low; full light at the highest."""
    height, width, _ = photo.shape
    mask = spread(weights, height, width)[:, :, None]
    return np.round(photo * (MIN_LIGHT + (1 - MIN_LIGHT) * mask / mask.max())).astype(np.uint8)


def spread(weights: np.ndarray, height: int, width: int) -> np.ndarray:
    """Interpolates weights (slots,) of a square grid to float32 (height, width), none below 0.

    Raises:
        ValueError: The slots do not form a square grid.
    """
    side = math.isqrt(len(weights))
    if side**2 != len(weights):
        raise ValueError(f"Expected the slots of a square grid. Received: {len(weights)} slots")
    grid = Image.fromarray(np.asarray(weights, np.float32).reshape(side, side))
    return np.maximum(np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC)), 0.0)
