"""Validation during training: at the end of epochs and, if asked, within them."""

import contextlib
import time

from lightkeras.callbacks.callback import Callback
from lightkeras.callbacks.callback_list import CallbackList
from lightkeras.data.named_sets import metric_prefix
from lightkeras.data.stages import StageData
from lightkeras.distribution.replicas import any_worker


class Validation(Callback):
    """Evaluates on the validation data and passes the results to the other callbacks, under `val_` names.

    Args:
        sets: The validation data sets, each with the batches of it that are used, by name; the metrics of a set NAME
            are `val_NAME_...`, and `val_...` of one whose name is "".
        every_n_steps: Also validate each time this number of updates of an epoch is made; None for its end alone.
        every_n_epochs: Validate in every n-th epoch only.
        every_seconds: Also validate, in every epoch, this number of seconds of training after the last validation. A
            resumed run goes on counting.
    """

    order = -40
    accepts_many_steps = True

    def __init__(
        self, sets: dict[str, StageData], every_n_steps: int | None = None, every_n_epochs: int = 1,
        every_seconds: float | None = None,
    ):  # fmt: skip
        super().__init__()
        self._sets = sets
        self._every_n_steps, self._every_n_epochs, self._every_seconds = every_n_steps, every_n_epochs, every_seconds
        self.epoch_stops = (every_n_steps,) if every_n_steps else ()
        self._step, self._results = -1, {}

    @property
    def set_names(self) -> list[str]:
        """The names of the data sets."""
        return list(self._sets)

    def result_names(self, evaluation_names: list[str]) -> list[str]:
        """The names of the results, for a task with these metrics of an evaluation."""
        return [metric_prefix("val", name) + metric for name in self._sets for metric in evaluation_names]

    def evaluate(self, callbacks: CallbackList | None = None, at_most: int | None = None) -> dict[str, float]:
        """Returns the metrics on (at most these first batches of) every set, by their `val_` names."""
        results = {}
        with self.model.averaged_weights():
            for name, (dataset, steps) in self._sets.items():
                logs = self.model.evaluate_dataset(dataset, min(steps, at_most or steps), callbacks)
                results |= {metric_prefix("val", name) + metric: value for metric, value in logs.items()}
        return results

    def try_out(self, steps: int) -> None:
        """Runs at most `steps` batches of each set, so that an error comes before training; drops the results."""
        with self.model.trying_out():
            self.evaluate(at_most=steps)

    def _validate(self, epoch: int) -> None:
        self._step = self.model.global_step
        results = self.evaluate(self.run.callbacks)
        self._began = time.monotonic()
        record = {"epoch": epoch, "step": self._step, **results}
        self.run.callbacks.on_record("on_validation_end", record)
        self._results = {name: value for name, value in record.items() if name not in ("epoch", "step")}

    def _is_due(self, epoch: int) -> bool:
        return (epoch + 1) % self._every_n_epochs == 0

    def _is_time(self) -> bool:
        """By any worker's clock: all must validate after the same update."""
        if self._every_seconds is None:
            return False
        late = time.monotonic() - self._began >= self._every_seconds
        return any_worker(self.model.distribute_strategy, late)

    def on_train_begin(self, logs=None):
        self._began = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        done, every = batch + 1, self._every_n_steps
        if done == self.run.steps_per_epoch:
            return  # `on_epoch_end` comes
        counted = every and done % every == 0 and self._is_due(self.run.epoch)
        if counted or self._is_time():
            self._validate(self.run.epoch)

    def on_epoch_end(self, epoch, logs: dict | None = None):
        if logs is None or not (self._is_due(epoch) or self._is_time()):
            return
        unfinished = self.model.global_step % self.run.steps_per_epoch != 0
        if self._step != self.model.global_step:  # what it draws in an unfinished epoch, a resumed run must draw again
            with self.model.trying_out() if unfinished else contextlib.nullcontext():
                self._validate(epoch)
        logs.update(self._results)

    def state_dict(self):
        """The seconds since the last validation, where they count: a run without has the same state each time."""
        return {} if self._every_seconds is None else {"seconds": time.monotonic() - self._began}

    def load_state_dict(self, state):
        self._began = time.monotonic() - state.get("seconds", 0.0)


def try_out_validation(callbacks: CallbackList, steps: int) -> None:
    """Runs the first `steps` batches of each validation set of a run."""
    for callback in callbacks.callbacks:
        if isinstance(callback, Validation):
            callback.try_out(steps)
