"""DataModule: where a task's data comes from, its splits, its batches."""

from typing import Any

from lightkeras.data.dataset import AddressedDataset
from lightkeras.utils.checks import lightkeras_error
from lightkeras.utils.hparams import HyperparametersMixin


class DataModule(HyperparametersMixin):
    """A task's data: where it comes from, its splits, its batches.

    A subclass overrides what it has. The constructor's arguments are recorded (`hparams`), so they must be plain
    values (numbers, strings, lists): the run folder makes the data again from them.
    """

    def prepare_data(self) -> None:
        """Downloads and caches; called once per machine, so it must set no attributes."""

    def setup(self, stage: str) -> None:
        """Reads the data and makes the splits; `stage` is "fit", "validate", "test" or "predict"."""

    def train_dataset(self) -> AddressedDataset:
        """The training batches."""
        raise lightkeras_error(NotImplementedError)(f"{type(self).__name__} has no `train_dataset()`.")

    def val_dataset(self) -> AddressedDataset | None:
        """The validation batches, or None for a task without validation."""
        return None

    def test_dataset(self) -> AddressedDataset | None:
        """The test batches, or None."""
        return None

    def predict_dataset(self) -> AddressedDataset | None:
        """The batches for `Trainer.predict`, or None."""
        return self.test_dataset()

    def state_dict(self) -> dict[str, Any]:
        """What a trained task needs to know of its data (a vocabulary): small, JSON values only."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes what `state_dict` gave, in the place of `setup`: the data itself may be absent."""
