"""A picture of a search: parallel coordinates of its trials, and the best score so far."""

from pathlib import Path

import keras_tuner
import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from lightkeras.tuning.space import parameter_names
from lightkeras.utils.files import write_atomically


def draw(
    path: Path, trials: pandas.DataFrame, objective: str, direction: str, space: keras_tuner.HyperParameters
) -> None:
    """Draws completed trials, at least one, into a PNG file."""
    names = parameter_names(space)
    figure = Figure(figsize=(max(7, 1.6 * (len(names) + 1)), 8), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, height_ratios=(3, 2))
    _draw_coordinates(figure, above, trials, names, objective, direction, space)
    _draw_best(below, trials, objective, direction)
    with write_atomically(path) as partial:
        figure.savefig(partial, format="png", dpi=110)


def _draw_coordinates(
    figure: Figure,
    axes: Axes,
    trials: pandas.DataFrame,
    names: list[str],
    objective: str,
    direction: str,
    space: keras_tuner.HyperParameters,
) -> None:
    """Draws a line per trial through one axis per argument and the score's."""
    logs = {
        parameter.name for parameter in space.space if getattr(parameter, "sampling", None) in ("log", "reverse_log")
    }
    scores = trials["score"].to_numpy(float)
    color = ScalarMappable(Normalize(scores.min(), scores.max()), "viridis_r" if direction == "min" else "viridis")
    heights = np.array([_draw_axis(axes, x, trials[name], name in logs) for x, name in enumerate(names)])
    heights = np.vstack([heights, _draw_axis(axes, len(names), trials["score"], False)])
    best_last = np.argsort(-scores if direction == "min" else scores, kind="stable")
    for trial in best_last:
        axes.plot(heights[:, trial], color=color.to_rgba(scores[trial]), linewidth=1.5, marker="o", markersize=3)
    axes.set_xticks(range(len(names) + 1), [*names, objective], rotation=12)
    axes.set_yticks([])
    axes.set_title(f"{len(trials)} trials")
    figure.colorbar(color, ax=axes, label=objective)


def _draw_axis(axes: Axes, x: int, column: pandas.Series, log: bool) -> np.ndarray:
    """Labels an axis' ends; returns heights from 0 to 1 of a column's values (trials,), NaN for missing ones."""
    axes.axvline(x, color="0.8", linewidth=1, zorder=0)
    present = column.dropna()
    if present.empty:
        return np.full(len(column), np.nan)
    if all(isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in present):
        numbers = column.to_numpy(float)
        shown = {number: f"{number:.4g}" for number in (present.min(), present.max())}
    else:
        texts = sorted(present.astype(str).unique())
        numbers = np.array([np.nan if value is None else texts.index(str(value)) for value in column], float)
        shown, log = dict(enumerate(texts)), False
    scaled = np.log if log else np.asarray
    least, most = scaled(float(np.nanmin(numbers))), scaled(float(np.nanmax(numbers)))
    width = most - least or 1.0
    for number, text in shown.items():
        axes.annotate(text, (x, (scaled(float(number)) - least) / width), fontsize=7, xytext=(3, 3),
                      textcoords="offset points")  # fmt: skip
    return (scaled(numbers) - least) / width


def _draw_best(axes: Axes, trials: pandas.DataFrame, objective: str, direction: str) -> None:
    """Draws every score and the best score so far."""
    scores = trials["score"].to_numpy(float)
    best = (np.minimum if direction == "min" else np.maximum).accumulate(scores)
    numbers = np.arange(1, len(scores) + 1)
    axes.plot(numbers, scores, "o", color="0.6", markersize=4, label="trial")
    axes.step(numbers, best, where="post", label="best so far")
    axes.set_xlabel("completed trials")
    axes.set_ylabel(objective)
    axes.legend()
