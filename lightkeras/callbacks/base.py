"""The callbacks' base class, and the list that `fit()` calls.

Lightkeras adds six hooks to Keras' own. Any Keras callback may have them; none needs to.

- `on_log(record)`: every `log_every_n_steps` updates, with the means over the interval since the last one,
- `on_validation_end(record)`: after each validation, with `val_` names,
- `on_interrupt()`: when Ctrl-C or SIGTERM ends training within an epoch, instead of `on_epoch_end`,
- `on_exception(error)`: when training ends by an exception,
- `state_dict()` and `load_state_dict(state)`: what a checkpoint keeps of the callback (JSON values).

`record` holds "epoch" (from 0), "step" (updates so far) and one float per metric. Callbacks are called in their order
and may add to it, as Keras' may add to `logs`.
"""

import copy
import warnings
from collections import Counter

import keras
import numpy as np
from keras import callbacks as keras_callbacks

from lightkeras.hyperparameters import Hyperparameters

_BATCH_HOOKS = {
    "on_train_batch_begin": ("on_train_batch_begin", "on_batch_begin"),
    "on_train_batch_end": ("on_train_batch_end", "on_batch_end"),
    "on_test_batch_begin": ("on_test_batch_begin",),
    "on_test_batch_end": ("on_test_batch_end",),
    "on_predict_batch_begin": ("on_predict_batch_begin",),
    "on_predict_batch_end": ("on_predict_batch_end",),
}


class Callback(Hyperparameters, keras.callbacks.Callback):
    """A Keras callback with lightkeras' hooks. `self.model` is the task, `self.params` the values of the run.

    `params` holds "epochs", "steps" (per epoch), "run_dir" (None where nothing is written), "log_every_n_steps",
    "metric_names" (every name that may be monitored), "save_checkpoint" (`(keep=None, wait=True, folder=None) -> path`,
    by default into the run's checkpoints) and "checkpoint_writer" (what still writes where it was not waited for). The
    constructor's arguments are recorded, so that the run's config.yaml can make the callback again.

    Attributes:
        writes_files: Whether it needs the run's folder.
        chief_only: Whether, of several workers, only the first has it: those that write and print.
        outlives_end: Whether its state stays true when a run that ended in mid-epoch goes on (see `CallbackList`).
    """

    writes_files = False
    chief_only = False
    outlives_end = False

    def metric_names(self) -> list[str]:
        """The names that this callback adds to records, so that others may monitor them."""
        return []

    def on_log(self, record: dict) -> None:
        """Every `log_every_n_steps` updates."""

    def on_validation_end(self, record: dict) -> None:
        """After each validation."""

    def on_interrupt(self) -> None:
        """Ctrl-C or SIGTERM ends training within an epoch."""

    def on_exception(self, error: BaseException) -> None:
        """Training ends by `error`."""

    def state_dict(self) -> dict:
        """What a checkpoint keeps of this callback: JSON values only."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Takes what `state_dict` gave; called after `on_train_begin`."""


def _own(callback: keras.callbacks.Callback, hook: str) -> list:
    """What `callback` does in the batch hook `hook`: methods, and functions given to it (`LambdaCallback`, tqdm)."""
    methods = {name: getattr(callback, name) for name in _BATCH_HOOKS[hook]}
    base = keras.callbacks.Callback
    return [method for name, method in methods.items() if getattr(method, "__func__", None) is not getattr(base, name)]


def _says_so(callback: keras.callbacks.Callback, hook: str) -> bool:
    """Whether it says that it listens, by the method that Keras 2 asked (tqdm sets its functions as it goes)."""
    asked = getattr(callback, f"_implements_{hook.split('_')[1]}_batch_hooks", None)
    return asked is not None and asked()


def listens(callback: keras.callbacks.Callback, hook: str) -> bool:
    """Whether `callback` does anything in the batch hook `hook`."""
    return bool(_own(callback, hook)) or _says_so(callback, hook)


def needs_every_batch(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback that is not lightkeras' listens to batches; ours know of calls that make many steps."""

    def foreign(hook: str) -> bool:
        own = [getattr(method, "__module__", None) or "" for method in _own(callback, hook)]
        return _says_so(callback, hook) or not all(module.startswith("lightkeras.") for module in own)

    return any(foreign(hook) for hook in _BATCH_HOOKS if "predict" not in hook)


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
        seen = Counter()
        for callback in self.callbacks:
            name = type(callback).__name__
            seen[name] += 1
            yield (
                f"{name}-{seen[name]}",
                callback if hasattr(callback, "state_dict") else _KerasState(callback),
            )

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
        """Keras calls once a step; a call of many steps makes the rest of them idle (see `step.Calls`)."""
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


class _KerasState:
    """The state of Keras' own callbacks, which have no `state_dict`: the attributes that training changes."""

    NAMES = {
        keras_callbacks.History: ("epoch", "history"),
        keras_callbacks.EarlyStopping: ("wait", "stopped_epoch", "best", "best_epoch"),
        keras_callbacks.ReduceLROnPlateau: ("best", "wait", "cooldown_counter"),
        keras_callbacks.ModelCheckpoint: ("best",),
    }

    def __init__(self, callback: keras.callbacks.Callback):
        self._callback = callback
        self._names = [name for kind, names in self.NAMES.items() if isinstance(callback, kind) for name in names]

    def state_dict(self) -> dict:
        return {name: getattr(self._callback, name) for name in self._names}

    def load_state_dict(self, state: dict) -> None:
        for name in state:
            setattr(self._callback, name, state[name])
        if getattr(self._callback, "restore_best_weights", False) and state["best"] is not None:
            warnings.warn(
                "keras.callbacks.EarlyStopping(restore_best_weights=True) forgot the weights of before the resume. "
                'If none is better from here on, take the run\'s best checkpoint (ckpt_path="best").',
                stacklevel=2,
            )


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
        step, totals = self._task.global_step, self._task.train_totals
        if step == self._step:
            return
        values = totals.values.numpy()
        interval = values if self._before is None else values - self._before
        self._before = None if step % self._task.steps_per_epoch == 0 else values
        self._step = step
        self._callbacks.call("on_log", {"epoch": epoch, "step": step, **totals.results(interval)})
