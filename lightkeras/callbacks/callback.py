"""The callbacks' base class.

Lightkeras adds six hooks to Keras' own. Any Keras callback may have them; none needs to.

- `on_log(record)`: every `log_every_n_steps` updates, with the means over the interval since the last one,
- `on_validation_end(record)`: after each validation, with `val_` names,
- `on_interrupt()`: when Ctrl-C or SIGTERM ends training within an epoch, instead of `on_epoch_end`,
- `on_exception(error)`: when training ends by an exception,
- `state_dict()` and `load_state_dict(state)`: what a checkpoint keeps of the callback (JSON values).

`record` holds "epoch" (from 0), "step" (updates so far) and one float per metric. Callbacks are called in their order
and may add to it, as Keras' may add to `logs`.
"""

import keras

from lightkeras.utils.hparams import HyperparametersMixin


class Callback(HyperparametersMixin, keras.callbacks.Callback):
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
