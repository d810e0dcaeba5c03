"""Learning rates, update counts and loss scales in the logs."""

from lightkeras.callbacks.callback import Callback


class LearningRateMonitor(Callback):
    """Adds values of the optimizers to the records; several optimizers have theirs under `NAME_...`.

    - `learning_rate`,
    - with several, `updates`, where an optimizer made more or fewer updates than the run made steps,
    - in float16, `loss_scale` and `skipped_updates` (of the run so far).
    """

    order = -20

    def metric_names(self):
        return [*self.model.optimizers.learning_rates(), *self.model.optimizers.loss_scaling()]

    def on_log(self, record):
        record.update({**self.model.optimizers.learning_rates(), **self.model.optimizers.loss_scaling()})
        updates = self.model.optimizers.update_counts()
        if len(updates) > 1:
            record.update({f"{name}_updates": n for name, n in updates.items() if n != record["step"]})
