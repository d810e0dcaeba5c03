"""Updates and units (characters, images) per second of training, and the share of the device's peak."""

import time

import keras

from lightkeras.callbacks.callback import Callback
from lightkeras.profiling.peaks import peak_of_strategy
from lightkeras.profiling.update import cost_of_update
from lightkeras.utils.checks import require_number


class Throughput(Callback):
    """Adds `steps_per_second` and `UNITs_per_second` (`task.unit`) to the records, and `mfu` where the peak is known.

    Time spent between epochs, in validation and in the first call, which traces and compiles, does not count.

    `mfu`, the model FLOPs utilization, is the floating-point operations per second of the products in the updates, over
    the peak of the devices (Chowdhery et al. 2022, PaLM, appendix B). The peaks of some GPUs are known (see
    `profiling/peaks.py`), that of a CPU is not. It is left out where the operations of an update are not known exactly.

    Args:
        peak_flops: What the devices of this process can compute at most, in FLOP/s; None takes the known peak of the
            GPUs.
    """

    order = -10
    accepts_many_steps = True
    _since = None

    def __init__(self, peak_flops: float | None = None):
        super().__init__()
        require_number("peak_flops", peak_flops, optional=True)
        self.peak_flops = peak_flops

    def on_train_begin(self, logs=None):
        self._since, self._paused = None, False
        half = keras.config.dtype_policy().compute_dtype in ("float16", "bfloat16")
        self._peak = self.peak_flops or peak_of_strategy(self.model.distribute_strategy, half)

    def on_train_batch_begin(self, batch, logs=None):
        if self._paused:
            self._restart()

    def on_train_batch_end(self, batch, logs=None):
        if self._since is None:
            self._restart()

    def on_log(self, record):
        if self._since is None or self.model.global_step == self._step:
            return
        seconds = time.perf_counter() - self._since
        steps, units = self.model.global_step - self._step, self._units() - self._counted
        record["steps_per_second"] = steps / seconds
        if units > 0:
            record[f"{self.model.unit}_per_second"] = units / seconds
        if self._peak and (flops := self._flops()):
            record["mfu"] = flops * steps / seconds / self._peak
        self._restart()

    def _restart(self) -> None:
        self._since, self._step, self._counted = time.perf_counter(), self.model.global_step, self._units()
        self._paused = False

    def _flops(self) -> float | None:
        """Returns the operations of an update of this process; None where they are not known exactly."""
        cost = cost_of_update(self.model.train_loop)
        return cost.flops.total if cost and not cost.flops.notes else None

    def _units(self) -> float:
        return self.model.train_sums.units()

    def on_epoch_begin(self, epoch, logs=None):
        self._paused = self._since is not None

    def on_test_end(self, logs=None):
        self._paused = self._since is not None
