"""Stops a run whose metric does not improve."""

from lightkeras.callbacks.monitor import Monitor
from lightkeras.utils.checks import require_int, require_number
from lightkeras.utils.messages import logger


class EarlyStopping(Monitor):
    """Stops training when `monitor` has not improved `patience` times in a row. Its state is in the checkpoint.

    Args:
        monitor: Name of a metric.
        mode: "min" or "max".
        patience: Values without improvement (NaN counts as none) before stopping.
        min_delta: The least change that counts as an improvement.
    """

    def __init__(self, monitor: str = "val_loss", mode: str = "min", patience: int = 3, min_delta: float = 0.0):
        super().__init__(monitor, mode)
        require_int("patience", patience)
        require_number("min_delta", min_delta, inclusive=True)
        self.patience, self.min_delta = patience, min_delta
        self.best, self.wait = None, 0

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.best, self.wait = None, 0

    def on_value(self, value, record):
        if self.better(value, self.best, self.min_delta):
            self.best, self.wait = value, 0
            return
        self.wait += 1
        if self.wait >= self.patience:
            best = "never a number" if self.best is None else f"{self.best:.4g} at best"
            logger.info("Stopping: %s was %s, and not better %d times in a row.", self.monitor, best, self.wait)
            self.model.stop_training = True

    def state_dict(self):
        return {"best": self.best, "wait": self.wait}

    def load_state_dict(self, state):
        self.best, self.wait = state["best"], state["wait"]
