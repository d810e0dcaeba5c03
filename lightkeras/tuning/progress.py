"""A trial's report to its search: the objective's values; and the end of the trial's budget."""

import math
import time

from lightkeras.callbacks.monitor import Monitor
from lightkeras.utils.checks import LightkerasError


class ObjectiveError(LightkerasError, ArithmeticError):
    """The objective was NaN or infinite, or had no value at all."""


class TrialProgress(Monitor):
    """Keeps every value of the objective, and ends the trial with its budget. Its state is in the checkpoint.

    Args:
        monitor: The objective: any metric that is logged.
        mode: "min" or "max".

    Attributes:
        values: (updates, value) of every value so far.
        time_is_up: Whether `seconds` ended the run within an epoch: it is resumed when the search is.
        max_epochs: Epochs after which the trial ends, though the run could be longer; None for the run's own end.
        seconds: Seconds left of the search when training begins; None for no limit.
    """

    accepts_many_steps = True
    ends_for_good = False

    def __init__(self, monitor: str, mode: str = "min"):
        super().__init__(monitor, mode)
        self.values: list[tuple[int, float]] = []
        self.max_epochs: int | None = None
        self.seconds: float | None = None
        self.time_is_up = False

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.values, self.time_is_up, self._began = [], False, time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        if self.seconds is not None and time.monotonic() - self._began >= self.seconds:
            self.time_is_up = self.model.stop_training = True

    def on_value(self, value, record):
        if self.time_is_up and record["step"] % self.run.steps_per_epoch:
            return  # the uninterrupted run does not make this evaluation
        if not math.isfinite(value):
            raise ObjectiveError(
                f"Expected a finite objective. Received: {self.monitor}={value} after update {record['step']}"
            )
        self.values.append((record["step"], value))

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if self.max_epochs is not None and epoch + 1 >= self.max_epochs:
            self.model.stop_training = True

    def state_dict(self):
        return {"values": self.values}

    def load_state_dict(self, state):
        self.values = [tuple(value) for value in state["values"]]


def best_value(values: list[tuple[int, float]], mode: str) -> tuple[int, float]:
    """Returns the (updates, value) of the best value, the first of equal ones."""
    return (min if mode == "min" else max)(values, key=lambda value: value[1])
