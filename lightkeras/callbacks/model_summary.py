"""The layers and their parameters, printed before training; and what an update costs, after the first call."""

import math
from collections.abc import Iterator
from typing import Any

import keras
from rich.console import Console
from rich.table import Table

from lightkeras.callbacks.callback import Callback
from lightkeras.profiling.flops import Flops
from lightkeras.profiling.memory import measured_peak, variable_bytes
from lightkeras.profiling.output_shapes import output_shape
from lightkeras.profiling.update import UpdateCost, cost_of_update
from lightkeras.utils.messages import logger

UNITS = ("", "k", "M", "G", "T", "P")


class ModelSummary(Callback):
    """Prints a table of the task's layers: name, class, output shape, parameters; then what an update costs.

    The costs are read from the graph that the first call traced, once: floating-point operations of products, and an
    estimate of the memory of an update's results. Of several replicas, they are those of all replicas of this process.

    Attributes:
        cost: The costs; None before the first call, and where updates run op by op.
    """

    order = 10
    accepts_many_steps = True
    chief_only = True
    cost: UpdateCost | None = None

    def on_train_begin(self, logs=None):
        self._told, self.cost = False, None
        table = Table(title=self.model.title, title_justify="left")
        table.add_column("layer")
        table.add_column("class")
        table.add_column("output shape")
        table.add_column("parameters", justify="right")
        for depth, layer in _layers(self.model.layers):
            name = "  " * depth + layer.name
            table.add_row(name, type(layer).__name__, output_shape(layer), f"{_parameters(layer):,}")
        table.add_row("all", "", "", f"{_parameters(self.model):,}", end_section=True)
        Console().print(table)

    def on_train_batch_end(self, batch, logs=None):
        if not self._told:
            self._told = True
            self.cost = cost_of_update(self.model.train_loop)
            memory = describe_memory(self.model, self.cost)
            logger.info("One update: %s. Memory: %s", describe_flops(self.cost), memory)


def _layers(layers: list[keras.layers.Layer], depth: int = 0) -> Iterator[tuple[int, keras.layers.Layer]]:
    """Yields the layers, and after each model in them its own."""
    for layer in layers:
        yield depth, layer
        if isinstance(layer, keras.Model):
            yield from _layers(layer.layers, depth + 1)


def _parameters(layer) -> int:
    """Counts the elements of the weights; `count_params()` rejects a layer that is not used."""
    return sum(math.prod(weight.shape) for weight in layer.weights)


def describe_memory(task: Any, cost: UpdateCost | None) -> str:
    """Says how much memory the variables of a built task and the results within an update take."""
    weights = variable_bytes(task.variables)
    optimizers = variable_bytes(task.state_variables().values()) - weights
    parts = [f"weights {amount(weights)}B", f"optimizers {amount(optimizers)}B"]
    if cost and cost.flops.sizes_known:
        parts.append(f"results within an update about {amount(cost.memory)}B (estimated)")
    if peak := measured_peak():
        parts.append(f"at most {amount(peak)}B allocated so far on the first GPU (TensorFlow)")
    return ", ".join(parts)


def describe_flops(cost: UpdateCost | None) -> str:
    """Says how many floating-point operations an update takes, or why that is not known."""
    if cost is None:
        return "floating-point operations not counted, as updates run op by op"
    if math.isnan(cost.flops.total):
        return f"floating-point operations not counted ({'; '.join(cost.flops.notes)})"
    if not cost.flops.sizes_known:
        return "floating-point operations not known, as batches differ in shape (`lightkeras show` counts those of one)"
    return write_flops(cost.flops)


def write_flops(flops: Flops) -> str:
    """Writes a number of operations, and what it leaves open."""
    total, notes = flops
    return f"{amount(total)}FLOP in products" + (f" ({'; '.join(notes)})" if notes else "")


def amount(value: float) -> str:
    """Writes a number with the prefix of its unit: "1.23 G"."""
    power = min(int(math.log10(value)) // 3, len(UNITS) - 1) if value >= 1 else 0
    return f"{value / 1000**power:.3g} {UNITS[power]}"
