"""A picture of the attention of a translation."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from matplotlib.figure import Figure

import lightkeras as lk

CELL = 0.42  # inches
MARGIN = 1.6  # inches for the words


def write_attention(path: Path | BinaryIO, source: list[str], target: list[str], weights: np.ndarray) -> None:
    """Writes a heat map as a PNG file: a column for each word of the source, a row for each word of the translation.

    Args:
        path: The file, or what to write it to.
        source: The source's words (slots,).
        target: The translation's words (steps,).
        weights: Attention (steps, slots), from 0 (white) to 1 (black).
    """
    source, target = ([word.replace(lk.text.JOIN, "") for word in words] for words in (source, target))  # not in fonts
    size = (MARGIN + CELL * len(source), MARGIN + CELL * len(target))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.imshow(weights, cmap="Greys", vmin=0.0, vmax=1.0, aspect="equal")
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(source)), source, rotation=90, parse_math=False)
    axes.set_yticks(range(len(target)), target, parse_math=False)
    axes.tick_params(length=0)
    figure.savefig(path, dpi=120)
