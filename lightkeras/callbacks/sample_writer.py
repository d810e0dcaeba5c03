"""Samples of the task while it learns."""

import re

from lightkeras.callbacks.callback import Callback
from lightkeras.utils.checks import require_int
from lightkeras.utils.paths import Folder, as_local


def sample_name(epoch: int) -> str:
    """Names the samples after an epoch, which counts from 0; its files have this name and an ending."""
    return f"epoch_{epoch + 1:04d}"


def find_samples(folder: Folder, epoch: int) -> list[str]:
    """Lists the names of the files of an epoch in a run's folder `samples`."""
    return sorted(path.name for path in (folder / "samples").glob(f"{sample_name(epoch)}[!0-9]*"))


def sample_kind(file: str) -> str:
    """Returns what distinguishes a sample from the others of its epoch: "png" of `epoch_0001.png`."""
    return re.sub(r"^epoch_\d+[._]*", "", file)


class SampleWriter(Callback):
    """Calls `task.write_samples(folder, name)` every `every_n_epochs`, with the run's folder `samples`.

    The weights are their moving averages then, where an optimizer keeps them.

    Args:
        every_n_epochs: Epochs between two samples; None for the task's `sample_every`.
    """

    order = 50
    writes_files = chief_only = True

    def __init__(self, every_n_epochs: int | None = None):
        super().__init__()
        require_int("every_n_epochs", every_n_epochs, optional=True)
        self.every_n_epochs = every_n_epochs

    def on_train_begin(self, logs=None):
        self._epochs = 0

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % (self.every_n_epochs or self.model.sample_every) == 0:
            with as_local(self.run.folder / "samples") as folder, self.model.averaged_weights():
                self.model.write_samples(folder, sample_name(epoch))
            self._epochs = epoch + 1

    def state_dict(self):
        return {"epochs": self._epochs}

    def load_state_dict(self, state):
        """Drops samples written after the checkpoint, perhaps half: the resumed run writes them again."""
        self._epochs = state.get("epochs")  # older checkpoints have none
        for path in (self.run.folder / "samples").glob("epoch_[0-9]*"):
            if self._epochs is not None and int(re.findall(r"\d+", path.name)[0]) > self._epochs:
                path.unlink()
