"""What an update of a training costs, read once from the function that was traced for it."""

import weakref
from typing import Any, NamedTuple

from lightkeras.profiling.flops import Flops, count_flops
from lightkeras.profiling.memory import estimate_memory

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
        of_one = {"count": 1}  # update: the argument of the traced function
        _COSTS[loop.graph] = UpdateCost(count_flops(loop.graph, of_one), estimate_memory(loop.graph, of_one))
    return _COSTS[loop.graph]
