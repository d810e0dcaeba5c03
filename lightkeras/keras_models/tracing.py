"""Traces the steps of a plain model once, before training: every variable is created, and nothing is trained."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from lightkeras.distribution.replicas import num_replicas
from lightkeras.keras_models.logs import flatten_logs
from lightkeras.utils import internals
from lightkeras.utils.checks import ArgumentError


class Trace(NamedTuple):
    """What is known of a step without running it.

    Attributes:
        kinds: Shape and dtype of every value that it returns, by name.
        variables: The variables that it uses, in the order of its graph.
        graph: Its graph; None where it runs op by op.
    """

    kinds: dict[str, tf.TensorSpec]
    variables: list[tf.Variable]
    graph: Any


def trace(step: Callable[[Any], Any], spec: Any, strategy: tf.distribute.Strategy) -> Trace:
    """Traces `step` on batches of `spec`, as the training will."""
    with internals.scratch_graph("build") as graph, tf.variable_creator_scope(_lift):
        outputs = strategy.run(step, args=(internals.placeholders(spec),))
        first = tf.nest.map_structure(lambda value: strategy.experimental_local_results(value)[0], outputs)
        values = {name: tf.convert_to_tensor(value) for name, value in flatten_logs(first).items()}
    return Trace(_kinds(values), internals.used_variables(graph), graph)


def _lift(next_creator: Callable[..., Any], **arguments: Any) -> Any:
    """Takes the first value of a variable out of the graph, where it is a constant: Keras' Nadam makes such a one."""
    first = arguments.get("initial_value")
    known = tf.get_static_value(first) if tf.is_tensor(first) else None
    if known is not None:
        arguments["initial_value"] = functools.partial(tf.constant, known)
    return next_creator(**arguments)


def rehearse(step: Callable[[Any], Any], batch: Any, known: Callable[[], list[Any]]) -> Trace:
    """Runs `step` op by op on a batch, and puts back what it changed: a step that runs eagerly may not be traceable.

    Args:
        step: The step.
        batch: A batch.
        known: Returns every variable of the model.
    """
    before, created = [(variable, np.array(variable)) for variable in known()], []
    with _remembering(created), internals.kept_random_state():
        outputs = {name: tf.convert_to_tensor(value) for name, value in flatten_logs(step(batch)).items()}
    for variable, value in [*created, *before]:
        variable.assign(value)
    return Trace(_kinds(outputs), [], None)


@contextmanager
def _remembering(created: list[tuple[tf.Variable, np.ndarray]]) -> Iterator[None]:
    """Notes every variable that is created in the `with` block, with its first value."""

    def create(next_creator, **arguments):
        variable = next_creator(**arguments)
        created.append((variable, np.array(variable)))
        return variable

    with tf.variable_creator_scope(create):
        yield


def _kinds(outputs: dict[str, Any]) -> dict[str, tf.TensorSpec]:
    kinds = {name: tf.TensorSpec(value.shape, value.dtype) for name, value in outputs.items()}
    wrong = [name for name, spec in kinds.items() if not spec.shape.is_fully_defined() or not _is_number(spec.dtype)]
    if wrong:
        raise ArgumentError(
            "Expected the values that a step of the model returns to be numbers, or arrays of numbers of a fixed "
            f"shape. Received: {', '.join(f'{name} {kinds[name].shape} {kinds[name].dtype.name}' for name in wrong)}"
        )
    return kinds


def _is_number(dtype: tf.DType) -> bool:
    return dtype.is_floating or dtype.is_integer or dtype.is_bool


def replica_spec(spec: Any, strategy: tf.distribute.Strategy) -> Any:
    """Returns the spec of a replica's part of a batch: rows of any number, where there are several replicas."""
    if num_replicas(strategy) == 1:
        return spec
    return tf.nest.map_structure(lambda one: tf.TensorSpec([None, *one.shape[1:]], one.dtype), spec)
