"""What the time of a run goes into, and which share of it useful updates have, kills and resumes included."""

import statistics
import time
from collections import Counter

from lightkeras.callbacks.phases import Phases
from lightkeras.runs import timeline
from lightkeras.runs.timeline import OTHER, STALLS, START, TRACING, UPDATES

STALLED = 20.0  # times the median
FEW = 9  # calls that the median is of


class Goodput(Phases):
    """Adds up the seconds of each kind (`run.seconds`, see `runs.timeline`), and adds `goodput` to the records.

    `goodput` is the share of useful updates in the time of all of the run's processes. Reading batches is a part of an
    update, which waits for them. What an update took longer than 20 times the median is a stall. The first call is
    tracing. Time when no process runs does not count, nor the last seconds before a kill.

    Args:
        began: When the run was asked for, by `time.monotonic()`; None for the beginning of training.
    """

    writes_files = chief_only = True

    def __init__(self, began: float | None = None):
        super().__init__()
        self._asked, self._earlier = began, None

    def on_train_begin(self, logs=None):
        found = timeline.summarize(timeline.read_events(self.run.folder), self.model.global_step)
        self._earlier = found["seconds"] if found else {}
        self._phase, self._since = START, time.monotonic() if self._asked is None else self._asked
        self._each: list[float] = []
        self._longest = float("inf")  # seconds of an update that is no stall
        self._traced = False
        super().on_train_begin(logs)

    def enter(self, phase):
        now = time.monotonic()
        self._count(self._phase, now - self._since)
        self._phase, self._since = phase, now

    def _count(self, phase: str, seconds: float) -> None:
        spent = self.run.seconds
        if phase != UPDATES:
            spent[phase] += seconds
        elif not self._traced:
            self._traced = True
            spent[TRACING] += seconds
        else:
            steps = max(1, self.model.train_loop.calls.count)
            useful = min(seconds, self._longest * steps)
            spent[STALLS] += seconds - useful
            spent[UPDATES] += useful
            self._each.append(seconds / steps)
            if len(self._each) == FEW:
                self._longest = STALLED * statistics.median(self._each)
                self._each = []

    def on_log(self, record):
        seconds = Counter(self._earlier)
        seconds.update(self.run.seconds)
        record["goodput"] = timeline.share_of_updates(seconds)

    def on_train_end(self, logs=None):
        self.enter(OTHER)

    def on_exception(self, error):
        if self._earlier is not None:
            self.enter(OTHER)
