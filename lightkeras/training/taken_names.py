"""Names that a task must not give to layers and their kin: the library's or Keras' own."""

import functools
import inspect
from typing import Any

import keras

from lightkeras.utils.checks import lightkeras_error

OWNED = (
    keras.layers.Layer, keras.Variable, keras.metrics.Metric, keras.losses.Loss, keras.optimizers.Optimizer,
    keras.random.SeedGenerator,
)  # fmt: skip
OF_INSTANCES = {"built", "global_step", "loss", "name", "optimizer", "optimizers", "stop_training"}
ASSIGNED = OF_INSTANCES - {"name"} | {  # to every task, by Keras or the library: a method of that name is lost
    "compiled", "predict_function", "seed", "steps_per_epoch", "steps_per_execution", "test_function", "test_loop",
    "test_sums", "total_steps", "train_function", "train_loop", "train_sums",
}  # fmt: skip


@functools.cache
def _taken(base: type) -> frozenset[str]:
    annotated = {name for kind in base.__mro__ for name in vars(kind).get("__annotations__", {})}
    return frozenset({name for name in dir(base) if not name.startswith("__")} | annotated | OF_INSTANCES)


def reject_taken_name(base: type, name: str, value: Any) -> None:
    """Rejects `task.NAME = value` if `base` has the name and the value is a layer, a variable, a metric or the like.

    Raises:
        AttributeError: It is, or nothing may be assigned to the name.
    """
    if name not in _taken(base) or (name.startswith("_") and not _is_ours(base, name)):
        return
    known = getattr(base, name, None)
    read_only = isinstance(known, property) and known.fset is None
    if read_only or any(isinstance(one, OWNED) for one in keras.tree.flatten(value)):
        raise lightkeras_error(AttributeError)(
            f"Expected a task to use another name than `{name}`, which tasks or Keras' models have already. "
            f"Received: self.{name} = {value!r}"
        )


def reject_taken_methods(cls: type) -> None:
    """Rejects a class of tasks whose methods have names that values are assigned to (`loss`, `optimizer`).

    Raises:
        TypeError: The class defines such a method or property.
    """
    for name in sorted(ASSIGNED & vars(cls).keys()):
        value = vars(cls)[name]
        if inspect.isroutine(value) or isinstance(value, property | functools.cached_property):
            raise lightkeras_error(TypeError)(
                f"Expected a method of {cls.__name__} to have another name than `{name}`, to which every task's "
                f"value is assigned. Received: {cls.__name__}.{name}. Call it {name}_function, for example."
            )


def _is_ours(base: type, name: str) -> bool:
    """Whether one of lightkeras' classes has the private name: Keras assigns to its own."""
    kinds = [kind for kind in base.__mro__ if kind.__module__.startswith("lightkeras.")]
    return any(name in vars(kind) or name in vars(kind).get("__annotations__", {}) for kind in kinds)
