"""The weights of a task by layer, and the memory that its variables take."""

import math
from typing import Any, NamedTuple

import tensorflow as tf


class Weights(NamedTuple):
    """The weights of a layer.

    Attributes:
        layer: The layer's path.
        shapes: Name and shape of each weight.
        parameters: The elements of all of them.
    """

    layer: str
    shapes: str
    parameters: int


def list_weights(task: Any) -> list[Weights]:
    """Lists the weights of a built task by the layer that has them."""
    layers: dict[str, list[Any]] = {}
    for weight in task.weights:
        layers.setdefault(weight.path.rpartition("/")[0], []).append(weight)
    return [
        Weights(
            layer or "-",
            ", ".join(f"{weight.name} {tuple(weight.shape)}" for weight in weights),
            sum(math.prod(weight.shape) for weight in weights),
        )
        for layer, weights in layers.items()
    ]


def state_bytes(task: Any) -> int:
    """Returns the bytes of all variables that a checkpoint holds: weights, optimizer slots, generators."""
    return sum(math.prod(one.shape) * tf.as_dtype(one.dtype).size for one in task.state_variables().values())


def write_bytes(count: float) -> str:
    """`512 bytes`, `1.5 kB`, `2.25 GB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.3g} {unit}"
