"""Times a few updates and a short validation of a run, and looks at the task while it is built."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from lightkeras.callbacks import Callback
from lightkeras.callbacks.model_summary import describe_flops, describe_memory
from lightkeras.profiling.update import UpdateCost, cost_of_update

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

    Attributes:
        cost: What an update costs; None where updates run op by op.
        costs: Sentences about the floating-point operations and the memory of an update.
    """

    order = 90
    accepts_many_steps = True
    ends_for_good = False

    def __init__(self, look: Callable[[Any], Any]):
        super().__init__()
        self._look = look
        self.seen: Any = None
        self.cost: UpdateCost | None = None
        self.costs: list[str] = []
        self._calls: list[tuple[float, int]] = []  # seconds and updates
        self._validated: float | None = None

    def on_train_begin(self, logs=None):
        self.seen, self._calls, self._validated = self._look(self.model), [], None
        self._step = self.model.global_step

    def on_train_batch_begin(self, batch, logs=None):
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.model.train_sums.values.numpy()  # waits for the device
        self._ended = time.perf_counter()
        self._calls.append((self._ended - self._began, self.model.global_step - self._step))
        self._step = self.model.global_step
        if len(self._calls) == 1:
            self.cost = cost_of_update(self.model.train_loop)
            self.costs = [
                f"An update: {describe_flops(self.cost)}",
                f"Memory: {describe_memory(self.model, self.cost)}",
            ]
        took = sum(seconds for seconds, _ in self._calls[1:])
        if took >= AT_MOST or (took >= ENOUGH and len(self._calls) > 3):
            self.model.stop_training = True

    def on_validation_end(self, record):
        self._validated = time.perf_counter() - self._ended

    @property
    def timing(self) -> Timing:
        """What was measured."""
        first, *calls = self._calls
        later = calls[len(calls) // 2 :]  # the number of updates in a call grows at first
        seconds, updates = (sum(numbers) for numbers in zip(*later, strict=True)) if later else (0.0, 0)
        return Timing(first[0], seconds / updates if updates else None, self._validated)
