"""What a trial tells its search: the objective's values, and where its budget ends."""

import math
import time

from lightkeras.callbacks.monitor import Monitor
from lightkeras.utils.checks import LightkerasError


class ObjectiveError(LightkerasError, ArithmeticError):
    """The objective was NaN or infinite, or had no value at all."""


class TrialProgress(Monitor):
    """Keeps every value of the objective, and ends the trial where its budget ends. Its state is in the checkpoint.

    Args:
        monitor: The objective: any metric that is logged.
        mode: "min" or "max".

    Attributes:
        values: (updates, value) of every value so far.
        cut: Whether `seconds` ended the run within an epoch: it is not over, and goes on when the search does.
        max_epochs: Epochs after which the trial ends, though the run could be longer; None for the run's own end.
        seconds: Seconds from the begin of training that are left of the search; None for no limit.
    """

    def __init__(self, monitor: str, mode: str = "min"):
        super().__init__(monitor, mode)
        self.values: list[tuple[int, float]] = []
        self.max_epochs: int | None = None
        self.seconds: float | None = None
        self.cut = False

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.values, self.cut, self._began = [], False, time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        if self.seconds is not None and time.monotonic() - self._began >= self.seconds:
            self.cut = self.model.stop_training = True

    def on_value(self, value, record):
        if self.cut and record["step"] % self.params["steps"]:
            return  # an evaluation that the uninterrupted run does not make
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


def best(values: list[tuple[int, float]], mode: str) -> tuple[int, float]:
    """The (updates, value) of the best value, the first of equal ones."""
    return (min if mode == "min" else max)(values, key=lambda value: value[1])
