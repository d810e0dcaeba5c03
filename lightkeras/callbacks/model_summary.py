"""The layers and their parameters, printed before training."""

import math

from rich.console import Console
from rich.table import Table

from lightkeras.callbacks.callback import Callback


class ModelSummary(Callback):
    """Prints a table of the task's layers: name, class, parameters."""

    order = 10
    chief_only = True

    def on_train_begin(self, logs=None):
        table = Table(title=self.model.title, title_justify="left")
        table.add_column("layer")
        table.add_column("class")
        table.add_column("parameters", justify="right")
        for layer in self.model.layers:
            table.add_row(layer.name, type(layer).__name__, f"{_parameters(layer):,}")
        table.add_row("all", "", f"{_parameters(self.model):,}", end_section=True)
        Console().print(table)


def _parameters(layer) -> int:
    """Counts the elements of the weights; `count_params()` rejects a layer that is not used."""
    return sum(math.prod(weight.shape) for weight in layer.weights)
