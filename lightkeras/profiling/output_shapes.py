"""The calls of layers, and the shapes that they give, noted while the steps of a task are traced."""

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

_SHAPES: "weakref.WeakKeyDictionary[keras.layers.Layer, Any]" = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def watching_calls(
    note: Callable[[keras.layers.Layer, Any], None], enter: Callable[[keras.layers.Layer], Any] = lambda layer: None
) -> Iterator[None]:
    """Calls `enter(layer)` before and `note(layer, outputs)` after every call of a layer in the `with` block."""
    original = keras.layers.Layer.__call__

    def call(layer, *args, **kwargs):
        enter(layer)
        outputs = original(layer, *args, **kwargs)
        note(layer, outputs)
        return outputs

    setattr(keras.layers.Layer, "__call__", call)  # noqa: B010
    try:
        yield
    finally:
        setattr(keras.layers.Layer, "__call__", original)  # noqa: B010


def noting_shapes() -> contextlib.AbstractContextManager[None]:
    """Notes the shape of what each layer returns that is called in the `with` block; of several calls, the last."""
    return watching_calls(_note)


def _note(layer: keras.layers.Layer, outputs: Any) -> None:
    _SHAPES[layer] = outputs if outputs is None else tf.nest.map_structure(_shape, outputs)


def _shape(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return "?" if shape is None else f"({', '.join('?' if size is None else str(size) for size in shape)})"


def output_shape(layer: keras.layers.Layer) -> str:
    """Returns the shapes of what the layer returned, such as "(64, 10)"; "" of a layer that was not called."""
    shapes = _SHAPES.get(layer)
    return "" if shapes is None else " ".join(map(str, tf.nest.flatten(shapes)))
