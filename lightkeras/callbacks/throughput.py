"""Updates and units (characters, images) per second of training."""

import time

from lightkeras.callbacks.callback import Callback


class Throughput(Callback):
    """Adds `steps_per_second` and `UNITs_per_second` (`task.unit`) to the records.

    Time spent between epochs, in validation and in the first call, which traces and compiles, does not count.
    """

    order = -10
    accepts_many_steps = True
    _since = None

    def on_train_begin(self, logs=None):
        self._since, self._paused = None, False

    def on_train_batch_begin(self, batch, logs=None):
        if self._paused:
            self._restart()

    def on_train_batch_end(self, batch, logs=None):
        if self._since is None:
            self.run.seconds["start, with tracing and compiling"] = time.time() - self.run.began
            self._restart()

    def on_log(self, record):
        if self._since is None or self.model.global_step == self._step:
            return
        seconds = time.perf_counter() - self._since
        steps, units = self.model.global_step - self._step, self._units() - self._counted
        record["steps_per_second"] = steps / seconds
        if units > 0:
            record[f"{self.model.unit}_per_second"] = units / seconds
        self._restart()

    def _restart(self) -> None:
        self._since, self._step, self._counted = time.perf_counter(), self.model.global_step, self._units()
        self._paused = False

    def _units(self) -> float:
        return self.model.train_sums.units()

    def on_epoch_begin(self, epoch, logs=None):
        self._paused = self._since is not None

    def on_test_end(self, logs=None):
        self._paused = self._since is not None
