"""The strategy of a run: the Trainer's, or that of a task that is built already."""

from typing import Any

import tensorflow as tf

from lightkeras.distribution.replicas import num_replicas
from lightkeras.distribution.strategies import make_strategy
from lightkeras.training.keras_methods import KerasMethods
from lightkeras.training.precision import PRECISIONS
from lightkeras.utils import internals
from lightkeras.utils.checks import require


def choose_strategy(task: KerasMethods, devices: Any, strategy: Any, precision: str) -> tf.distribute.Strategy:
    """Makes the strategy; a built task keeps its own, if the Trainer's arguments ask for the same.

    Raises:
        ValueError: They ask for another number of devices, or for another precision.
    """
    built = task.fixed_strategy
    if built is None:
        return make_strategy(devices, strategy)
    if (devices, strategy) != ("auto", "auto"):
        wanted = num_replicas(make_strategy(devices, strategy))
        task.require_replicas(wanted, devices)
    policies = {layer.dtype_policy.name for layer in internals.flatten_layers(task)}
    policy = PRECISIONS[precision]
    as_built = policy == "float32" or policy in policies
    require(as_built, "precision", f"one of a task which is built already: {policies}", precision)
    return built
