"""The losses and gradients of the single rows of a batch, and which of them are far from the others."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from lightkeras.data.batches import WEIGHT, map_batch, row_count, weights_of
from lightkeras.training.present_rows import present_rows

FAR = 5.0  # modified z-scores; Iglewicz and Hoaglin (1993) take 3.5 for numbers that are normally distributed


class RowValues(NamedTuple):
    """The losses and gradients of a batch's rows by the name of the loss, float32 (rows,); NaN for padding.

    Attributes:
        losses: The mean loss of the row alone.
        norms: The global norm of the gradient of that loss by the variables of its optimizer.
        weights: What the row counts in the loss of the batch: tokens, pixels, examples.
        alone: Whether each row was computed with copies of itself in place of the others, of which one is not finite.
    """

    losses: dict[str, np.ndarray]
    norms: dict[str, np.ndarray]
    weights: dict[str, np.ndarray]
    alone: bool

    def far(self) -> dict[int, list[str]]:
        """Returns why rows are far from the others, by row: "loss 12 times the median"."""
        found: dict[int, list[str]] = {}
        for what, named in (("loss", self.losses), ("gradient", self.norms)):
            for name, values in named.items():
                of = what if len(named) == 1 else f"{what} of {name}"
                for row, reason in find_far(values).items():
                    found.setdefault(row, []).append(f"{of} {reason}")
        return found


def find_far(values: np.ndarray) -> dict[int, str]:
    """Finds values that are far above the others, by the median and its median deviation: why, by their place.

    One that is far is more than twice a positive median. NaN and infinity are always far. Places with a weight of 0
    hold -inf.
    """
    known = values[np.isfinite(values)]
    found = {int(row): "not finite" for row in np.flatnonzero(np.isnan(values) | (values == np.inf))}
    if len(known) < 4:
        return found
    middle = float(np.median(known))
    spread = max(float(np.median(np.abs(known - middle))), 0.02 * abs(middle), 1e-12)
    far = np.isfinite(values) & (0.6745 * (values - middle) > FAR * spread) & (values > 2 * middle)
    for row in np.flatnonzero(far):
        times = f"{values[row] / middle:.3g} times the median" if middle > 0 else f"{values[row]:.3g}, not {middle:.3g}"
        found[int(row)] = times
    return found


RowFunction = Callable[[Any, Any], Any]


def compute_rows(function: Callable[[Any, tf.Tensor], dict], batch: Any) -> RowValues:
    """Calls `function(batch, one-hot rows)` for each row: the loss, the gradient's norm and the weight by loss name.

    If a result is not finite, each row is computed once more with copies of itself in place of the others: they would
    make its loss NaN as well.
    """
    found = _collect(function, batch, list(_one_hot(batch)), copies=False)
    alone = not all(np.isfinite(values[row]).all() for values in found.values() for row in _present(batch))
    return RowValues(*_split(_collect(function, batch, list(_one_hot(batch)), copies=True) if alone else found), alone)


def _present(batch: Any) -> np.ndarray:
    return np.flatnonzero(present_rows(batch).numpy())


def _one_hot(batch: Any) -> Iterator[tuple[int, np.ndarray]]:
    count = row_count(batch) or 0
    for row in _present(batch):
        yield int(row), np.eye(1, count, row, dtype=np.float32)[0]


def _collect(function, batch, rows, copies: bool) -> dict[str, np.ndarray]:
    """Returns loss, norm and weight of each row by loss name: float32 (rows, 3)."""
    count, found = row_count(batch) or 0, {}
    for row, hot in rows:
        given = map_batch(lambda entry, row=row: tf.repeat(entry[row : row + 1], count, axis=0), batch)
        for name, values in function(given if copies else batch, tf.constant(hot)).items():
            found.setdefault(name, np.full((count, 3), -np.inf, np.float32))[row] = np.asarray(values)
    return found


def _split(found: dict[str, np.ndarray]) -> tuple[dict, dict, dict]:
    return tuple({name: values[:, place] for name, values in found.items()} for place in range(3))  # type: ignore


def reweigh(batch: Any, factors: tf.Tensor) -> Any:
    """Multiplies the weights of a batch by factors (rows,)."""

    def times(weights: tf.Tensor) -> tf.Tensor:
        shape = tf.concat([tf.shape(factors), [1] * (weights.shape.rank - 1)], axis=0)
        return tf.math.multiply_no_nan(weights, tf.reshape(factors, shape))

    weights = keras.tree.map_structure(times, weights_of(batch))
    return {**batch, WEIGHT: weights} if isinstance(batch, dict) else (*batch[:2], weights)
