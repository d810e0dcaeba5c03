"""Where the first NaN or infinity of an update arises."""

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from lightkeras.data.batches import named_entries
from lightkeras.profiling.output_shapes import watching_calls

_DETECTED = re.compile(r'Detected Infinity or NaN in output \d+ of \S+ op "(\w+)"')


class Origin(NamedTuple):
    """The first place of an update in which something is not finite.

    Attributes:
        place: "data", "weights", "forward" or "backward".
        name: The entry of the batch, the variable, or the layer; "" outside of layers.
        operation: TensorFlow's operation; "" in data and weights.
        rows: The rows of the batch whose values are not finite, in data.
    """

    place: str
    name: str
    operation: str = ""
    rows: tuple[int, ...] = ()

    def __str__(self) -> str:
        if self.place == "data":
            named = ", ".join(map(str, self.rows))
            return f"NaN or infinity is in the data: entry {self.name!r} of row{'s' * (len(self.rows) > 1)} {named}."
        if self.place == "weights":
            return f"NaN or infinity is in a weight before the update: {self.name}."
        within = f"layer {self.name}" if self.name else "the loss function, outside of layers"
        where = within if self.place == "forward" else f"the gradients of {self.name}"
        return f"The first NaN or infinity arises in the {self.place} pass: operation {self.operation}, in {where}."


def find_in_data(batch: Any) -> Origin | None:
    """Finds the first entry of a batch that is not finite."""
    for name, entry in named_entries(batch).items():
        values = np.asarray(entry)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
            return Origin("data", name, rows=tuple(np.flatnonzero(bad).tolist()))
    return None


def find_in_weights(variables: list[keras.Variable]) -> Origin | None:
    """Finds the first variable that is not finite."""
    for variable in variables:
        values = np.asarray(variable)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            return Origin("weights", variable.path)
    return None


def find_in_passes(forward: Callable[[], list[Any]], variables: list[keras.Variable]) -> Origin | None:
    """Finds the first operation whose result is not finite; op by op.

    Args:
        forward: Returns the sums of the losses.
        variables: What they are differentiated by.
    """
    inside: list[keras.layers.Layer] = []
    watched = watching_calls(lambda layer, outputs: inside.pop() and None, inside.append)
    with tf.GradientTape(persistent=True) as tape, watched, _checking() as found:
        totals = forward()
    if found:
        layer = inside[-1] if inside else None
        return Origin("forward", (layer.path or layer.name) if layer is not None else "", found[0])
    for total in totals:
        for variable in reversed(variables):  # the gradients of the last layers come first
            with _checking() as found:
                tape.gradient(total, variable.value)
            if found:
                return Origin("backward", variable.path, found[0])
    return None


@contextlib.contextmanager
def _checking() -> Iterator[list[str]]:
    """Ends the `with` block at the first operation whose result is not finite; yields a list that then has its name."""
    found: list[str] = []
    tf.debugging.enable_check_numerics()
    try:
        yield found
    except Exception as error:  # Keras makes another error of what is raised within a layer
        detected = _DETECTED.search(str(error))
        if detected is None:
            raise
        found.append(detected[1])
    finally:
        tf.debugging.disable_check_numerics()
