"""Validation during training: at the end of epochs and, if asked, within them."""

from lightkeras.callbacks.callback import Callback
from lightkeras.callbacks.callback_list import CallbackList
from lightkeras.data.batched import BatchedDataset


class Validation(Callback):
    """Evaluates on the validation data and passes the results to the other callbacks, under `val_` names.

    Args:
        dataset: The validation data.
        steps: Batches of it that are used.
        every_n_steps: Also validate each time this number of updates of an epoch is made; None for its end alone.
        every_n_epochs: Validate in every n-th epoch only.
    """

    order = -40
    accepts_many_steps = True

    def __init__(self, dataset: BatchedDataset, steps: int, every_n_steps: int | None = None, every_n_epochs: int = 1):
        super().__init__()
        self._dataset, self._steps = dataset, steps
        self._every_n_steps, self._every_n_epochs = every_n_steps, every_n_epochs
        self.epoch_stops = (every_n_steps,) if every_n_steps else ()
        self._step, self._results = -1, {}

    def evaluate(self, steps: int, callbacks: CallbackList | None = None) -> dict[str, float]:
        """Returns the metrics on the first `steps` validation batches, by their `val_` names."""
        with self.model.averaged_weights():
            logs = self.model.evaluate_dataset(self._dataset, steps, callbacks)
        return {f"val_{name}": value for name, value in logs.items()}

    def try_out(self, steps: int) -> None:
        """Runs at most `steps` batches, so that an error in validation comes before training; drops the results."""
        with self.model.trying_out():
            self.evaluate(min(steps, self._steps))

    def _validate(self, epoch: int) -> None:
        self._step = self.model.global_step
        results = self.evaluate(self._steps, self.run.callbacks)
        record = {"epoch": epoch, "step": self._step, **results}
        self.run.callbacks.on_record("on_validation_end", record)
        self._results = {name: value for name, value in record.items() if name not in ("epoch", "step")}

    def _is_due(self, epoch: int) -> bool:
        return (epoch + 1) % self._every_n_epochs == 0

    def on_train_batch_end(self, batch, logs=None):
        done, every = batch + 1, self._every_n_steps
        within = every and done % every == 0 and done < self.run.steps_per_epoch
        if within and self._is_due(self.run.epoch):
            self._validate(self.run.epoch)

    def on_epoch_end(self, epoch, logs: dict | None = None):
        if logs is None or not self._is_due(epoch):
            return
        if self._step != self.model.global_step:
            self._validate(epoch)
        logs.update(self._results)
