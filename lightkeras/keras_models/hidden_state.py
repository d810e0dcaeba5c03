"""What a step of a plain model keeps where no checkpoint finds it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from lightkeras.utils import internals

_RANDOM = "random numbers of hidden state: use keras.random with a keras.random.SeedGenerator, or a tf.random.Generator"
_PYTHON = "Python code within the step: no checkpoint holds what it changes"
_TABLE = "a table that changes in training: keep the values in a variable"
OPERATIONS = {
    **dict.fromkeys(("RandomStandardNormal", "RandomUniform", "RandomUniformInt", "TruncatedNormal"), _RANDOM),
    **dict.fromkeys(("RandomShuffle", "Multinomial", "RandomGamma", "RandomPoissonV2", "RandomPoisson"), _RANDOM),
    **dict.fromkeys(("PyFunc", "EagerPyFunc"), _PYTHON),
    **dict.fromkeys(("LookupTableInsertV2", "LookupTableImportV2", "LookupTableRemoveV2"), _TABLE),
}
COUNTED = ("StatelessRandomGetKeyCounter", "RngReadAndSkip")  # of keras.random and of tf.random.Generator
_LIBRARIES = tuple(str(Path(str(module.__file__)).parent) for module in (keras, tf))
_HERE = str(Path(__file__).parents[1])


def find_hidden_operations(graph: Any) -> list[str]:
    """Names the operations of a traced step that keep a state of their own, with the place in the user's code."""
    found = {}
    for operation in internals.operations(graph):
        if operation.type in OPERATIONS:
            where = _place(operation)
            found[where] = f"{operation.type} ({where}): {OPERATIONS[operation.type]}"
    return list(found.values())


def draws(graph: Any) -> bool:
    """Returns whether a traced step draws random numbers of a state that checkpoints hold."""
    return any(operation.type in COUNTED for operation in internals.operations(graph))


def _place(operation: Any) -> str:
    """Returns "file:line, in function" of the innermost frame that is the user's."""
    for frame in reversed(list(operation.traceback or ())):
        if not frame.filename.startswith((*_LIBRARIES, _HERE, "<")):
            return f"{Path(frame.filename).name}:{frame.lineno}, in {frame.name}"
    return operation.name


def find_counters(model: keras.Model, step: Callable[[], Any]) -> list[str]:
    """Names the Python attributes of the model and its layers that `step` changes: the compiled step does so once."""
    before = _plain_attributes(model)
    step()
    after = _plain_attributes(model)
    changed = [name for name, value in after.items() if name in before and before[name] != value]
    return [f"{name}: a Python value that the step changes. Keep it in a keras.Variable" for name in changed]


def _plain_attributes(model: keras.Model) -> dict[str, Any]:
    return {
        f"{layer.name}.{name}" if layer is not model else name: value
        for layer in internals.flatten_layers(model)
        if not type(layer).__module__.startswith("keras.")
        for name, value in vars(layer).items()
        if not name.startswith("_") and isinstance(value, bool | int | float | str)
    }
