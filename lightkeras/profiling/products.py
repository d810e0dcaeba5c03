"""Floating-point operations of one operation of a graph: of products alone.

A product of (m, k) and (k, n) counts 2 m k n, a convolution 2 x kernel's size x places that it is applied at.
Element-wise operations, sums, look-ups and the optimizer count nothing, as in the published figures of model FLOPs
(Chowdhery et al. 2022, PaLM, appendix B: "model FLOPs utilization").
"""

import math
from collections.abc import Callable
from typing import Any

Shape = list[float]  # NaN where a size is not known


def shape_of(tensor: Any) -> Shape:
    """Returns the sizes of a tensor; of one of unknown rank, [NaN]."""
    if tensor.shape.rank is None:
        return [math.nan]
    return [math.nan if size is None else float(size) for size in tensor.shape]


def _matmul(operation: Any) -> float:
    left, (output,) = shape_of(operation.inputs[0]), operation.outputs
    return 2 * math.prod(shape_of(output)) * left[0 if operation.get_attr("transpose_a") else 1]


def _batch_matmul(operation: Any) -> float:
    left, (output,) = shape_of(operation.inputs[0]), operation.outputs
    return 2 * math.prod(shape_of(output)) * left[-2 if operation.get_attr("adj_x") else -1]


def _einsum(operation: Any) -> float:
    """Counts every index once; a sum over one operand is no product."""
    if len(operation.inputs) == 1:
        return 0.0
    parts = operation.get_attr("equation").decode().split("->")[0].split(",")
    sizes: dict[str, float] = {}
    for labels, tensor in zip(parts, operation.inputs, strict=True):
        sizes |= _label(labels, shape_of(tensor), sizes)
    return 2 * math.prod(sizes.values())


def _label(labels: str, shape: Shape, known: dict[str, float]) -> dict[str, float]:
    """Names the axes of an operand; those of "..." are named from behind, and broadcast."""
    before, dots, after = labels.partition("...")
    middle = shape[len(before) : len(shape) - len(after)] if dots else []
    named = dict(zip(before, shape, strict=False)) | dict(zip(after, shape[len(shape) - len(after) :], strict=True))
    rest = {f"...{place}": max(size, known.get(f"...{place}", 1.0)) for place, size in enumerate(reversed(middle))}
    return named | rest


def _of_kernel(kernel: Shape, places: Shape) -> float:
    """A convolution with a kernel (..., channels of a group, outputs) whose narrow side has the shape `places`."""
    return 2 * math.prod(places) * math.prod(kernel[:-1])


def _convolution(operation: Any) -> float:
    return _of_kernel(shape_of(operation.inputs[1]), shape_of(operation.outputs[0]))


def _input_gradient(operation: Any) -> float:
    return _of_kernel(shape_of(operation.inputs[1]), shape_of(operation.inputs[2]))


def _kernel_gradient(operation: Any) -> float:
    return _of_kernel(shape_of(operation.outputs[0]), shape_of(operation.inputs[2]))


def _depthwise(operation: Any) -> float:
    """Each channel has kernels (height, width, channels, outputs of a channel) of its own."""
    return _of_kernel([*shape_of(operation.inputs[1])[:2], 1.0], shape_of(operation.outputs[0]))


def _depthwise_input_gradient(operation: Any) -> float:
    return _of_kernel([*shape_of(operation.inputs[1])[:2], 1.0], shape_of(operation.inputs[2]))


def _depthwise_kernel_gradient(operation: Any) -> float:
    return _of_kernel([*shape_of(operation.outputs[0])[:2], 1.0], shape_of(operation.inputs[2]))


def _recurrent(operation: Any) -> float:
    """cuDNN's layers: inputs (time, batch, features), first states (layers x directions, batch, units)."""
    time, batch, features = shape_of(operation.inputs[0])
    states, _, units = shape_of(operation.inputs[1])
    gates = {b"gru": 3, b"lstm": 4}.get(operation.get_attr("rnn_mode"), 1)
    directions = 2 if operation.get_attr("direction") == b"bidirectional" else 1
    above = (states - directions) * gates * units * (directions * units + units)
    return 2 * time * batch * (directions * gates * units * (features + units) + above)


def _twice(count: Callable[[Any], float]) -> Callable[[Any], float]:
    return lambda operation: 2 * count(operation)


PRODUCTS: dict[str, Callable[[Any], float]] = {
    "MatMul": _matmul,
    **dict.fromkeys(("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), _batch_matmul),
    "Einsum": _einsum,
    **dict.fromkeys(("Conv2D", "Conv3D", "Conv"), _convolution),
    **dict.fromkeys(("Conv2DBackpropInput", "Conv3DBackpropInputV2"), _input_gradient),
    **dict.fromkeys(("Conv2DBackpropFilter", "Conv3DBackpropFilterV2"), _kernel_gradient),
    "DepthwiseConv2dNative": _depthwise,
    "DepthwiseConv2dNativeBackpropInput": _depthwise_input_gradient,
    "DepthwiseConv2dNativeBackpropFilter": _depthwise_kernel_gradient,
    **dict.fromkeys(("CudnnRNN", "CudnnRNNV2", "CudnnRNNV3"), _recurrent),
    **dict.fromkeys(("CudnnRNNBackprop", "CudnnRNNBackpropV2", "CudnnRNNBackpropV3"), _twice(_recurrent)),
}
UNCOUNTED = ("SparseTensorDenseMatMul", "SparseMatMul", "XlaDotV2", "XlaConvV2", "XlaCustomCallV2")
