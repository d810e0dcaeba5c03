"""What layers return in an update: statistics, or the activations themselves."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from lightkeras.profiling.output_shapes import watching_calls
from lightkeras.utils import internals


class LayerStatistics(NamedTuple):
    """Statistics of what a layer returned.

    Attributes:
        name: The layer's path; of further calls in the update with their number behind it.
        shape: The shape of the output.
        mean, std, least, greatest: Of the finite elements.
        not_finite: Elements that are NaN or infinite.
    """

    name: str
    shape: tuple[int, ...]
    mean: float
    std: float
    least: float
    greatest: float
    not_finite: int


@contextlib.contextmanager
def noting_outputs() -> Iterator[dict[str, tf.Tensor]]:
    """Yields the first output of each layer that is called in the `with` block, in the order in which they return.

    Outputs within a loop or branch of TensorFlow are left out: they are not to be had outside of it.
    """
    found: dict[str, tf.Tensor] = {}
    seen: set[int] = set()
    calls: Counter[str] = Counter()
    graph = None if tf.executing_eagerly() else internals.current_graph()

    def note(layer: keras.layers.Layer, outputs: Any) -> None:
        tensors = [one for one in tf.nest.flatten(outputs) if isinstance(one, tf.Tensor) and one.dtype.is_floating]
        here = [one for one in tensors if graph is None or one.graph is graph]
        if not here or id(here[0]) in seen:  # a model returns what its last layer did
            return
        seen.add(id(here[0]))
        path = layer.path or layer.name
        calls[path] += 1
        found[path if calls[path] == 1 else f"{path} ({calls[path]})"] = here[0]

    with watching_calls(note):
        yield found


def summarize(output: tf.Tensor) -> tf.Tensor:
    """Returns mean, standard deviation, minimum and maximum of the finite elements, and how many are not: (5,)."""
    values = tf.cast(tf.reshape(output, [-1]), tf.float32)
    finite = tf.boolean_mask(values, tf.math.is_finite(values))
    bad = tf.cast(tf.size(values) - tf.size(finite), tf.float32)
    return tf.stack([
        tf.reduce_mean(finite), tf.math.reduce_std(finite), tf.reduce_min(finite), tf.reduce_max(finite), bad
    ])  # fmt: skip


def to_statistics(summaries: dict[str, Any], shapes: dict[str, tuple]) -> list[LayerStatistics]:
    """Reads the results of `summarize`."""
    found = []
    for name, summary in summaries.items():
        mean, std, least, greatest, bad = np.asarray(summary).tolist()
        found.append(LayerStatistics(name, shapes[name], mean, std, least, greatest, int(bad)))
    return found
