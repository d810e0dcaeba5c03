"""Numbers that a traced graph is sure to have: lengths of loops, and the sizes that they come from."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from lightkeras.profiling import trips
from lightkeras.utils import internals

Value = np.ndarray | None  # float64, NaN where an element is not known; None where nothing is known
SAME = ("Identity", "StopGradient", "PreventGradient", "Cast", "Reshape", "Squeeze", "ExpandDims", "EnsureShape")
OPERATIONS: dict[str, Callable[..., Any]] = {
    "AddV2": np.add, "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Neg": np.negative,
    "Maximum": np.maximum, "Minimum": np.minimum, "FloorDiv": np.floor_divide, "FloorMod": np.mod,
    "Pack": lambda *parts: np.stack(parts), "Range": np.arange,
    "ConcatV2": lambda *parts: np.concatenate(parts[:-1], int(parts[-1])),
    "GatherV2": lambda values, index, axis: np.take(values, index.astype(int), int(axis)),
    "Prod": lambda values, axes: np.prod(values, tuple(np.atleast_1d(axes).astype(int))),
    "Max": lambda values, axes: np.max(values, tuple(np.atleast_1d(axes).astype(int))),
}  # fmt: skip


class Values:
    """Evaluates tensors of a graph as far as shapes and constants tell; runs nothing.

    Args:
        graph: A traced graph.
        arguments: The values of its inputs, by name of the input's operation.
    """

    def __init__(self, graph: Any, arguments: dict[str, Value]):
        self.graph, self.arguments = graph, arguments
        self.loops: dict[str, trips.Loop] = {}
        self._known: dict[str, Value] = {}

    def of(self, tensor: Any) -> Value:
        """Returns the value of a tensor, or None."""
        if tensor.name not in self._known:
            self._known[tensor.name] = None  # a circle (of v1 loops) has no value
            self._known[tensor.name] = self._evaluate(tensor)
        return self._known[tensor.name]

    def _evaluate(self, tensor: Any) -> Value:
        operation = tensor.op
        kind = operation.type
        if kind == "Placeholder":
            return self.arguments.get(operation.name)
        if not (tensor.dtype.is_integer or tensor.dtype.is_floating or tensor.dtype == tf.bool):
            return None
        if kind == "Const":
            return np.asarray(tf.get_static_value(tensor), np.float64) if _is_small(tensor) else None
        if kind in ("Shape", "Size", "Rank"):
            return _shape_value(kind, operation.inputs[0].shape)
        if kind in ("PartitionedCall", "StatefulPartitionedCall"):
            inner = self.inside(operation, "f")
            return inner[0].of(inner[0].graph.outputs[tensor.value_index]) if inner else None
        if kind in ("While", "StatelessWhile"):
            return trips.loop_of(self, operation).final_value(tensor.value_index)
        if kind == "TensorListLength":
            return self._length(operation.inputs[0])
        return self._compute(operation)

    def inside(self, operation: Any, attribute: str, skipped: int = 0) -> list["Values"]:
        """Returns the values in the functions that an operation calls with its inputs from `skipped` on."""
        inputs = list(operation.inputs)[skipped:]
        return [
            Values(graph, {given.op.name: self.of(one) for given, one in zip(graph.inputs, inputs, strict=True)})
            for graph in internals.called_graphs(operation, attribute)
        ]

    def _compute(self, operation: Any) -> Value:
        if operation.type in SAME:
            value = self.of(operation.inputs[0])
            return value if value is None or operation.type in SAME[:4] else _reshaped(value, operation.outputs[0])
        known = operation.type in OPERATIONS or operation.type == "StridedSlice"
        found = [self.of(tensor) for tensor in operation.inputs] if known else [None]
        inputs = [value for value in found if value is not None]
        if len(inputs) < len(found):
            return None
        try:
            with np.errstate(all="ignore"):
                if operation.type == "StridedSlice":
                    return _slice(operation, *inputs)
                return np.asarray(OPERATIONS[operation.type](*inputs), np.float64)
        except (ValueError, IndexError, OverflowError):  # a size or a place that is not known (NaN), or none
            return None

    def _length(self, handle: Any) -> Value:
        """Returns the length of a tensor list, which loops hand on."""
        operation = handle.op
        if operation.type in ("TensorListReserve",):
            return self.of(operation.inputs[1])
        if operation.type == "TensorListFromTensor":
            sizes = _shape_value("Shape", operation.inputs[0].shape)
            return None if sizes is None else sizes[0]
        if operation.type in ("TensorListSetItem", "Identity"):
            return self._length(operation.inputs[0])
        return self._length(operation.inputs[handle.value_index]) if "While" in operation.type else None


def _is_small(tensor: Any) -> bool:
    return (tensor.shape.num_elements() or 0) <= 64


def _shape_value(kind: str, shape: tf.TensorShape) -> Value:
    if shape.rank is None:
        return None
    sizes = np.array([np.nan if size is None else size for size in shape], np.float64)
    return {"Shape": lambda: sizes, "Size": lambda: np.prod(sizes), "Rank": lambda: np.float64(len(sizes))}[kind]()


def _reshaped(value: np.ndarray, output: Any) -> Value:
    return value.reshape(output.shape) if output.shape.is_fully_defined() else None


def _slice(operation: Any, value: np.ndarray, begin: np.ndarray, end: np.ndarray, strides: np.ndarray) -> Value:
    """A slice of one axis."""
    masks = [operation.get_attr(f"{name}_mask") for name in ("begin", "end", "shrink_axis", "ellipsis", "new_axis")]
    if len(begin) != 1 or value.ndim != 1 or masks[3] or masks[4]:
        return None
    first, last, stride = int(begin[0]), int(end[0]), int(strides[0])
    if masks[2]:
        return value[first] if -len(value) <= first < len(value) else None
    return value[slice(None if masks[0] else first, None if masks[1] else last, stride)]
