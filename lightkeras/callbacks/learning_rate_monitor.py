"""The learning rates, and how the optimizers fare, in the logs."""

from lightkeras.callbacks.callback import Callback


class LearningRateMonitor(Callback):
    """Adds what the optimizers know to the records; of several optimizers under `NAME_...`.

    - `learning_rate`,
    - of several, `updates`, where it made more or fewer of them than the run made steps,
    - in float16, `loss_scale` and `skipped_updates` (of the run so far).
    """

    def metric_names(self):
        return [*self.model.learning_rates(), *self.model.loss_scaling()]

    def on_log(self, record):
        record.update({**self.model.learning_rates(), **self.model.loss_scaling()})
        updates = self.model.updates()
        if len(updates) > 1:
            record.update({f"{name}_updates": n for name, n in updates.items() if n != record["step"]})
