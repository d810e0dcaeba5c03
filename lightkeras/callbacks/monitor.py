"""What EarlyStopping and ModelCheckpoint share: a metric that is watched for the better."""

import math

from lightkeras.callbacks.callback import Callback
from lightkeras.utils.checks import require_choice


class Monitor(Callback):
    """Calls `on_value(value, record)` with each new value of the metric `monitor`.

    Values come after each validation; those of a training metric come as an epoch ends.

    Args:
        monitor: Name of a metric, such as "val_loss".
        mode: "min" where less is better, "max" where more is.
    """

    def __init__(self, monitor: str | None, mode: str = "min"):
        super().__init__()
        require_choice("mode", mode, ("min", "max"))
        self.monitor, self.mode = monitor, mode
        self._seen_step = -1

    def on_train_begin(self, logs=None):
        self._seen_step = -1

    def better(self, value: float, than: float | None, by: float = 0.0) -> bool:
        """Whether `value` is better than `than` by more than `by`; NaN never is, anything beats None."""
        if math.isnan(value):
            return False
        return than is None or (value < than - by if self.mode == "min" else value > than + by)

    def on_value(self, value: float, record: dict) -> None:
        """A new value of the monitored metric."""
        raise NotImplementedError

    def on_validation_end(self, record):
        self._look(record)

    def on_epoch_end(self, epoch, logs=None):
        self._look({"epoch": epoch, "step": self.model.global_step, **(logs or {})})

    def _look(self, record: dict) -> None:
        if self.monitor in record and record["step"] != self._seen_step:
            self._seen_step = record["step"]
            self.on_value(float(record[self.monitor]), record)
