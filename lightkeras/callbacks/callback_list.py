"""The list of callbacks that `fit()` calls."""

import copy
from collections import Counter

import keras
import numpy as np
from keras import callbacks as keras_callbacks

from lightkeras.callbacks.batch_hooks import _BATCH_HOOKS, listens
from lightkeras.callbacks.keras_state import _KerasState


class CallbackList(keras_callbacks.CallbackList):
    """Calls the callbacks of a run: on the training thread, with logs that stay on the device until looked at.

    Keras' own list turns the logs into numbers after every batch, which waits for the device each time.
    """

    def __init__(
        self,
        callbacks: list[keras.callbacks.Callback],
        model: keras.Model,
        params: dict,
        restored: dict | None = None,
    ):
        super().__init__(callbacks, add_history=True, model=model, **params)
        self._listeners = {hook: [c for c in self.callbacks if listens(c, hook)] for hook in _BATCH_HOOKS}
        self.logging = _Logging(self, model, params["log_every_n_steps"])
        self.epoch = 0
        self.interrupted: int | None = None  # the signal
        self._restored, self._before_end = restored, None

    def _configure_async_dispatch(self, callbacks) -> None:
        """Never: a callback that writes files from another thread would see a later step's weights."""

    def call(self, hook: str, *args) -> None:
        """Calls one of lightkeras' hooks on every callback that has it, in order."""
        for callback in self.callbacks:
            if method := getattr(callback, hook, None):
                method(*args)

    def on_exception(self, error: BaseException) -> None:
        """Tells every callback, also after one that fails at it; that failure is raised then."""
        failures = []
        for callback in self.callbacks:
            try:
                getattr(callback, "on_exception", lambda error: None)(error)
            except BaseException as failure:
                failures.append(failure)
        if failures:
            raise failures[0] from error

    def state_dict(self) -> dict:
        """The state of every callback, by class name and place in the list, and of the logging interval.

        Where a run ends in mid-epoch (`max_steps`), it is that of before the end: a run that goes on has no such end.
        Only what `outlives_end` is of now: which checkpoints are the best.
        """
        before = self._before_end or {"callbacks": {}, "logging": self.logging.state_dict()}
        states = {
            key: callback.state_dict()
            for key, callback in self._stateful()
            if key not in before["callbacks"] or getattr(callback, "outlives_end", False)
        }
        return {**before, "callbacks": {**before["callbacks"], **states}}

    def load_state_dict(self, state: dict) -> None:
        """Gives every callback its state back; one that the saved run did not have keeps its own."""
        for key, callback in self._stateful():
            if key in state["callbacks"]:
                callback.load_state_dict(state["callbacks"][key])
        self.logging.load_state_dict(state["logging"])

    def _stateful(self):
        for key, callback in state_keys(self.callbacks):
            yield key, callback if hasattr(callback, "state_dict") else _KerasState(callback)

    def _batch(self, hook: str, batch: int, logs) -> None:
        for callback in self._listeners[hook]:
            getattr(callback, hook)(batch, logs)

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        if self._restored:
            self.load_state_dict(self._restored)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self.model.begin_epoch(epoch)
        super().on_epoch_begin(epoch, logs)

    def on_epoch_end(self, epoch, logs=None):
        """An interrupted epoch has not ended: it goes on when the run is resumed."""
        unfinished = self.model.global_step % self.model.steps_per_epoch != 0
        if unfinished and self.interrupted:
            self.call("on_interrupt")
            return
        if unfinished:
            self._before_end = copy.deepcopy(self.state_dict())
        self.logging.flush(epoch)
        logs = {} if logs is None else logs
        for callback in self.callbacks:
            callback.on_epoch_end(epoch, logs)

    def on_train_batch_begin(self, batch, logs=None):
        """Keras calls once a step; a call of many steps makes the rest of them idle (see `step.StepsPerCall`)."""
        if self.model.train_calls.due(batch):
            self._batch("on_train_batch_begin", batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        if self.model.train_calls.made(batch):
            self.logging.on_steps(self.epoch)
            self._batch("on_train_batch_end", self.model.train_calls.done - 1, logs)

    def on_test_batch_begin(self, batch, logs=None):
        if self.model.test_calls.due(batch):
            self._batch("on_test_batch_begin", batch, logs)

    def on_test_batch_end(self, batch, logs=None):
        if self.model.test_calls.made(batch):
            self._batch("on_test_batch_end", self.model.test_calls.done - 1, logs)

    def on_predict_batch_begin(self, batch, logs=None):
        self._batch("on_predict_batch_begin", batch, logs)

    def on_predict_batch_end(self, batch, logs=None):
        self._batch("on_predict_batch_end", batch, logs)


def state_keys(callbacks: list[keras.callbacks.Callback]) -> list[tuple[str, keras.callbacks.Callback]]:
    """Pairs each callback with the key of its state in a checkpoint: class name and place among those of the class."""
    seen, keys = Counter(), []
    for callback in callbacks:
        name = type(callback).__name__
        seen[name] += 1
        keys.append((f"{name}-{seen[name]}", callback))
    return keys


class _Logging:
    """Gives `on_log` the means over each interval of `every` updates: the only place that reads sums mid-epoch."""

    def __init__(self, callbacks: CallbackList, task: keras.Model, every: int):
        self._callbacks, self._task, self._every = callbacks, task, every
        self._before, self._step = None, task.global_step

    def state_dict(self) -> dict:
        return {"step": self._step, "before": None if self._before is None else self._before.tolist()}

    def load_state_dict(self, state: dict) -> None:
        self._step = state["step"]
        self._before = None if state["before"] is None else np.array(state["before"])

    def on_steps(self, epoch: int) -> None:
        if self._task.global_step % self._every == 0:
            self.flush(epoch)

    def flush(self, epoch: int) -> None:
        """Logs what has come since the last record, if anything has."""
        step, totals = self._task.global_step, self._task.train_sums
        if step == self._step:
            return
        values = totals.values.numpy()
        interval = values if self._before is None else values - self._before
        self._before = None if step % self._task.steps_per_epoch == 0 else values
        self._step = step
        self._callbacks.call("on_log", {"epoch": epoch, "step": step, **totals.results(interval)})
