"""A TensorBoard profile of some updates, and a table of the operations that cost most."""

import contextlib
from typing import Any

import tensorflow as tf
from rich.console import Console

from lightkeras.callbacks.callback import Callback
from lightkeras.distribution.replicas import is_chief
from lightkeras.profiling.operations import make_table, read_costs, write_costs
from lightkeras.profiling.update_range import UpdateRange, parse_updates
from lightkeras.utils.messages import logger
from lightkeras.utils.paths import Folder

FOLDER, TABLE = "profile", "operations.csv"


class Profiler(Callback):
    """Profiles updates, for TensorBoard, and prints the costliest operations at the end of the run.

    Calls of several updates are cut so that one begins with the first of the updates and one ends with the last; each
    call is a step in TensorBoard. What happens between them (a validation, a checkpoint) is in the profile too. Of a
    run that is resumed in the middle of the range, or that ends there, the rest is profiled; a line says which updates.
    Of several workers, the first makes a profile, of itself.

    The files are in `profile/updates_FIRST-LAST/` in the run's folder: the profile, and `operations.csv`. If the folder
    exists (the run was killed and resumed), `-2` is added to its name.

    Args:
        updates: The first and the last update: "20-30".
    """

    order = -100
    accepts_many_steps = True
    writes_files = True

    def __init__(self, updates: str):
        super().__init__()
        self.range: UpdateRange = parse_updates(updates, "updates")
        self.cuts = (self.range.first - 1, self.range.last)
        self._folder: Folder | None = None
        self._began_after: int | None = None
        self._trace: Any = None
        self._calls, self._done = 0, False

    def on_train_begin(self, logs=None):
        self._folder, self._began_after, self._trace, self._calls = None, None, None, 0
        self._done = not is_chief(self.model.distribute_strategy)
        if self.model.global_step >= self.range.last and not self._done:
            self._done = True
            logger.info("Profile: none, updates %s are made already.", self.range)

    def on_train_batch_begin(self, batch, logs=None):
        if self._done or self.model.global_step < self.range.first - 1:
            return
        if self._began_after is None:
            self._start()
        self._trace = tf.profiler.experimental.Trace("train", step_num=self.model.global_step + 1, _r=1)
        self._trace.__enter__()

    def on_train_batch_end(self, batch, logs=None):
        if self._trace is None:
            return
        self._calls += 1
        last = self.model.global_step >= self.range.last
        if last:
            self._wait()
        self._trace.__exit__(None, None, None)
        self._trace = None
        if last:
            self._stop()

    def _wait(self) -> None:
        """Waits for the device: on a GPU, a call returns before its updates are made."""
        self.model.train_sums.values.numpy()

    def _start(self) -> None:
        self._wait()
        self._folder = _new_folder(self.run.folder / FOLDER, f"updates_{self.range}")
        self._began_after = self.model.global_step
        tf.profiler.experimental.start(str(self._folder))

    def _stop(self) -> None:
        tf.profiler.experimental.stop()
        self._done, self._ended_after = True, self.model.global_step

    def on_train_end(self, logs=None):
        if self._began_after is None:
            if not self._done:
                logger.info("Profile: none, the run ended before update %d.", self.range.first)
            return
        if not self._done:
            self._wait()
            self._stop()
        self._report()

    def _report(self) -> None:
        assert self._folder is not None and self._began_after is not None
        updates = self._ended_after - self._began_after
        costs = read_costs(self._folder)
        write_costs(self._folder / TABLE, costs, updates)
        made = UpdateRange(self._began_after + 1, self._ended_after)
        asked = "" if made == self.range else f" (of {self.range}: the run was resumed or ended within them)"
        title = f"Costliest operations of updates {made}{asked}, in {self._calls} calls"
        Console().print(make_table(costs, updates, title))
        logger.info("Profile of updates %s: %s (tensorboard --logdir %s)", made, self._folder, self.run.folder)

    def on_exception(self, error):
        """Drops a profile that has not ended: the next one in this process could not begin."""
        if self._began_after is not None and not self._done:
            if self._trace is not None:
                with contextlib.suppress(RuntimeError):
                    self._trace.__exit__(None, None, None)
            self._done = True
            tf.profiler.experimental.stop(save=False)


def _new_folder(parent: Folder, name: str) -> Folder:
    """Makes a folder of its own."""
    parent.mkdir(parents=True, exist_ok=True)
    for number in range(1, 10**6):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise FileExistsError(parent / name)
