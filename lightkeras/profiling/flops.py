"""Counts the floating-point operations of one update from its traced graph; runs nothing."""

import math
from typing import Any, NamedTuple

import numpy as np

from lightkeras.profiling.products import PRODUCTS, UNCOUNTED
from lightkeras.profiling.trips import loop_of
from lightkeras.profiling.values import Values

CALLS = ("PartitionedCall", "StatefulPartitionedCall")
UNKNOWN_SIZE = "products of unknown size are not counted"
LOOPS = ("While", "StatelessWhile")
BRANCHES = {
    **dict.fromkeys(("If", "StatelessIf"), ("then_branch", "else_branch")),
    **dict.fromkeys(("Case", "StatelessCase"), ("branches",)),
}


class Flops(NamedTuple):
    """What an update computes.

    Attributes:
        total: Floating-point operations of products (see products.py); NaN where they could not be counted.
        notes: What the figure leaves open; empty where it is exact.
    """

    total: float
    notes: tuple[str, ...]

    @property
    def sizes_known(self) -> bool:
        """Whether the size of every product is known before it runs."""
        return not math.isnan(self.total) and UNKNOWN_SIZE not in self.notes


def count_flops(graph: Any, arguments: dict[str, int] | None = None) -> Flops:
    """Counts the products of a traced function: functions, loops, branches and XLA's functions within it included.

    A branch counts as the costliest, a loop that data may end earlier as its longest, and one of unknown length once;
    `notes` say so.

    Args:
        graph: The graph of a `tf.function`'s trace.
        arguments: Values of integer arguments, by name.
    """
    counter = _Counter()
    total = counter.count(Values(graph, {name: np.asarray(value) for name, value in (arguments or {}).items()}))
    return Flops(total, tuple(sorted(counter.notes)))


def used_operations(graph: Any) -> list[Any]:
    """Returns the operations that the results and effects of a function need: TensorFlow removes the others.

    (A gradient that nobody asked for is traced too where a tape comes by.)
    """
    waiting, found = [*(tensor.op for tensor in graph.outputs), *graph.control_outputs], {}
    while waiting:
        operation = waiting.pop()
        if operation.name not in found:
            found[operation.name] = operation
            waiting += [*(tensor.op for tensor in operation.inputs), *operation.control_inputs]
    return list(found.values())


class _Counter:
    def __init__(self):
        self.notes: set[str] = set()

    def count(self, values: Values) -> float:
        """Counts a graph once."""
        return math.fsum(self._operation(values, operation) for operation in used_operations(values.graph))

    def _operation(self, values: Values, operation: Any) -> float:
        kind = operation.type
        if kind in PRODUCTS:
            return self._product(operation)
        if kind in CALLS:
            return math.fsum(self.count(inside) for inside in values.inside(operation, "f"))
        if kind in LOOPS:
            return self._loop(values, operation)
        if kind in BRANCHES:
            return self._branches(values, operation)
        if kind in UNCOUNTED:
            self.notes.add(f"{kind} is not counted")
        return 0.0

    def _product(self, operation: Any) -> float:
        count = PRODUCTS[operation.type](operation)
        if not math.isnan(count):
            return count
        self.notes.add(UNKNOWN_SIZE)
        return 0.0

    def _loop(self, values: Values, operation: Any) -> float:
        loop = loop_of(values, operation)
        of_pass = self.count(loop.in_condition) + self.count(loop.in_body)
        if not of_pass:
            return 0.0
        trips, exact = loop.trips()
        if trips is None:
            self.notes.add("a loop of unknown length counts once")
        elif not exact:
            self.notes.add("a loop that data may end earlier counts whole")
        return of_pass * (1 if trips is None else trips)

    def _branches(self, values: Values, operation: Any) -> float:
        counts = [
            self.count(inside) for name in BRANCHES[operation.type] for inside in values.inside(operation, name, 1)
        ]
        if len(set(counts)) > 1:
            self.notes.add("a condition counts as its costliest branch")
        return max(counts, default=0.0)
