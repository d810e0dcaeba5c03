"""The end of a run by updates or by the clock."""

import datetime
import time

from lightkeras.callbacks.callback import Callback
from lightkeras.distribution.replicas import any_worker
from lightkeras.utils.checks import ArgumentError, require

UNITS = {"weeks", "days", "hours", "minutes", "seconds"}


def to_seconds(max_time) -> float | None:
    """Converts "DD:HH:MM:SS", a `datetime.timedelta` or a dict of its arguments to seconds; None stays None."""
    if max_time is None:
        return None
    if isinstance(max_time, str):
        parts = max_time.split(":")
        require(len(parts) == 4 and all(p.isdigit() for p in parts), "max_time", '"DD:HH:MM:SS"', max_time)
        max_time = dict(zip(("days", "hours", "minutes", "seconds"), map(int, parts), strict=True))
    if isinstance(max_time, dict):
        require(set(max_time) <= UNITS, "max_time", f"a dict with {', '.join(sorted(UNITS))}", max_time)
        try:
            max_time = datetime.timedelta(**max_time)
        except (TypeError, ValueError, OverflowError) as error:
            raise ArgumentError(
                f"Expected `max_time` to hold numbers. Received: max_time={max_time} ({error})"
            ) from error
    require(isinstance(max_time, datetime.timedelta), "max_time", '"DD:HH:MM:SS", a timedelta or a dict', max_time)
    require(max_time.total_seconds() > 0, "max_time", "longer than 0 seconds", max_time)
    return max_time.total_seconds()


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
        self._max_steps, self._max_seconds = max_steps, max_seconds
        self.stops = (max_steps,) if max_steps else ()

    def on_train_begin(self, logs=None):
        self._began = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        out_of_steps = self._max_steps is not None and self.model.global_step >= self._max_steps
        if out_of_steps or (self._max_seconds is not None and self._out_of_time()):
            self.model.stop_training = True

    def _out_of_time(self) -> bool:
        """By any worker's clock: all must stop at the same update."""
        late = time.monotonic() - self._began >= (self._max_seconds or 0)
        return any_worker(self.model.distribute_strategy, late)
