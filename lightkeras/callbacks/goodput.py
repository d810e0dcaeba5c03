"""Which share of its time a run spends on useful updates, kills and resumes included."""

import contextlib
import statistics
import time

from lightkeras.callbacks.phases import Phases
from lightkeras.runs.ledger import OTHER, SAVING, STALLS, START, TRACING, UPDATES, Ledger

EVERY = 10.0  # seconds between two writes of the file, at least
STALLED = 20.0  # times the median
FEW = 9  # calls that the median is of


class Goodput(Phases):
    """Adds `goodput` to the records: the share of useful updates in the time of all of the run's processes.

    `goodput.json` in the run's folder has the seconds of every kind (see `runs.ledger`). Reading batches is a part of
    an update, which waits for them. What an update took longer than 20 times the median is a stall. The first call is
    tracing. Time when no process runs does not count, nor the last seconds before a kill.

    Args:
        began: When the run was asked for, by `time.monotonic()`; None for the beginning of training.
    """

    writes_files = chief_only = True

    def __init__(self, began: float | None = None):
        super().__init__()
        self._asked = began
        self._ledger: Ledger | None = None

    def on_train_begin(self, logs=None):
        self._ledger = None
        self._phase, self._since = START, time.monotonic() if self._asked is None else self._asked
        self._each: list[float] = []
        self._longest = float("inf")  # seconds of an update that is no stall
        self._traced = False
        super().on_train_begin(logs)

    def enter(self, phase):
        if self._ledger is None:
            self._ledger = Ledger(self.run.folder, self.model.global_step)  # after the resumed state is there
        now = time.monotonic()
        self._count(self._phase, now - self._since)
        if self._phase == SAVING:
            self._ledger.mark()
            self._ledger.write()
        self._phase, self._since = phase, now

    def _count(self, phase: str, seconds: float) -> None:
        assert self._ledger is not None
        step = self.model.global_step
        if phase != UPDATES:
            self._ledger.add(phase, seconds, step)
        elif not self._traced:
            self._traced = True
            self._ledger.add(TRACING, seconds, step)
        else:
            steps = max(1, self.model.train_loop.calls.count)
            useful = min(seconds, self._longest * steps)
            self._ledger.add(STALLS, seconds - useful, step)
            self._ledger.add(UPDATES, useful, step)
            self._each.append(seconds / steps)
            if len(self._each) == FEW:
                self._longest = STALLED * statistics.median(self._each)
                self._each = []

    def on_log(self, record):
        if self._ledger is not None:
            record["goodput"] = self._ledger.summary()["goodput"]
            self._ledger.write(at_least=EVERY)

    def on_train_end(self, logs=None):
        self._end()

    def on_exception(self, error):
        if self._ledger is not None and isinstance(error, Exception):
            with contextlib.suppress(OSError):  # perhaps the disk is what failed; `error` says more
                self._end()

    def _end(self) -> None:
        self.enter(OTHER)
        assert self._ledger is not None
        self._ledger.write()
