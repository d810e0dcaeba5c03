"""Callbacks that watch a metric for the better."""

import math

from lightkeras.callbacks.callback import Callback
from lightkeras.utils.checks import require_choice


class Monitor(Callback):
    """Calls `on_value(value, record)` with each new value of the metric `monitor`.

    A metric of validation has one after each validation, a training metric one as an epoch ends.

    Args:
        monitor: Name of a metric, such as "val_loss".
        mode: "min" if less is better, "max" if more is.
    """

    def __init__(self, monitor: str | None, mode: str = "min"):
        super().__init__()
        require_choice("mode", mode, ("min", "max"))
        self.monitor, self.mode = monitor, mode
        self._comes_by_validation = False

    def on_train_begin(self, logs=None):
        self._comes_by_validation = False

    def better(self, value: float, than: float | None, by: float = 0.0) -> bool:
        """Returns whether `value` is better than `than` by more than `by`; NaN never is, any number beats None."""
        if math.isnan(value):
            return False
        return than is None or (value < than - by if self.mode == "min" else value > than + by)

    def on_value(self, value: float, record: dict) -> None:
        """Receives a new value of the monitored metric."""
        raise NotImplementedError

    def on_validation_end(self, record):
        if self.monitor in record:
            self._comes_by_validation = True
            self.on_value(float(record[self.monitor]), record)

    def on_epoch_end(self, epoch, logs: dict | None = None):
        logs = logs or {}
        if self.monitor in logs and not self._comes_by_validation:
            self.on_value(float(logs[self.monitor]), {"epoch": epoch, "step": self.model.global_step, **logs})
