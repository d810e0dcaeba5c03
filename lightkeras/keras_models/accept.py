"""What the Trainer takes for a task."""

from typing import Any

import keras

from lightkeras.keras_models.task import KerasTask
from lightkeras.training.keras_methods import KerasMethods
from lightkeras.utils import internals
from lightkeras.utils.checks import require

ONE_PROCESS = (
    "of one process for a plain Keras model: Keras' own fit fails with several workers before its first update, so "
    "nothing says how the model's step is to share their rows. As a TaskModule it is trained by workers"
)


def as_task(model: Any) -> Any:
    """Puts a compiled `keras.Model` in the place of a task; a task stays as it is.

    Raises:
        ValueError: The model is not compiled.
    """
    if isinstance(model, KerasMethods) or not isinstance(model, keras.Model):
        return model
    require(model.compiled, "model", "compiled: call `model.compile(...)` before `fit`", model.name)
    workers = internals.has_workers(model.distribute_strategy)
    require(not workers, "strategy", ONE_PROCESS, type(model.distribute_strategy).__name__)
    return KerasTask(model)
