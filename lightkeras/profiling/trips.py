"""How often the loops of a traced graph run: `tf.while_loop`, those of layers, and those of their gradients."""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lightkeras.utils import internals

if TYPE_CHECKING:
    from lightkeras.profiling.values import Value, Values

ORDERS = {"Less": (1, False), "LessEqual": (1, True), "Greater": (-1, False), "GreaterEqual": (-1, True)}


class Trips(NamedTuple):
    """The passes of a loop.

    Attributes:
        count: The passes; None where they are not known.
        exact: Whether no condition that depends on data may end the loop earlier.
    """

    count: int | None
    exact: bool


class Loop:
    """A `While` operation: its two graphs, its first values, and which of its variables stay or count.

    Args:
        values: What is known in the graph of the operation.
        operation: The operation.

    Attributes:
        in_condition, in_body: What is known within each pass.
    """

    def __init__(self, values: "Values", operation: Any):
        (self.condition,) = internals.called_graphs(operation, "cond")
        (self.body,) = internals.called_graphs(operation, "body")
        self.start = [values.of(tensor) for tensor in operation.inputs]
        stays = [_source(output) is given for output, given in zip(self.body.outputs, self.body.inputs, strict=True)]
        self.fixed = [value if same else None for value, same in zip(self.start, stays, strict=True)]
        self.in_body = self._values_in(self.body, values)
        self.in_condition = self._values_in(self.condition, values)

    def _values_in(self, graph: Any, values: "Values") -> "Values":
        names = [placeholder.op.name for placeholder in graph.inputs]
        return type(values)(graph, dict(zip(names, self.fixed, strict=True)))

    def _step(self, index: int) -> float | None:
        """Returns what a pass adds to variable `index`, or None."""
        output, given = _source(self.body.outputs[index]), self.body.inputs[index]
        if output is given:
            return 0.0
        if output.op.type not in ("AddV2", "Add", "Sub"):
            return None
        left, right = output.op.inputs
        if _source(right) is given and output.op.type != "Sub":
            left, right = right, left
        added = self.in_body.of(right) if _source(left) is given else None
        if added is None or added.size != 1 or np.isnan(added):
            return None
        return -float(added) if output.op.type == "Sub" else float(added)

    def final_value(self, index: int) -> "Value":
        """Returns variable `index` after the loop; None where it is not known."""
        begin, step = self.start[index], self._step(index)
        if step is None or begin is None or step == 0:
            return begin if step == 0 else None
        count, exact = self.trips()
        return begin + step * count if count is not None and exact else None

    def trips(self) -> Trips:
        """Reads the condition: comparisons of counters with limits, joined by `and`."""
        found = [self._comparison(operation) for operation in _joined(self.condition.outputs[0])]
        known = [count for count in found if count is not None]
        return Trips(min(known) if known else None, None not in found)

    def _comparison(self, operation: Any) -> int | None:
        if operation.type not in ORDERS:
            return None
        (sign, inclusive), (left, right) = ORDERS[operation.type], operation.inputs
        count = self._passes(left, right, sign, inclusive)
        return self._passes(right, left, -sign, inclusive) if count is None else count

    def _passes(self, counter: Any, limit: Any, sign: int, inclusive: bool) -> int | None:
        """Returns how often `counter < limit` (`sign` 1) or `counter > limit` (-1) holds."""
        source = _source(counter)
        index = next((i for i, given in enumerate(self.condition.inputs) if given is source), None)
        end = self.in_condition.of(limit)
        if index is None or end is None or end.size != 1 or np.isnan(end):
            return None
        begin, step = self.start[index], self._step(index)
        if begin is None or begin.size != 1 or np.isnan(begin) or not step or step * sign < 0:
            return None
        distance = (float(end) - float(begin)) / step
        if not math.isfinite(distance):
            return None
        return max(0, math.floor(distance) + 1 if inclusive else math.ceil(distance))


def loop_of(values: "Values", operation: Any) -> Loop:
    """Returns the loop of a `While` operation; it is read once."""
    if operation.name not in values.loops:
        values.loops[operation.name] = Loop(values, operation)
    return values.loops[operation.name]


def _source(tensor: Any) -> Any:
    """Follows a tensor back through operations that hand it on."""
    while tensor.op.type in ("Identity", "Cast"):
        tensor = tensor.op.inputs[0]
    return tensor


def _joined(tensor: Any) -> list[Any]:
    """Returns the operations that a condition joins by `and`."""
    operation = _source(tensor).op
    return (
        [one for tensor in operation.inputs for one in _joined(tensor)]
        if operation.type == "LogicalAnd"
        else [operation]
    )
