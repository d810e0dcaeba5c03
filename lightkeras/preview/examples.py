"""Examples of the training data as people read them."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from lightkeras.data.batched import BatchedDataset
from lightkeras.data.batches import named_entries, weights_of
from lightkeras.preview.pictures import WIDTH, draw_colours, draw_shades, is_picture, to_pixels
from lightkeras.utils.terminal import to_shown

LINES, NUMBERS = 6, 8  # of a text, and of an array


def read_examples(dataset: BatchedDataset, seed: int, count: int = 3) -> list[dict[str, Any]]:
    """Returns the first examples that a run with this seed sees: NumPy arrays and strings by name, without weights."""
    (batch,) = dataset.stream(seed, steps=1, epochs=1).take(1)
    return examples_of(batch, np.flatnonzero(weights_of(batch))[:count].tolist())


def examples_of(batch: Any, rows: Iterable[int]) -> list[dict[str, Any]]:
    """Returns the entries of some rows of a batch by name, without weights: NumPy arrays and strings."""
    entries = {name: np.asarray(one) for name, one in named_entries(batch).items() if not name.endswith("weight")}
    return [{name: one[row] for name, one in entries.items()} for row in rows]


def draw_example(shown: Any, console: Console, width: int) -> list[Text]:
    """Returns the lines of what a data module's `show_example` returned."""
    if isinstance(shown, dict):
        return [line for name, one in shown.items() for line in _name(name, draw_example(one, console, width))]
    if isinstance(shown, list | tuple):
        return [line for one in shown for line in draw_example(one, console, width)]
    if isinstance(shown, np.ndarray) and is_picture(shown):
        return _draw_picture(shown, console, width)
    return _cut(_write(shown), console, width)


def _name(name: str, lines: list[Text]) -> list[Text]:
    """Puts the name before a single line, or above several."""
    return [Text(f"{name}: ") + lines[0]] if len(lines) == 1 else [Text(f"{name}:"), *lines]


def _draw_picture(picture: np.ndarray, console: Console, width: int) -> list[Text]:
    coloured = console.color_system in ("truecolor", "256") and console.encoding.startswith("utf")
    pixels = to_pixels(picture, min(width, WIDTH))
    return list((draw_colours if coloured else draw_shades)(pixels).split("\n", allow_blank=True))


def _write(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if not isinstance(value, np.ndarray | np.generic):
        return str(value)
    if value.dtype.kind in "SUO" and value.ndim == 0:
        return _write(value.item())
    flat = [f"{one:.4g}" if isinstance(one, float) else str(one) for one in value.ravel()[:NUMBERS].tolist()]
    if value.ndim == 0:
        return flat[0]
    more = " ..." if value.size > NUMBERS else ""
    return f"{value.dtype} {tuple(value.shape)}: {' '.join(flat)}{more}"


def _cut(text: str, console: Console, width: int) -> list[Text]:
    """Wraps a text, and keeps the first lines."""
    parts = [Text(to_shown(console.file, one)) for one in text.splitlines() or [""]]
    lines = [line for part in parts for line in part.wrap(console, width)]
    for line in lines:
        line.rstrip()
    return [*lines[:LINES], *([Text("...")] if len(lines) > LINES else [])]
