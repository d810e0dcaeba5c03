"""The callbacks' base class.

lightkeras adds hooks and declarations to Keras' own. Any Keras callback may have them; none needs to.

Hooks:

- `on_log(record)`: every `log_every_n_steps` updates, with the means over the interval since the last one,
- `on_validation_end(record)`: after each validation, with `val_` names,
- `on_interrupt()`: when Ctrl-C or SIGTERM ends training within an epoch, instead of `on_epoch_end`,
- `on_exception(error)`: when training ends by an exception,
- `before_save()`: before every checkpoint; raise to prevent it,
- `state_dict()` and `load_state_dict(state)`: the callback's state in a checkpoint (JSON values).

`record` holds "epoch" (from 0), "step" (updates so far) and one float per metric. Callbacks are called by `order` and
may add to it, as Keras' may add to `logs`.
"""

import keras

from lightkeras.runs.run import Run
from lightkeras.utils.hparams import HyperparametersMixin
from lightkeras.utils.lightning import CALLBACK_METHODS


class Callback(HyperparametersMixin, keras.callbacks.Callback):
    """A Keras callback with lightkeras' hooks. `self.model` is the task, `self.run` the run (see `Run`).

    The constructor's arguments are recorded, so that the run's config.yaml can make the callback again.

    Attributes:
        order: Callbacks are called in increasing order. The library's that add to records have -40 to -10, those that
            read them 10 to 100; yours, with 0, stand between.
        accepts_many_steps: Declare it True in the class that overrides a batch hook to accept calls that make several
            updates: the hooks then come at the edges of a call. Otherwise every update is a call of its own.
        stops: Calls end at multiples of these numbers of updates of the run.
        epoch_stops: Calls end at multiples of these numbers of updates of an epoch.
        cuts: Calls end at these numbers of updates of the run.
        writes_files: Whether it needs the run's folder.
        chief_only: Whether, of several workers, only the first has it: callbacks that write and print.
        outlives_end: Whether its state stays true when a run that ended within an epoch is resumed (see
            `CallbackList`).
        ends_for_good: Whether training is over when this callback sets `model.stop_training`. A resumed run with the
            same callback then makes no update.
        protected_checkpoints: Names of checkpoints that must stay, the best first.
    """

    replaced_methods = CALLBACK_METHODS
    order = 0
    accepts_many_steps = False
    stops: tuple[int, ...] = ()
    epoch_stops: tuple[int, ...] = ()
    cuts: tuple[int, ...] = ()
    writes_files = False
    chief_only = False
    outlives_end = False
    ends_for_good = True
    protected_checkpoints: tuple[str, ...] = ()
    run: Run

    def set_run(self, run: Run) -> None:
        """Receives the run, before any hook is called."""
        self.run = run

    def metric_names(self) -> list[str]:
        """Returns the names that this callback adds to records, so that others may monitor them."""
        return []

    def on_log(self, record: dict) -> None:
        """Called every `log_every_n_steps` updates."""

    def on_validation_end(self, record: dict) -> None:
        """Called after each validation."""

    def on_interrupt(self) -> None:
        """Called when Ctrl-C or SIGTERM ends training within an epoch."""

    def on_exception(self, error: BaseException) -> None:
        """Called when training ends by `error`."""

    def before_save(self) -> None:
        """Called before every checkpoint. An exception prevents it."""

    def state_dict(self) -> dict:
        """Returns the state of this callback for a checkpoint: JSON values only."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Restores the result of `state_dict`; called after `on_train_begin`."""
