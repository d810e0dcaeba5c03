"""The callback that follows a run to an update, looks at it, and ends the run there."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from lightkeras.callbacks import Callback
from lightkeras.callbacks.non_finite_guard import NonFiniteGuard
from lightkeras.runs import state


class Arrived(Exception):
    """The run is where it should be: it goes no further."""


@dataclasses.dataclass(frozen=True)
class State:
    """A whole run between two updates, on the host: what a checkpoint holds.

    Attributes:
        arrays: As of `runs.state.capture`.
        state: Its values.
        path: Names it in messages.
    """

    arrays: dict[str, np.ndarray]
    state: dict[str, Any]
    path: str


class Unguarded(NonFiniteGuard):
    """Lets a run go on at a loss that is not finite: it is what is looked at."""

    def look(self) -> None:
        """Does nothing."""


class Traveller(Callback):
    """Follows a run to the moment before update `step`, or on to update `until`.

    Args:
        step: The update, counted from 1.
        count: Updates from there on that are noted one by one; None: the run ends before `step`.
        data: The data module of the run.
        to_row: Go on to the end of the last logging interval, which metrics.csv has a row of.

    Attributes:
        records: The records of the logs on the way.
        before: The state before `step`.
        after: The values of the variables after it, by name.
        updates: The metrics of each of `count` updates.
        until: The last update that is made.
        check: Called before the first update; raises if the run must not be executed.
    """

    order = 100
    accepts_many_steps = True
    ends_for_good = False

    def __init__(self, step: int, count: int | None, data: Any, to_row: bool = True):
        super().__init__()
        self.to_row = to_row
        self.step, self.count, self.data = step, count, data
        self.cuts = tuple(range(step - 1, step + (count or 0)))
        self.records: list[dict[str, Any]] = []
        self.updates: list[dict[str, Any]] = []
        self.before: Any = None  # a State
        self.after: dict[str, np.ndarray] = {}
        self.until = step - 1
        self.check: Callable[[], None] | None = None

    def on_train_begin(self, logs=None):
        if self.check:
            self.check()
        if self.count is not None:
            if total := self.model.total_steps:
                self.count = min(self.count, total - self.step + 1)
            last = self.step + self.count - 1
            self.until = self._end_of_interval(last) if self.to_row else last

    def _end_of_interval(self, step: int) -> int:
        """Returns the update of the row of metrics.csv that `step` is in."""
        ends = [-(-step // every) * every for every in (self.run.log_every_n_steps, self.run.steps_per_epoch)]
        total = self.model.total_steps
        return min([*ends, *([total] if total else [])])

    def on_log(self, record):
        self.records.append(dict(record))

    def on_train_batch_begin(self, batch, logs=None):
        now, sums = self.model.global_step, self.model.train_sums
        if now == self.step - 1:
            self.before = self._capture()
            if self.count is None:
                raise Arrived
        self._sums = None if now % self.run.steps_per_epoch == 0 else sums.values.numpy()

    def _capture(self) -> State:
        callbacks = self.run.callbacks.state_dict()
        arrays, values = state.capture(self.model, self.data, callbacks, self.model.seed)
        return State(arrays, {**values, "best": None, "stopped_by": None}, f"the state before update {self.step}")

    def on_train_batch_end(self, batch, logs=None):
        now, sums = self.model.global_step, self.model.train_sums
        if self.step <= now < self.step + (self.count or 0):
            before = None if self._sums is None else self._sums[: len(sums.non_finite)]
            self.updates.append(sums.results(sums.between(before, sums.values.numpy())))
        if now == self.step:
            self.after = {name: np.array(variable) for name, variable in self.model.state_variables().items()}
        logged = now % self.run.steps_per_epoch or now % self.run.log_every_n_steps == 0
        if self.count is not None and now >= self.until and (logged or not self.to_row):
            raise Arrived

    def on_epoch_end(self, epoch, logs=None):
        """Ends the run here where the end of an epoch is what is logged."""
        if self.count is not None and self.model.global_step >= self.until:
            raise Arrived
