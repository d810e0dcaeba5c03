"""Stops a run whose metric does not improve."""

from lightkeras.callbacks.monitor import Monitor
from lightkeras.callbacks.stop_reason import describe_patience
from lightkeras.utils.checks import require_int, require_number


class EarlyStopping(Monitor):
    """Stops training when `monitor` has not improved `patience` times in a row. Its state is in the checkpoint.

    Args:
        monitor: Name of a metric.
        mode: "min" or "max".
        patience: Values without improvement (NaN counts as none) before stopping.
        min_delta: The least change that counts as an improvement.

    Attributes:
        best, best_epoch: The best value and its epoch, from 1; None before the first.
        wait: Values since then.
    """

    def __init__(self, monitor: str = "val_loss", mode: str = "min", patience: int = 3, min_delta: float = 0.0):
        super().__init__(monitor, mode)
        require_int("patience", patience)
        require_number("min_delta", min_delta, inclusive=True)
        self.patience, self.min_delta = patience, min_delta
        self.best, self.wait, self.best_epoch = None, 0, None
        self._epoch: int = 0

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.best, self.wait, self.best_epoch = None, 0, None

    def on_value(self, value, record):
        self._epoch = record["epoch"] + 1
        if self.better(value, self.best, self.min_delta):
            self.best, self.wait, self.best_epoch = value, 0, self._epoch
            return
        self.wait += 1
        if self.wait >= self.patience:
            self.model.stop_training = True

    def stop_reason(self) -> str:
        """Says which metric did not improve, for how long, and its best value."""
        by_epoch = self.wait == self._epoch - (self.best_epoch or 0)  # one value in each
        unit = "epochs" if by_epoch else "values"
        return describe_patience(type(self).__name__, str(self.monitor), self.wait, self.best, self.best_epoch, unit)

    def state_dict(self):
        return {"best": self.best, "wait": self.wait, "best_epoch": self.best_epoch}

    def load_state_dict(self, state):
        self.best, self.wait = state["best"], state["wait"]
        self.best_epoch = state.get("best_epoch")  # older checkpoints have none
