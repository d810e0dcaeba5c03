"""The learning rates in the logs."""

from lightkeras.callbacks.base import Callback


class LearningRateMonitor(Callback):
    """Adds every optimizer's learning rate to the records: `learning_rate`, or `NAME_learning_rate` of several."""

    def metric_names(self):
        return list(self.model.learning_rates())

    def on_log(self, record):
        record.update(self.model.learning_rates())
