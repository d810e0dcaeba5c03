"""What the task makes, written down as it learns."""

from pathlib import Path

from lightkeras.callbacks.base import Callback
from lightkeras.checks import check_int


class SampleWriter(Callback):
    """Calls `task.write_samples(folder, name)` every so many epochs, with the run's folder `samples`.

    The weights are their moving averages then, where an optimizer keeps them.

    Args:
        every_n_epochs: Epochs between two samples; None for the task's `sample_every`.
    """

    writes_files = chief_only = True

    def __init__(self, every_n_epochs: int | None = None):
        super().__init__()
        check_int("every_n_epochs", every_n_epochs, optional=True)
        self.every_n_epochs = every_n_epochs

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % (self.every_n_epochs or self.model.sample_every) == 0:
            folder = Path(self.params["run_dir"]) / "samples"
            folder.mkdir(exist_ok=True)
            with self.model.averaged_weights():
                self.model.write_samples(folder, f"epoch_{epoch + 1:04d}")
