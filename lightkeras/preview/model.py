"""The weights of a task by layer."""

import math
from typing import Any, NamedTuple


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
