"""The end of a run by updates or by the clock."""

import time

from lightkeras.callbacks.callback import Callback
from lightkeras.distribution.replicas import any_worker
from lightkeras.utils.formats import clock


class Limit(Callback):
    """Ends training after a number of updates or seconds.

    Args:
        max_steps: Updates of the whole run, those before a resume included; None for no limit.
        max_seconds: Seconds from here on; None for no limit.
    """

    order = 60
    accepts_many_steps = True
    ends_for_good = False

    def __init__(self, max_steps: int | None, max_seconds: float | None):
        super().__init__()
        self.max_steps, self.max_seconds = max_steps, max_seconds
        self.stops = (max_steps,) if max_steps else ()

    def on_train_begin(self, logs=None):
        self._began = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        out_of_steps = self.max_steps is not None and self.model.global_step >= self.max_steps
        if out_of_steps or (self.max_seconds is not None and self._out_of_time()):
            self.model.stop_training = True

    def stop_reason(self) -> str:
        """Names the limit that ended training."""
        if self.max_steps is not None and self.model.global_step >= self.max_steps:
            return f"Ended by max_steps={self.max_steps}"
        return f"Ended by max_time={clock(self.max_seconds or 0)}"

    def _out_of_time(self) -> bool:
        """By any worker's clock: all must stop at the same update."""
        late = time.monotonic() - self._began >= (self.max_seconds or 0)
        return any_worker(self.model.distribute_strategy, late)
