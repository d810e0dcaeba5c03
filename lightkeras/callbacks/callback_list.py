"""The list of callbacks that `fit()` calls."""

import contextlib
import copy
import inspect
from collections import Counter
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from lightkeras.callbacks.batch_hooks import BATCH_HOOKS, listens
from lightkeras.callbacks.callback import Callback
from lightkeras.callbacks.interval_means import IntervalMeans
from lightkeras.callbacks.keras_state import KerasState
from lightkeras.callbacks.log_values import for_history, numbers_of, to_json
from lightkeras.callbacks.stop_reason import reason_of
from lightkeras.checkpoint import Checkpoint
from lightkeras.runs.run import Run
from lightkeras.training import weight_averaging
from lightkeras.utils import internals

KEPT = "callbacks"  # names of arrays begin with it
KEEPERS = (keras.callbacks.EarlyStopping, keras.callbacks.ModelCheckpoint)


def find_model(callback: keras.callbacks.Callback, task: Any) -> keras.Model:
    """Returns the model that a callback gets: the task; of a plain Keras model, that itself, unless it is ours."""
    return task if isinstance(callback, Callback) else task.model_of_callbacks()


class CallbackList(internals.SynchronousCallbackList):
    """Calls the callbacks of a run: on the training thread, with logs that stay on the device until looked at.

    Keras' own list turns the logs into numbers after every batch, which waits for the device each time.

    Args:
        callbacks: In the order in which they are called.
        model: The task.
        run: The run, given to every callback that has `set_run`.
        restored: The checkpoint whose state is restored when training begins.
    """

    def __init__(
        self,
        callbacks: list[keras.callbacks.Callback],
        model: keras.Model,
        run: Run,
        restored: Checkpoint | None = None,
    ):
        bars = any(isinstance(callback, keras.callbacks.ProgbarLogger) for callback in callbacks)
        params = {"epochs": run.epochs, "steps": run.steps_per_epoch, "verbose": int(bars)}
        super().__init__(callbacks, add_history=True, model=model, **params)
        self._listeners = {hook: [c for c in self.callbacks if listens(c, hook)] for hook in BATCH_HOOKS}
        self.run, run.callbacks = run, self
        self.interval = IntervalMeans(model, run.log_every_n_steps)
        self.latest: dict[str, float] = {}
        self._restored, self._before_end, self._kept = restored, None, None
        for callback in self.callbacks:
            if hasattr(callback, "set_run"):
                callback.set_run(run)

    def __iter__(self) -> Iterator["CallbackList"]:
        """Yields this list as one callback: MLflow's autolog gives Keras' `fit` a copy, `[*callbacks, its own]`."""
        yield self

    def append(self, callback: keras.callbacks.Callback) -> None:
        """Adds a callback, behind those of its `order`; MLflow's autolog does."""
        order = getattr(callback, "order", 0)
        later = [index for index, one in enumerate(self.callbacks) if getattr(one, "order", 0) > order]
        self.callbacks.insert(later[0] if later else len(self.callbacks), callback)
        self._listeners = {hook: [c for c in self.callbacks if listens(c, hook)] for hook in BATCH_HOOKS}
        callback.set_params(self.params)
        callback.set_model(find_model(callback, self.model))

    def set_model(self, model: Any) -> None:
        """Gives every callback its model: of a plain Keras model, Keras' callbacks get that itself."""
        super().set_model(model)
        for callback in self.callbacks:
            callback.set_model(find_model(callback, model))
        self.give_history(model.model_of_callbacks())

    # ---- what callbacks declare

    def stops(self, name: str) -> tuple[int, ...]:
        """Collects `stops`, `epoch_stops` or `cuts` of all callbacks."""
        return tuple(n for callback in self.callbacks for n in getattr(callback, name, ()))

    def protected_checkpoints(self) -> list[str]:
        """Collects the names of checkpoints that must stay, the best first."""
        return [name for callback in self.callbacks for name in getattr(callback, "protected_checkpoints", ())]

    # ---- lightkeras' hooks

    def call(self, hook: str, *args) -> None:
        """Calls one of lightkeras' hooks on every callback that has it, in order."""
        for callback in self.callbacks:
            if method := getattr(callback, hook, None):
                self._watch(callback, method, *args)

    def on_record(self, hook: str, record: dict) -> None:
        """Passes a record through `on_log` or `on_validation_end` of every callback."""
        self.call(hook, record)
        self.latest.update({name: n for name, n in numbers_of(record).items() if name not in ("epoch", "step")})

    def _watch(self, callback: keras.callbacks.Callback, method, *args) -> None:
        """Calls a hook, and remembers the callback that ends training by it."""
        before = self.model.stop_training
        method(*args)
        if self.model.stop_training and not before:
            self.run.reason = reason_of(callback)
            if getattr(callback, "ends_for_good", True):
                self.run.stopped_by = type(callback).__name__

    def on_exception(self, error: BaseException) -> None:
        """Tells every callback, even after one that fails; the failure is raised afterwards."""
        failures = []
        for callback in self.callbacks:
            try:
                getattr(callback, "on_exception", lambda error: None)(error)
            except BaseException as failure:
                failures.append(failure)
        if failures:
            raise failures[0] from error

    # ---- state

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of every callback, by class name and place in the list, and of the logging interval.

        If the run stops within an epoch (`max_steps`), returns the state from before the final epoch-end hooks, which
        a resumed run would not have called. Callbacks with `outlives_end` return their current state.
        """
        before = self._before_end or {"callbacks": {}, "logging": self.interval.state_dict()}
        states = {
            key: to_json(callback.state_dict(), f"state_dict() of {key.rpartition('-')[0]}")
            for key, callback in self._stateful()
            if key not in before["callbacks"] or getattr(callback, "outlives_end", False)
        }
        return {**before, "callbacks": {**before["callbacks"], **states}}

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the weights that Keras' callbacks keep, by name; see `state_dict` for a run that stops."""
        if self._kept is not None:
            return self._kept
        keepers = [(key, callback) for key, callback in self._stateful() if isinstance(callback, KerasState)]
        return {f"{KEPT}/{key}/{i:04d}": array for key, one in keepers for i, array in enumerate(one.arrays())}

    def load_state_dict(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Restores every callback; one that the saved run did not have keeps its state."""
        for key, callback in self._stateful():
            if key in state["callbacks"]:
                callback.load_state_dict(state["callbacks"][key])
                if isinstance(callback, KerasState):
                    names = sorted(name for name in arrays if name.startswith(f"{KEPT}/{key}/"))
                    callback.load_arrays([arrays[name] for name in names])
        self.interval.load_state_dict(state["logging"])

    def _stateful(self) -> Iterator[tuple[str, Any]]:
        seen = Counter()
        for callback in self.callbacks:
            name = type(callback).__name__
            seen[name] += 1
            yield f"{name}-{seen[name]}", callback if hasattr(callback, "state_dict") else KerasState(callback)

    # ---- Keras' hooks

    def on_train_begin(self, logs=None):
        if frame := inspect.currentframe():
            self._take_neighbours(frame.f_back)
        super().on_train_begin(logs)
        if self._restored:
            self.load_state_dict(self._restored.state["callbacks"], self._restored.arrays)
        self._try_out_states()

    def _take_neighbours(self, caller: Any) -> None:
        """Takes over the callbacks that stand beside this one in a list of Keras' own: validation must reach them too.

        `mlflow.tensorflow.autolog()` gives `fit` such a list. Only the frame of the call tells which it is.
        """
        outer = caller.f_locals.get("self")
        if not isinstance(outer, keras.callbacks.CallbackList):
            return
        for callback in [c for c in outer.callbacks if c is not self and not isinstance(c, keras.callbacks.History)]:
            outer.callbacks.remove(callback)
            self.append(callback)

    def _try_out_states(self) -> None:
        """Raises now for a state that no checkpoint can hold; a callback that has no state yet is tried at the save."""
        for key, callback in self._stateful():
            with contextlib.suppress(AttributeError, KeyError):
                to_json(callback.state_dict(), f"state_dict() of {key.rpartition('-')[0]}")

    def on_epoch_begin(self, epoch, logs=None):
        self.run.epoch = epoch
        self.model.begin_epoch(epoch)
        super().on_epoch_begin(epoch, logs)

    def on_epoch_end(self, epoch, logs=None):
        """Ends the epoch, unless a signal interrupted it: a resumed run goes through the rest of it."""
        unfinished = self.model.global_step % self.model.steps_per_epoch != 0
        if unfinished and self.run.interrupted:
            self.call("on_interrupt")
            return
        if unfinished:
            self._before_end, self._kept = copy.deepcopy(self.state_dict()), self.arrays()
        self._log(epoch)
        logs = {} if logs is None else logs
        for callback in self.callbacks:
            kept = for_history(logs, self._own_names()) if isinstance(callback, keras.callbacks.History) else logs
            with self._judged_weights(callback):
                self._watch(callback, callback.on_epoch_end, epoch, kept)

    def _own_names(self) -> set[str]:
        return {*self.model.train_sums.kinds, *self.model.test_sums.kinds}

    def on_train_end(self, logs=None):
        """Ends training; where a callback sets weights, their averages are set too, which they become after `fit`.

        The logs are the last epoch's, without what callbacks added to them, as in Keras.
        """
        own = self.model.train_sums.kinds
        logs = {name: value for name, value in (logs or {}).items() if name in own or name.startswith("val_")}
        with weight_averaging.follow(self.model.optimizers.averages()):
            for callback in self.callbacks:
                with self._judged_weights(callback):
                    callback.on_train_end(logs)

    def _judged_weights(self, callback: keras.callbacks.Callback):
        """Shows the averages to Keras' callbacks that keep the best weights: validation judged the averages."""
        return self.model.averaged_weights() if isinstance(callback, KEEPERS) else contextlib.nullcontext()

    def _log(self, epoch: int) -> None:
        if record := self.interval.take(epoch):
            self.on_record("on_log", record)

    def on_train_batch_begin(self, batch, logs=None):
        """Called by Keras once per step; only the first of the steps of a call counts (see `training/loop.py`)."""
        if self.model.train_loop.calls.due(batch):
            self._batch("on_train_batch_begin", batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        calls = self.model.train_loop.calls
        if calls.made(batch):
            if self.interval.is_due():
                self._log(self.run.epoch)
            self._batch("on_train_batch_end", calls.done - 1, logs)

    def on_test_batch_begin(self, batch, logs=None):
        if self.model.test_loop.calls.due(batch):
            self._batch("on_test_batch_begin", batch, logs)

    def on_test_batch_end(self, batch, logs=None):
        calls = self.model.test_loop.calls
        if calls.made(batch):
            self._batch("on_test_batch_end", calls.done - 1, logs)

    def on_predict_batch_begin(self, batch, logs=None):
        self._batch("on_predict_batch_begin", batch, logs)

    def on_predict_batch_end(self, batch, logs=None):
        self._batch("on_predict_batch_end", batch, logs)

    def _batch(self, hook: str, batch: int, logs) -> None:
        for callback in self._listeners[hook]:
            self._watch(callback, getattr(callback, hook), batch, logs)
