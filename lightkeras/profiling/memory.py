"""An estimate of the memory that the tensors of one update take, from its traced graph; runs nothing.

Operations are taken in the order in which they were traced. A result takes memory until the last operation that uses
it; what a loop puts into lists (for its gradient) adds up over its passes. Memory that operations take inside, buffers
that are used again in place, and what XLA or TensorFlow's optimizer fuses are not known here: it is an estimate.
"""

import math
from typing import Any

import numpy as np
import tensorflow as tf

from lightkeras.profiling.flops import BRANCHES, CALLS, LOOPS, used_operations
from lightkeras.profiling.trips import loop_of
from lightkeras.profiling.values import Values

VIEWS = (  # of what they are given, or of a variable
    "Identity", "Reshape", "Squeeze", "ExpandDims", "StopGradient", "PreventGradient", "EnsureShape", "ReadVariableOp",
    "TensorListFromTensor", "TensorListGetItem", "Placeholder", "Const", "IdentityN",
)  # fmt: skip
WRITES = ("TensorListSetItem", "TensorListPushBack")  # list, ..., item last


def estimate_memory(graph: Any, arguments: dict[str, int] | None = None) -> float:
    """Returns the bytes that the results of a traced function's operations take at most; unknown sizes are left out.

    Args:
        graph: The graph of a `tf.function`'s trace.
        arguments: Values of integer arguments, by name.
    """
    return _peak(Values(graph, {name: np.asarray(value) for name, value in (arguments or {}).items()}))


def tensor_bytes(tensor: Any) -> float:
    """Returns the bytes of a tensor; 0 where its size is not known."""
    count = tensor.shape.num_elements() if tensor.shape.rank is not None else None
    return 0.0 if count is None or tensor.dtype in (tf.resource, tf.variant, tf.string) else count * tensor.dtype.size


def _peak(values: Values) -> float:
    graph = values.graph
    used = {operation.name for operation in used_operations(graph)}
    order = [operation for operation in graph.get_operations() if operation.name in used]
    sizes = {operation.name: _result_bytes(values, operation) for operation in order}
    last = _last_uses(order, {tensor.op.name for tensor in graph.outputs})
    ends: dict[int, list[str]] = {}
    for name, place in last.items():
        ends.setdefault(place, []).append(name)
    live = peak = 0.0
    for place, operation in enumerate(order):
        live += sizes[operation.name]
        peak = max(peak, live + _inner_peak(values, operation))
        live -= math.fsum(sizes[name] for name in ends.get(place, ()))
    return peak


def _last_uses(order: list[Any], kept: set[str]) -> dict[str, int]:
    """Maps each operation's name to the place after which its results are not needed; a view needs what it shows."""
    last = {operation.name: len(order) if operation.name in kept else place for place, operation in enumerate(order)}
    for place, operation in reversed(list(enumerate(order))):
        needed = last[operation.name] if operation.type in VIEWS else place
        for tensor in operation.inputs:
            last[tensor.op.name] = max(last[tensor.op.name], needed)
    return last


def _result_bytes(values: Values, operation: Any) -> float:
    if operation.type in VIEWS:
        return 0.0
    if operation.type in LOOPS:
        return _loop_bytes(values, operation)
    return math.fsum(map(tensor_bytes, operation.outputs))


def _loop_bytes(values: Values, operation: Any) -> float:
    """The variables of a loop, and what its passes put into lists."""
    loop = loop_of(values, operation)
    passes = loop.trips().count or 1
    lists = math.fsum(_written(output) for output in loop.body.outputs if output.dtype == tf.variant)
    return math.fsum(map(tensor_bytes, operation.outputs)) + passes * lists


def _written(output: Any) -> float:
    """Adds up the items that one pass puts into a list."""
    size, operation = 0.0, output.op
    while operation.type in (*WRITES, "Identity"):
        size += tensor_bytes(operation.inputs[-1]) if operation.type in WRITES else 0.0
        operation = operation.inputs[0].op
    return size


def _inner_peak(values: Values, operation: Any) -> float:
    if operation.type in LOOPS:
        return _peak(loop_of(values, operation).in_body)
    if operation.type in CALLS:
        return sum(_peak(inside) for inside in values.inside(operation, "f"))
    names = BRANCHES.get(operation.type, ())
    return max((_peak(inside) for name in names for inside in values.inside(operation, name, 1)), default=0.0)


def variable_bytes(variables: Any) -> float:
    """Adds up the bytes of variables."""
    return math.fsum(math.prod(one.shape) * tf.as_dtype(one.dtype).size for one in variables)


def measured_peak() -> float | None:
    """Returns the most bytes that TensorFlow has allocated on the first GPU so far; None without a GPU."""
    if not tf.config.list_logical_devices("GPU"):
        return None
    return float(tf.config.experimental.get_memory_info("GPU:0")["peak"])
