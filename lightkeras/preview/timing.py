"""Times a few updates and a short validation of a run, and looks at the task while it is built."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from lightkeras.callbacks import Callback

ENOUGH, AT_MOST = 2.0, 20.0  # seconds to time: with three calls at least, and in any case


class Timing(NamedTuple):
    """Seconds.

    Attributes:
        first: The first call, which traces and compiles the update.
        update: An update; None if the run has no second call.
        validation: The validation of a few batches; None without.
    """

    first: float
    update: float | None
    validation: float | None


class Stopwatch(Callback):
    """Ends the run when enough updates are timed.

    Args:
        look: Called with the built task before the first update; its result is `seen`.
    """

    order = 90
    accepts_many_steps = True
    ends_for_good = False

    def __init__(self, look: Callable[[Any], Any]):
        super().__init__()
        self._look = look
        self.seen: Any = None
        self._marks: list[tuple[float, int]] = []
        self._validated: float | None = None

    def on_train_begin(self, logs=None):
        self.seen, self._marks, self._validated = self._look(self.model), [], None
        self._began = self._ended = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.model.train_sums.values.numpy()  # waits for the device
        self._ended = time.perf_counter()
        self._marks.append((self._ended, self.model.global_step))
        took = self._ended - self._marks[0][0]
        if took >= AT_MOST or (took >= ENOUGH and len(self._marks) > 3):
            self.model.stop_training = True

    def on_validation_end(self, record):
        self._validated = time.perf_counter() - self._ended

    @property
    def timing(self) -> Timing:
        """What was measured."""
        (first, from_step), (last, to_step) = self._marks[0], self._marks[-1]
        updates = to_step - from_step
        return Timing(first - self._began, (last - first) / updates if updates else None, self._validated)
