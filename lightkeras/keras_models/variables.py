"""Every variable that a model reaches, by name: what a checkpoint of it must hold.

Keras lists the weights of layers. A model may hold more: optimizers given to its own `compile`, metrics, seed
generators, a `tf.Variable` or a `tf.random.Generator`, in lists, dicts and objects of the user's own. They are found by
a walk over attributes. Variables that a step uses and no attribute leads to are found in its graph.
"""

import functools
import inspect
import types
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import tensorflow as tf

from lightkeras.utils import internals

LEAVES = (str, bytes, int, float, complex, type(None), type, types.ModuleType, tf.Tensor, keras.KerasTensor, tf.DType)
FOREIGN = ("numpy", "pandas", "builtins", "threading", "_thread", "weakref", "tensorflow", "jax", "torch")


def find_variables(model: keras.Model, used: Iterable[tf.Variable] = ()) -> dict[str, Any]:
    """Returns every variable of the model by name.

    Args:
        model: The model, with all of its variables.
        used: Variables that its steps use, in an order that is the same in every process.

    Returns:
        Weights and seed generators of layers as "model/...", all else as "reached/PATH" by the attributes that lead
        to it, what no attribute leads to as "used/...".
    """
    found = {f"model/{index:04d}/{v.name}": v for index, v in enumerate(model.variables)}
    known = {_key(variable) for variable in found.values()}
    alone = [("random", generator.state) for generator in internals.global_seed_generators()]
    for path, variable in [*_walk(model, "", set()), *alone]:
        if _key(variable) not in known:
            known.add(_key(variable))
            found[f"reached/{path}"] = variable
    left = [variable for variable in used if _key(variable) not in known]
    return {**found, **{f"used/{index:04d}/{v.name}": v for index, v in enumerate(left)}}


def find_optimizers(model: keras.Model) -> dict[str, keras.optimizers.Optimizer]:
    """Returns every optimizer that the model reaches, by the attributes that lead to it."""
    found = {}
    for path, value in _objects(model, "", set()):
        if isinstance(value, keras.optimizers.Optimizer) and not any(value is one for one in found.values()):
            found[path.lstrip("_")] = value
    inner = [getattr(optimizer, "inner_optimizer", None) for optimizer in found.values()]
    return {path: one for path, one in found.items() if not any(one is other for other in inner)}


def _key(variable: Any) -> int:
    return id(variable.value if isinstance(variable, keras.Variable) else variable)


def _walk(value: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Yields the variables of all objects that `value` reaches."""
    for place, one in _objects(value, path, seen):
        if isinstance(one, keras.Variable | tf.Variable):
            yield place, one
        elif isinstance(one, tf.random.Generator):
            yield f"{place}/state", one.state
        elif isinstance(one, keras.random.SeedGenerator):
            yield f"{place}/seed", one.state
        elif isinstance(one, keras.optimizers.Optimizer | keras.metrics.Metric | keras.layers.Layer):
            yield from ((f"{place}/{index:04d}", variable) for index, variable in enumerate(one.variables))


def _objects(value: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Yields every object that `value` reaches by attributes and containers, with the path to it, once."""
    if isinstance(value, LEAVES) or id(value) in seen:
        return
    seen.add(id(value))
    yield path, value
    if isinstance(value, keras.Variable | tf.Variable | tf.random.Generator):
        return
    for name, part in _parts(value):
        yield from _objects(part, f"{path}.{name}" if path else name, seen)


def _parts(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(str(key), one) for key, one in value.items()]
    if isinstance(value, list | tuple):
        return [(str(index), one) for index, one in enumerate(value)]
    if isinstance(value, functools.partial):
        return [("function", value.func), ("args", value.args), ("keywords", value.keywords)]
    if inspect.ismethod(value):
        return [("self", value.__self__)]
    if inspect.isfunction(value):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        return [(name, cell.cell_contents) for name, cell in cells if _is_filled(cell)]
    if type(value).__module__.split(".")[0] in FOREIGN and not isinstance(value, tf.Module):
        return []
    return [(name, one) for name, one in getattr(value, "__dict__", {}).items() if not name.startswith("_self_")]


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
