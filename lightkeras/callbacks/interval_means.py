"""Means over the logging interval."""

import keras
import numpy as np


class IntervalMeans:
    """Takes the means of a task's metrics over each interval of `every` updates.

    It is the only place that reads sums within an epoch.

    Args:
        task: The task.
        every: Updates of an interval.
    """

    def __init__(self, task: keras.Model, every: int):
        self._task, self._every = task, every
        self._before, self._step = None, task.global_step

    def state_dict(self) -> dict:
        """Returns the step and the sums at which the running interval began."""
        return {"step": self._step, "before": None if self._before is None else self._before.tolist()}

    def load_state_dict(self, state: dict) -> None:
        """Restores the running interval."""
        self._step = state["step"]
        self._before = None if state["before"] is None else np.array(state["before"])

    def is_due(self) -> bool:
        """Returns whether an interval ends at this update."""
        return self._task.global_step % self._every == 0

    def take(self, epoch: int) -> dict | None:
        """Ends the interval and returns its record; None if no update was made in it."""
        step, sums = self._task.global_step, self._task.train_sums
        if step == self._step:
            return None
        values = sums.values.numpy()
        interval = sums.between(self._before, values)
        self._before = None if step % self._task.steps_per_epoch == 0 else values[: len(sums.non_finite)]
        self._step = step
        return {"epoch": epoch, "step": step, **sums.results(interval)}
