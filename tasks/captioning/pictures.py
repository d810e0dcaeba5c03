"""A photo, and where its caption's words looked."""

import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

COLUMNS = 5
PANEL = 2.2  # inches of a panel's width
FLATTEST = 0.4  # a panel's height, as a share of its width
TITLE = 0.45  # inches above a panel
DARKEST = 0.15  # what is left of the brightness where nobody looked


def write_attention(path: Path, photo: np.ndarray, words: list[str], weights: np.ndarray) -> None:
    """Writes a PNG file: the photo, and for each word the photo again, dark where the word did not look.

    Args:
        path: The file.
        photo: uint8 (height, width, 3).
        words: The caption's words (steps,).
        weights: Attention (steps, slots), the slots those of a square grid stretched over the photo, row by row.
    """
    panels = [photo, *(lit(photo, one) for one in weights)]
    rows = math.ceil(len(panels) / COLUMNS)
    height = PANEL * min(1.0, max(FLATTEST, photo.shape[0] / photo.shape[1]))
    figure = Figure(figsize=(PANEL * COLUMNS, (height + TITLE) * rows), layout="constrained")
    for place, axes in enumerate(figure.subplots(rows, COLUMNS, squeeze=False).flat):
        axes.axis("off")
        if place < len(panels):
            axes.imshow(panels[place])
            axes.set_title(["", *words][place], parse_math=False, fontsize=13)
    figure.savefig(path, dpi=100)


def lit(photo: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The photo, uint8 (height, width, 3), as bright as the weights (slots,) are high: as it is at the highest."""
    height, width, _ = photo.shape
    light = spread(weights, height, width)[:, :, None]
    return np.round(photo * (DARKEST + (1 - DARKEST) * light / light.max())).astype(np.uint8)


def spread(weights: np.ndarray, height: int, width: int) -> np.ndarray:
    """Weights (slots,) of a square grid as a smooth float32 (height, width) over the picture, none below 0.

    Raises:
        ValueError: The slots are not those of a square grid.
    """
    side = math.isqrt(len(weights))
    if side**2 != len(weights):
        raise ValueError(f"Expected the slots of a square grid. Received: {len(weights)} slots")
    grid = Image.fromarray(np.asarray(weights, np.float32).reshape(side, side))
    return np.maximum(np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC)), 0.0)
