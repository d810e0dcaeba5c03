"""The logs of a plain model: what its last step returned, kept on the device."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lightkeras.distribution.replicas import all_reduce_sum
from lightkeras.keras_models.data import count_rows
from lightkeras.utils.checks import lightkeras_error


def flatten_logs(logs: Any) -> dict[str, Any]:
    """Returns the values of logs by name, in Keras' order: sorted, those of a dict in a dict in its place.

    Raises:
        TypeError: `logs` is no dict.
    """
    if not isinstance(logs, dict):
        raise lightkeras_error(TypeError)(
            f"Expected a step of the model to return a dict of values by name. Received: {type(logs).__name__}"
        )
    flat = {}
    for name, value in sorted(logs.items()):
        flat |= flatten_logs(value) if isinstance(value, dict) else {name: value}
    return flat


def as_python(value: Any) -> Any:
    """Returns a scalar as a float and anything else as an array, as Keras' callbacks get them."""
    array = np.asarray(value)
    return float(array) if array.ndim == 0 else array


class LastLogs:
    """The values that the last step returned, and the first update whose loss was not finite.

    Args:
        kinds: The shape and dtype of every value by name.

    Attributes:
        values: All values in one vector, float64 (elements,), and behind them the rows of the epoch so far.
        non_finite: The first update with a loss that was not a finite number, or -1, int64 (names,).
    """

    def __init__(self, kinds: dict[str, tf.TensorSpec]):
        self.kinds = kinds
        self._losses = [name for name in kinds if "loss" in name.lower()]
        self._sizes = [math.prod(spec.shape) for spec in kinds.values()]
        self.reset()

    def reset(self) -> None:
        """Begins an epoch or evaluation."""
        self.values = tf.zeros(sum(self._sizes) + 1, tf.float64)
        self.non_finite = tf.fill((len(self.kinds),), tf.constant(-1, tf.int64))

    @property
    def carried(self) -> tuple[tf.Tensor, tf.Tensor]:
        """The tensors that a loop carries from step to step."""
        return self.values, self.non_finite

    @carried.setter
    def carried(self, carried: tuple[tf.Tensor, tf.Tensor]) -> None:
        self.values, self.non_finite = carried

    def make(self, step: Callable[[Any], Any], batch: Any, carried: Any) -> tf.Tensor:
        """Makes a step: the means of its values over the replicas, as Keras does, and behind them the sum of rows."""
        flat = flatten_logs(step(batch))
        values = tf.concat([*(_as_vector(flat[name]) for name in self.kinds), [count_rows(batch)]], axis=0)
        count = tf.distribute.get_replica_context().num_replicas_in_sync
        return values if count == 1 else all_reduce_sum(values) / ([float(count)] * sum(self._sizes) + [1.0])

    def add(self, carried: tuple[tf.Tensor, tf.Tensor], reduced: tf.Tensor, update: tf.Tensor) -> tuple:
        """Puts the values of a step in place of the last ones."""
        values, non_finite = carried
        parts = tf.split(reduced[:-1], self._sizes) if self._sizes else []
        bad = [self._is_bad(name, part) for name, part in zip(self.kinds, parts, strict=True)]
        rows = values[-1:] + reduced[-1:]
        first = tf.where(tf.stack(bad) & (non_finite < 0), update, non_finite) if bad else non_finite
        return tf.concat([reduced[:-1], rows], axis=0), first

    def _is_bad(self, name: str, part: tf.Tensor) -> tf.Tensor:
        """Whether a loss is not finite; where no name has "loss" in it, whether a number is NaN."""
        if name in self._losses:
            return tf.reduce_any(~tf.math.is_finite(part))
        scalar = not self._losses and self.kinds[name].shape.rank == 0
        return tf.math.is_nan(part[0]) if scalar else tf.constant(False)

    def between(self, before: Any, values: np.ndarray) -> np.ndarray:
        """Returns `values`: Keras' logs are of the epoch so far, or of the last step."""
        return values

    def results(self, values: np.ndarray) -> dict[str, Any]:
        """Returns the values by name: numbers, and arrays of those that are none."""
        parts = np.split(np.asarray(values)[:-1], np.cumsum(self._sizes)[:-1]) if self._sizes else []
        return {
            name: part.reshape(spec.shape).astype(spec.dtype.as_numpy_dtype) if spec.shape.rank else float(part[0])
            for (name, spec), part in zip(self.kinds.items(), parts, strict=True)
        }

    def units(self) -> float:
        """Returns the rows of the epoch so far."""
        return float(self.values.numpy()[-1])


def _as_vector(value: Any) -> tf.Tensor:
    value = value.value if isinstance(value, keras.Variable) else value
    return tf.reshape(tf.cast(value, tf.float64), [-1])
