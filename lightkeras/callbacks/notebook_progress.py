"""A run in a notebook's cell: the bar, the epochs, curves and the newest sample, which update in place."""

import base64
import html
import importlib
import math
import sys
from pathlib import Path

from rich.console import Console

from lightkeras.callbacks.epoch_line import order_metrics
from lightkeras.callbacks.log_values import numbers_of
from lightkeras.callbacks.progress import ProgressBar
from lightkeras.callbacks.validation import Validation
from lightkeras.utils.paths import as_local
from lightkeras.utils.terminal import MAX_COLUMNS, Part

LINES, CURVES = 12, 3  # the newest lines, and the curves, that are shown
COLOURS = ("#3b82f6", "#f97316", "#10b981")  # seen on white and on black
WIDTH, HEIGHT = 560, 140  # of the curves, pixels
PICTURES = {".png": "png", ".gif": "gif", ".jpg": "jpeg"}


def in_notebook() -> bool:
    """Returns whether a Jupyter kernel runs this code: a notebook, a lab, Colab."""
    shell = sys.modules.get("IPython")
    running = shell.get_ipython() if shell else None
    return running is not None and "IPKernelApp" in getattr(running, "config", {})


class NotebookProgress(ProgressBar):
    """Shows the run in the cell's output. The Trainer takes it in place of `ProgressBar` in a notebook.

    Beneath the bar and the lines of the epochs are curves of the metrics that are worth a line, over the updates, and
    the newest sample of the task, if it writes any. The output stays when the run has ended, and is saved with it.

    Args:
        refresh: Seconds between two updates of the output.
    """

    def __init__(self, refresh: float = 1.0):
        super().__init__(refresh=refresh)
        self._handle = None
        self._lines: list[str] = []
        self._curves: dict[str, list[tuple[int, float]]] = {}
        self._sample = ""

    def on_log(self, record):
        super().on_log(record)
        self._remember(record)

    def on_validation_end(self, record):
        self._remember(record)

    def _remember(self, record: dict) -> None:
        for name, value in numbers_of(record).items():
            if math.isfinite(value):
                self._curves.setdefault(name, []).append((record["step"], float(value)))

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        self._sample = self._draw_sample()  # that the epoch before has written
        self.refresh_display()

    # ---- the display

    def open_display(self) -> None:
        """Makes the cell's output."""
        self._lines, self._curves, self._sample = [], {}, ""
        self.show_on(Console(width=MAX_COLUMNS))
        display = importlib.import_module("IPython.display").display
        self._handle = display(self._bundle(), raw=True, display_id=True)

    @property
    def is_live(self) -> bool:
        """Whether the output is being updated."""
        return self._handle is not None

    def show_line(self, parts: list[Part]) -> None:
        """Adds a line to the output."""
        self._lines.append(str(self.fit(parts, MAX_COLUMNS)))
        self.refresh_display()

    def refresh_display(self) -> None:
        """Draws the output again."""
        if self._handle:
            self._handle.update(self._bundle(), raw=True)

    def close_display(self) -> None:
        """Draws the output a last time."""
        self._sample = self._draw_sample()
        self.refresh_display()
        self._handle = None

    def _bundle(self) -> dict[str, str]:
        """Makes the output: HTML, and the lines as plain text for what shows none."""
        over = bool(self.model.total_steps) and self.model.global_step >= self.model.total_steps
        bar = "" if over else str(self.draw())
        lines = "\n".join([*self._lines[-LINES:], *([bar] if bar else [])])
        page = (
            f'<pre style="margin:0;font-family:monospace">{html.escape(lines)}</pre>{self._draw_curves()}{self._sample}'
        )
        return {"text/html": f"<div>{page}</div>", "text/plain": lines}

    def _draw_curves(self) -> str:
        sets = [c for c in self.run.callbacks.callbacks if isinstance(c, Validation)]
        names = [name for one in sets for name in one.set_names]
        order = order_metrics(self._curves, self.model.shown_metrics, names, self.best_name)
        return draw_curves({name: self._curves[name] for name in order[:CURVES] if len(self._curves[name]) > 1})

    def _draw_sample(self) -> str:
        if not self.run.folder or not self.model.writes_samples:
            return ""
        with as_local(self.run.folder / "samples") as folder:
            found = sorted(path for path in Path(folder).glob("epoch_*") if path.suffix in (".txt", *PICTURES))
            return draw_sample(found[-1]) if found else ""


def draw_sample(path: Path) -> str:
    """Returns the HTML of a sample's file: a text, escaped, or a picture."""
    if path.suffix == ".txt":
        text = html.escape(path.read_text(encoding="utf-8", errors="replace")[:2000])
        style = "margin:0;font-family:monospace;max-height:16em;overflow:auto;white-space:pre-wrap"
        shown = f'<pre dir="auto" style="{style}">{text}</pre>'
    else:
        data = base64.b64encode(path.read_bytes()).decode()
        source = f"data:image/{PICTURES[path.suffix]};base64,{data}"
        shown = f'<img alt="sample" style="display:block;max-width:100%" src="{source}">'
    return f"<div><b>{html.escape(path.stem)}</b>{shown}</div>"


def draw_curves(curves: dict[str, list[tuple[int, float]]]) -> str:
    """Draws curves of (update, value) over one another, as SVG; each has its name and last value beneath.

    Args:
        curves: The values by name; empty draws nothing.
    """
    if not curves:
        return ""
    points = [point for line in curves.values() for point in line]
    (left, right), (low, high) = _range(x for x, _ in points), _range(y for _, y in points)
    paths, names = [], []
    for (name, line), colour in zip(curves.items(), COLOURS, strict=False):
        at = " ".join(
            f"{WIDTH * (x - left) / (right - left):.1f},{HEIGHT * (high - y) / (high - low):.1f}" for x, y in thin(line)
        )
        paths.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{at}"/>')
        names.append(f'<span style="color:{colour}">&#9632;</span> {html.escape(name)} {line[-1][1]:.4g}')
    title = html.escape(f"{', '.join(curves)}: {low:.4g} to {high:.4g}, updates {left:,} to {right:,}")
    return (
        f'<svg role="img" aria-label="{title}" viewBox="-2 -2 {WIDTH + 4} {HEIGHT + 4}" width="{WIDTH}" '
        f'style="display:block;max-width:100%;border:1px solid #8884">{"".join(paths)}</svg>'
        f"<div>{' &nbsp; '.join(names)} &nbsp; ({title})</div>"
    )


def thin(line: list[tuple[int, float]], most: int = WIDTH) -> list[tuple[int, float]]:
    """Returns at most `most` of the points, evenly, the last one among them."""
    step = max(1, math.ceil(len(line) / most))
    return line[::-1][::step][::-1]


def _range(values) -> tuple[float, float]:
    found = list(values)
    low, high = min(found), max(found)
    return low, high if high > low else low + 1
