"""What a training is doing: starting, updating, validating, saving, or something between."""

from lightkeras.callbacks.callback import Callback
from lightkeras.runs.timeline import OTHER, SAVING, START, UPDATES, VALIDATION


class Phases(Callback):
    """Calls `enter` where another phase of training begins."""

    order = -95
    accepts_many_steps = True

    def enter(self, phase: str) -> None:
        """Called at the beginning of a phase: START, UPDATES, VALIDATION (also for each batch of it), SAVING, OTHER."""

    def on_train_begin(self, logs=None):
        self.enter(START)

    def on_epoch_begin(self, epoch, logs=None):
        self.enter(OTHER)

    def on_train_batch_begin(self, batch, logs=None):
        self.enter(UPDATES)

    def on_train_batch_end(self, batch, logs=None):
        self.enter(OTHER)

    def on_test_begin(self, logs=None):
        self.enter(VALIDATION)

    def on_test_batch_begin(self, batch, logs=None):
        self.enter(VALIDATION)

    def on_test_end(self, logs=None):
        self.enter(OTHER)

    def before_save(self):
        self.enter(SAVING)

    def on_epoch_end(self, epoch, logs=None):
        self.enter(OTHER)
