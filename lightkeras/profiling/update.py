"""What an update of a training costs, read once from the function that was traced for it."""

import math
import weakref
from typing import Any, NamedTuple

import tensorflow as tf

from lightkeras.data.addressing import address_spec
from lightkeras.profiling.flops import Flops, count_flops
from lightkeras.profiling.memory import estimate_memory
from lightkeras.utils import internals
from lightkeras.utils.messages import logger

_COSTS: "weakref.WeakKeyDictionary[Any, UpdateCost]" = weakref.WeakKeyDictionary()


class UpdateCost(NamedTuple):
    """The costs of one update of this process, all of its replicas together.

    Attributes:
        flops: Floating-point operations of products.
        memory: Bytes of the results within it, estimated.
    """

    flops: Flops
    memory: float


def cost_of_update(loop: Any) -> UpdateCost | None:
    """Returns the cost of an update of a `Loop` that has made one; None where it runs op by op."""
    if loop.graph is None:
        return None
    if loop.graph not in _COSTS:
        _COSTS[loop.graph] = _read(loop.graph)
    return _COSTS[loop.graph]


def count_batch(loop: Any, batch: Any) -> Flops:
    """Counts the operations of an update on a batch of these shapes, where those of batches differ.

    It traces the update anew, which takes as long as the first call did. Of several replicas, one takes the batch.

    Args:
        loop: The `Loop` of a built task.
        batch: A batch, or the specs of one.
    """
    specs = tf.nest.map_structure(lambda one: tf.TensorSpec(one.shape, one.dtype), batch)
    with internals.dropping_custom_gradients():
        return count_flops(loop.trace_step(specs, address_spec(tf.nest.flatten(specs)[0].shape[0])))


def _read(graph: Any) -> UpdateCost:
    """Reads the costs from a graph; one that cannot be read must not end the training that it is of."""
    of_one = {"count": 1}  # update: the argument of the traced function
    try:
        return UpdateCost(count_flops(graph, of_one), estimate_memory(graph, of_one))
    except Exception as error:
        logger.warning("The operations of an update could not be counted: %r", error)
        return UpdateCost(Flops(math.nan, (f"the graph could not be read: {type(error).__name__}",)), math.nan)
