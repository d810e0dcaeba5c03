"""Validation during training: at the end of every epoch and, if asked, every so many updates within it."""

from lightkeras.callbacks.callback import Callback
from lightkeras.callbacks.callback_list import CallbackList
from lightkeras.data.dataset import AddressedDataset


class Validation(Callback):
    """Evaluates on the validation data and gives the results to the other callbacks, as `val_` names.

    Args:
        dataset: The validation data.
        steps: Batches of it that are used.
        every_n_steps: Also validate each time so many updates of an epoch are made; None for its end alone. The
            calls of many steps end at these updates (`TaskModule.start(stops=...)`).
    """

    def __init__(self, dataset: AddressedDataset, steps: int, every_n_steps: int | None = None):
        super().__init__()
        self._dataset, self._steps, self.every_n_steps = dataset, steps, every_n_steps
        self._step, self._results = -1, {}

    def attach(self, callbacks: CallbackList) -> None:
        """Sets who hears of the results."""
        self._callbacks = callbacks

    def evaluate(self, steps: int, callbacks: CallbackList | None = None) -> dict[str, float]:
        """The metrics on the first `steps` validation batches, by their `val_` names."""
        with self.model.averaged_weights():
            logs = self.model.evaluate_dataset(self._dataset, steps, callbacks)
        return {f"val_{name}": value for name, value in logs.items()}

    def check(self, steps: int) -> None:
        """Runs at most `steps` batches, so that an error in validation comes before training; results are dropped."""
        self.evaluate(min(steps, self._steps))

    def _validate(self, epoch: int) -> None:
        self._step = self.model.global_step
        results = self.evaluate(self._steps, self._callbacks)
        record = {"epoch": epoch, "step": self._step, **results}
        self._callbacks.call("on_validation_end", record)
        self._results = {name: value for name, value in record.items() if name not in ("epoch", "step")}

    def on_train_batch_end(self, batch, logs=None):
        done = batch + 1
        if self.every_n_steps and done % self.every_n_steps == 0 and done < self.params["steps"]:
            self._validate(self._callbacks.epoch)

    def on_epoch_end(self, epoch, logs=None):
        if self._step != self.model.global_step:
            self._validate(epoch)
        logs.update(self._results)
