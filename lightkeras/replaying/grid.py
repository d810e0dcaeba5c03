"""Pictures of a batch side by side: in the terminal, or in a PNG file."""

import math
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from rich.console import Console
from rich.text import Text

from lightkeras.preview.pictures import draw_colours, draw_shades, is_picture, to_pixels

COLUMNS = 16  # of a picture in the terminal
SIDE, LABEL = 64, 12  # pixels of a picture in a file, and of the number above it


def pictures_of(shown: Any) -> list[np.ndarray]:
    """Returns the pictures in what `show_example` returned."""
    if isinstance(shown, dict):
        return pictures_of(list(shown.values()))
    if isinstance(shown, list | tuple):
        return [one for part in shown for one in pictures_of(part)]
    return [shown] if isinstance(shown, np.ndarray) and is_picture(shown) else []


def without_pictures(shown: Any) -> Any:
    """Returns what `show_example` returned without its pictures."""
    if isinstance(shown, dict):
        return {name: without_pictures(one) for name, one in shown.items() if not pictures_of(one)}
    if isinstance(shown, list | tuple):
        return [without_pictures(one) for one in shown if not pictures_of(one)]
    return "" if pictures_of(shown) else shown


def draw_grid(pictures: dict[int, np.ndarray], console: Console, width: int) -> Iterator[Text]:
    """Draws pictures side by side, each under the number of its row."""
    coloured = console.color_system in ("truecolor", "256") and console.encoding.startswith("utf")
    beside = max(1, width // (COLUMNS + 2))
    rows = list(pictures)
    for begin in range(0, len(rows), beside):
        some = rows[begin : begin + beside]
        yield Text("".join(f"row {row}".ljust(COLUMNS + 2) for row in some))
        drawn = []
        for row in some:
            pixels = to_pixels(pictures[row], COLUMNS)
            drawn.append(list((draw_colours if coloured else draw_shades)(pixels).split("\n", allow_blank=True)))
        for place in range(max(map(len, drawn))):
            line = Text()
            for one in drawn:
                part = one[place].copy() if place < len(one) else Text()
                part.pad_right(COLUMNS + 2 - part.cell_len)
                line += part
            yield line


def save_grid(path: pathlib.Path, pictures: dict[int, np.ndarray], far: set[int]) -> None:
    """Writes a PNG file of pictures under the numbers of their rows; those of `far` rows are red."""
    beside = math.ceil(math.sqrt(len(pictures)))
    size = (beside * (SIDE + 4), math.ceil(len(pictures) / beside) * (SIDE + LABEL + 4))
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    for place, (row, picture) in enumerate(pictures.items()):
        left, top = place % beside * (SIDE + 4) + 2, place // beside * (SIDE + LABEL + 4) + 2
        draw.text((left, top), f"{row} !" if row in far else str(row), fill="red" if row in far else "black")
        image = Image.fromarray(to_pixels(picture, SIDE)).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        page.paste(image, (left, top + LABEL))
    page.save(path)
