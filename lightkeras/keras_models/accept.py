"""What the Trainer takes for a task."""

from typing import Any

import keras

from lightkeras.keras_models.task import KerasTask
from lightkeras.training.keras_methods import KerasMethods
from lightkeras.utils import internals
from lightkeras.utils.checks import require


def as_task(model: Any) -> Any:
    """Puts a compiled `keras.Model` in the place of a task; a task stays as it is.

    Raises:
        ValueError: The model is not compiled.
    """
    if isinstance(model, KerasMethods) or not isinstance(model, keras.Model):
        return model
    require(model.compiled, "model", "compiled: call `model.compile(...)` before `fit`", model.name)
    workers = internals.has_workers(model.distribute_strategy)
    require(not workers, "strategy", "of one process for a plain Keras model", model.distribute_strategy)
    return KerasTask(model)
