"""DataModule: downloads a task's data, makes its splits and their batches."""

from typing import Any

from lightkeras.data.batched import BatchedDataset
from lightkeras.utils.checks import lightkeras_error
from lightkeras.utils.hparams import HyperparametersMixin
from lightkeras.utils.lightning import DATA_METHODS


class DataModule(HyperparametersMixin):
    """Downloads a task's data, makes its splits and their batches.

    A subclass overrides the methods of the splits that it has. The constructor's arguments are recorded (`hparams`) and
    have types that a file can hold (see `utils.values`): a run's folder makes the data again from them.

    The methods of the splits return an `AddressedDataset`, or data in any form that `Trainer.fit` takes: arrays, a
    `tf.data.Dataset` of batches, a sequence, an iterable. Arrays and sequences are cut into batches of the attribute
    `batch_size` (32 without one); those for training are shuffled.

    Attributes:
        trained_on: The training data of the current run, set by the Trainer.
    """

    replaced_methods = DATA_METHODS
    trained_on: BatchedDataset | None = None

    def prepare_data(self) -> None:
        """Downloads and caches the data. It is called once per machine, so it must set no attributes."""

    def setup(self, stage: str) -> None:
        """Reads the data and makes the splits; `stage` is "fit", "validate", "test" or "predict"."""

    def train_dataset(self) -> Any:
        """The training batches."""
        raise lightkeras_error(NotImplementedError)(f"{type(self).__name__} has no `train_dataset()`.")

    def val_dataset(self) -> Any:
        """The validation batches, or None for a task without validation; or several data sets by name, in a dict."""
        return None

    def test_dataset(self) -> Any:
        """The test batches, or None; or several data sets by name, in a dict."""
        return None

    def predict_dataset(self) -> Any:
        """The batches for `Trainer.predict`, or None."""
        return self.test_dataset()

    def show_example(self, example: dict[str, Any]) -> Any:
        """Returns what a person sees of an example of the training data, for `lightkeras show`.

        Args:
            example: The entries of one row of a batch, by name: NumPy arrays and numbers.

        Returns:
            A text; a picture (height, width[, channels]), uint8 or floats; a dict or a list of them. By default the
            entries themselves.
        """
        return example

    def state_dict(self) -> dict[str, Any]:
        """The facts about the data that a trained task needs (a vocabulary): small, JSON values only."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the result of `state_dict`, instead of `setup`: the data itself may be absent."""
