"""Finds a training that hangs: says where it stands, and ends it if asked to."""

import faulthandler
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import deque

from lightkeras.callbacks.phases import Phases
from lightkeras.runs.timeline import OTHER, SAVING, START, UPDATES, VALIDATION
from lightkeras.utils.checks import require_number
from lightkeras.utils.messages import logger

HUNG = 75  # the exit code, EX_TEMPFAIL of sysexits.h: try again
WHAT = {
    START: "The start of training",
    UPDATES: "An update (or the reading of its batch)",
    VALIDATION: "A batch of a validation",
    SAVING: "A checkpoint",
    OTHER: "What is done between updates",
}
FIRST = 10  # times the minimum: for what has not been timed yet, as a first call, which traces and compiles
SAVE_SECONDS = 30.0  # for a checkpoint that is being written, before the process ends


class Watchdog(Phases):
    """Watches how long each part of the training takes, from a thread of its own.

    A call of updates or a batch of a validation that takes 20 times the median (and at least 60 seconds), or anything
    else that takes 10 minutes, is said once: with the address of the batch, and the stacks of all threads.

    With `hang_timeout`, the process ends with exit code 75 as soon as something takes this number of seconds. It cannot
    be saved then, as an update may be half made: the last checkpoint stays, and `ckpt_path="auto"` resumes it. Of
    several workers, all wait for one that hangs, and so all end.

    Args:
        hang_timeout: Seconds; longer than the first call, which traces and compiles. None only says so.
        factor: Times the median.
        minimum: Seconds.
    """

    order = -96

    def __init__(self, hang_timeout: float | None = None, factor: float = 20.0, minimum: float = 60.0):
        super().__init__()
        require_number("hang_timeout", hang_timeout, optional=True)
        require_number("factor", factor, above=1.0)
        require_number("minimum", minimum)
        self.hang_timeout, self.factor, self.minimum = hang_timeout, factor, minimum
        self._ended: threading.Event | None = None

    def on_train_begin(self, logs=None):
        self._ended, self._told = threading.Event(), False
        self._times: dict[str, deque[float]] = {UPDATES: deque(maxlen=101), VALIDATION: deque(maxlen=101)}
        self._now: tuple[str, float] = (START, time.monotonic())
        self._called = False
        super().on_train_begin(logs)
        threading.Thread(target=self._watch, args=(self._ended,), name="watchdog", daemon=True).start()

    def enter(self, phase):
        (before, began), now = self._now, time.monotonic()
        self._now = (phase, now)
        if before == UPDATES and not self._called:
            self._called = True  # the first call traces and compiles
        elif before in self._times:
            steps = max(1, self.model.train_loop.calls.count) if before == UPDATES else 1
            self._times[before].append((now - began) / steps)

    def on_train_end(self, logs=None):
        self._stop()

    def on_exception(self, error):
        self._stop()

    def _stop(self) -> None:
        if self._ended is not None:
            self._ended.set()

    def _watch(self, ended: threading.Event) -> None:
        """Looks some times in the shortest time that matters, until training ends."""
        shortest = min(self.minimum, self.hang_timeout or self.minimum)
        while not ended.wait(min(5.0, shortest / 10)):
            phase, began = self._now
            seconds = time.monotonic() - began
            hangs = self.hang_timeout is not None and seconds >= self.hang_timeout
            if hangs or (not self._told and seconds >= self._limit(phase)):
                self._told = True
                self._tell(phase, seconds)
            if hangs and not ended.is_set():
                self._end_process()
                return

    def _limit(self, phase: str) -> float:
        """Returns the seconds after which a phase hangs."""
        times = list(self._times.get(phase, ()))
        if not times:
            return FIRST * self.minimum
        steps = max(1, self.model.train_loop.calls.count) if phase == UPDATES else 1
        return max(self.minimum, self.factor * statistics.median(times) * steps)

    def _tell(self, phase: str, seconds: float) -> None:
        task = self.model
        epoch, batch = divmod(task.global_step, self.run.steps_per_epoch)
        count = max(1, task.train_loop.calls.count) if phase == UPDATES else 1
        where = f"epoch {epoch}, batch {batch}" + (f" to {batch + count - 1}" if count > 1 else "")
        logger.warning(
            "%s has taken %.0f seconds so far, after update %d (%s). What all threads are doing, the latest call "
            "first:\n%s", WHAT[phase], seconds, task.global_step, where, _stacks(),
        )  # fmt: skip

    def _end_process(self) -> None:
        """Ends the process: the thread that hangs cannot be ended alone."""
        saver = self.run.saver
        waiting = threading.Thread(target=saver.wait, daemon=True)
        waiting.start()
        waiting.join(SAVE_SECONDS)
        how = f" Resume it with ckpt_path={str(self.run.folder)!r}." if self.run.folder else ""
        logger.error("The run hangs, and ends with exit code %d (hang_timeout).%s", HUNG, how)
        sys.stdout.flush()
        sys.stderr.flush()
        end_process(HUNG)


def _stacks() -> str:
    """Returns the stacks of all threads."""
    with tempfile.TemporaryFile("w+") as file:  # `faulthandler` wants a real file
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read()


def end_process(code: int) -> None:
    """Ends the process at once."""
    os._exit(code)
