"""The shapes that layers give, noted while the steps of a task are traced for the first time."""

import contextlib
import weakref
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

_SHAPES: "weakref.WeakKeyDictionary[keras.layers.Layer, Any]" = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def noting_shapes() -> Iterator[None]:
    """Notes the shape of what each layer returns that is called in the `with` block; of several calls, the last."""
    original = keras.layers.Layer.__call__

    def call(layer, *args, **kwargs):
        outputs = original(layer, *args, **kwargs)
        _SHAPES[layer] = outputs if outputs is None else tf.nest.map_structure(_shape, outputs)
        return outputs

    setattr(keras.layers.Layer, "__call__", call)  # noqa: B010
    try:
        yield
    finally:
        setattr(keras.layers.Layer, "__call__", original)  # noqa: B010


def _shape(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return "?" if shape is None else f"({', '.join('?' if size is None else str(size) for size in shape)})"


def output_shape(layer: keras.layers.Layer) -> str:
    """Returns the shapes of what the layer returned, such as "(64, 10)"; "" of a layer that was not called."""
    shapes = _SHAPES.get(layer)
    return "" if shapes is None else " ".join(map(str, tf.nest.flatten(shapes)))
