"""Tasks and callbacks that fail in a search."""

import math
import os
import signal
from pathlib import Path

import tensorflow as tf

import lightkeras as lk
from helpers.toys import Classifier


class Worthless(Classifier):
    """The validation accuracy is NaN with more than 4 units."""

    def test_step(self, batch):
        sums = self.evaluate_loss(self.losses_of, batch)
        total, weight = sums["accuracy"] if isinstance(sums["accuracy"], tuple) else (sums["accuracy"].total, 1.0)
        return {"loss": sums["loss"], "accuracy": (total * (math.nan if self.hparams["units"] > 4 else 1.0), weight)}


class Dies(Classifier):
    """With 3 units the process is killed as the model is made; with 4 units memory is exhausted."""

    def configure_model(self, data):
        super().configure_model(data)
        if self.hparams["units"] == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.hparams["units"] == 4:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")


class DiesOnce(Classifier):
    """Writes a journal of process, units and epoch; the first process with 5 units is killed after its first epoch."""

    def __init__(self, journal: str, units: int = 5, learning_rate: float = 0.05, dropout: float = 0.0):
        super().__init__(units, learning_rate, dropout)

    def begin_epoch(self, epoch):
        super().begin_epoch(epoch)
        units, killed = self.hparams["units"], Path(self.hparams["journal"]).with_suffix(".killed")
        with Path(self.hparams["journal"]).open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {units} {epoch}\n")
        if units == 5 and epoch == 1 and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)


class TooLarge(Classifier):
    """Memory is exhausted by a batch of more than `most`."""

    def __init__(self, most: int = 20, units: int = 5, learning_rate: float = 0.05, dropout: float = 0.0):
        super().__init__(units, learning_rate, dropout)

    def configure_model(self, data):
        if data.batch_size > self.hparams["most"]:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
        super().configure_model(data)


class Terminate(lk.Callback):
    """Sends SIGTERM to its process after the third update, once: it then creates the file `mark`."""

    def __init__(self, mark: str):
        super().__init__()
        self._mark = Path(mark)

    def on_train_batch_end(self, batch, logs=None):
        if self.model.global_step >= 3 and not self._mark.exists():
            self._mark.touch()
            os.kill(os.getpid(), signal.SIGTERM)


class OwnEarlyStopping(lk.EarlyStopping):
    """A user's subclass: its state has another key."""
