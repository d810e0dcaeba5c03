"""Data that is brought as it is: what it is, how it is read, and the `DataModule` that a run makes of it."""

from collections.abc import Iterable
from typing import Any, Self

import keras
import tensorflow as tf

from lightkeras.data.batched import BatchedDataset
from lightkeras.data.forms import weigh_classes
from lightkeras.data.iterables import from_iterable
from lightkeras.data.module import DataModule
from lightkeras.data.named_sets import map_sets
from lightkeras.data.py_dataset import ItemBatches
from lightkeras.data.sequences import from_sequence, is_sequence
from lightkeras.data.streamed import ENDLESS, StreamedDataset
from lightkeras.data.structures import as_structure, from_structure, require_arrays
from lightkeras.data.tfrecords import TFRecords
from lightkeras.utils.checks import lightkeras_error, require, require_int

BATCH_SIZE = 32  # Keras' default
KINDS = (
    "a DataModule, arrays (x, (x, y), (x, y, sample_weight) or a dict), a tf.data.Dataset of batches, a "
    "keras.utils.PyDataset, lk.data.TFRecords, anything with len() and [] whose items are examples, or an iterable of "
    "batches"
)


class BroughtData(DataModule):
    """The data of a run that was given data as it is, not a `DataModule`. Made by `as_data_module`.

    A run's folder has what identifies the data, not the data: it cannot be made again from there.

    Args:
        data: What identifies the training data, in JSON's types.
        validation_data: The same for the validation data.
    """

    def __init__(self, data: dict[str, Any] | None = None, validation_data: dict[str, Any] | None = None):
        self._sets: dict[str, Any] = {}
        self._state: dict[str, Any] = {}

    @classmethod
    def of(cls, **sets: Any) -> Self:
        """Makes the data module of data sets (or several by name) for `train`, `val`, `test` and `predict`."""
        given = {name: found for name, found in sets.items() if found is not None}
        described = [map_sets(_identify, given[name]) if name in given else None for name in ("train", "val")]
        made = cls(*described)
        made._sets = given
        return made

    def train_dataset(self) -> Any:
        """The data that was brought for training."""
        expected = "given to `fit` again: the run's folder has only what identifies it"
        require("train" in self._sets, "data", expected, self.init_args["data"])
        return self._sets["train"]

    def val_dataset(self) -> Any:
        """The data that was brought for validation, or None."""
        return self._sets.get("val")

    def test_dataset(self) -> Any:
        """The data that was brought for a test, or None."""
        return self._sets.get("test")

    def predict_dataset(self) -> Any:
        """The data that was brought for predictions, or None."""
        return self._sets.get("predict")

    def state_dict(self) -> dict[str, Any]:
        """The facts that a trained task was built with, where it was trained on a data module that has some."""
        return self._state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the result of `state_dict`."""
        self._state = dict(state)


def _identify(dataset: BatchedDataset) -> dict[str, Any]:
    return dataset.identity or {"kind": type(dataset).__name__, "batch_size": dataset.batch_size}


def as_data_module(
    data: Any, validation_data: Any = None, batch_size: int | None = None, shuffle: bool = True,
    class_weight: dict[int, float] | None = None,
) -> DataModule:  # fmt: skip
    """Makes a `DataModule` of data as it is brought; a `DataModule` stays as it is.

    Args:
        data: A DataModule, or arrays, a data set, a sequence or an iterable in one of the forms of Keras' `fit`.
        validation_data: The same for validation, or several data sets by name; None for none.
        batch_size: Rows of a global batch, for data that is not batches; None for 32.
        shuffle: Whether each epoch has an order of its own, for data that is read by index.
        class_weight: The weight of each class, for (x, y), as for Keras' `fit`.

    Raises:
        TypeError: `data` is none of these.
        ValueError: It is empty; or the keywords do not fit it, as beside a DataModule.
    """
    if isinstance(data, DataModule):
        given = {"validation_data": validation_data, "batch_size": batch_size, "class_weight": class_weight}
        for name, value in given.items():
            require(value is None, name, "None with a DataModule, which has its own", f"{value!r:.40}".split("\n")[0])
        require(shuffle is True, "shuffle", "left out with a DataModule, which has its own", shuffle)
        return data
    require_int("batch_size", batch_size, optional=True)
    require(isinstance(shuffle, bool), "shuffle", "True or False", shuffle, TypeError)
    train = as_dataset("data", data, batch_size, shuffle, class_weight)
    if validation_data is None:
        return BroughtData.of(train=train)

    def convert(one):
        return as_dataset("validation_data", one, None if has_batches(one) else batch_size, False)

    return BroughtData.of(train=train, val=map_sets(convert, validation_data, train.element_spec))


def as_evaluation_module(data: Any, batch_size: int | None = None, like: Any = None) -> DataModule:
    """Makes a `DataModule` of data that is brought for `validate`, `test` or `predict`; see `as_data_module`.

    Args:
        data, batch_size: As for `as_data_module`.
        like: The spec of a batch of the training; None if it is not known.
    """
    if isinstance(data, DataModule):
        require(batch_size is None, "batch_size", "None with a DataModule, which has its own", batch_size)
        return data
    require_int("batch_size", batch_size, optional=True)
    dataset = map_sets(lambda one: as_dataset("data", one, batch_size, False), data, like)
    return BroughtData.of(val=dataset, test=dataset, predict=dataset)


def has_batches(data: Any) -> bool:
    """Returns whether the data has batches of its own."""
    indexed = is_sequence(data) or isinstance(data, TFRecords)
    return isinstance(data, keras.utils.PyDataset | BatchedDataset) or (as_structure(data) is None and not indexed)


def as_dataset(
    name: str, data: Any, batch_size: int | None, shuffle: bool, class_weight: dict[int, float] | None = None
) -> BatchedDataset:
    """Makes a data set of any data that is brought; `name` is its name in messages. See `as_data_module`."""
    if isinstance(data, BatchedDataset):
        require(batch_size is None, "batch_size", "None for a data set that has one", batch_size)
        require(class_weight is None, "class_weight", "None for a data set of lightkeras", class_weight)
        return data
    if isinstance(data, tf.data.Dataset):
        require(batch_size is None, "batch_size", "None for data that are batches", batch_size)
        return _from_dataset(data, class_weight)
    if isinstance(data, keras.utils.PyDataset):
        require(batch_size is None, "batch_size", "None for a PyDataset, whose items are batches", batch_size)
        return ItemBatches(data, shuffle, class_weight)
    if isinstance(data, TFRecords):
        return data.batch(batch_size or BATCH_SIZE, shuffle, class_weight)
    arrays = as_structure(data)
    if arrays is not None:
        return from_structure(arrays, batch_size or BATCH_SIZE, shuffle, class_weight)
    if isinstance(data, dict | tuple):
        require_arrays(name, data)
    if is_sequence(data):
        return from_sequence(data, batch_size or BATCH_SIZE, shuffle, class_weight)
    if isinstance(data, Iterable) and not isinstance(data, str | bytes):
        require(batch_size is None, "batch_size", "None for an iterable of batches", batch_size)
        return from_iterable(data, class_weight)
    raise lightkeras_error(TypeError)(f"Expected `{name}` to be {KINDS}. Received: {name}={data!r:.200}")


def _from_dataset(data: tf.data.Dataset, class_weight: dict[int, float] | None) -> StreamedDataset:
    length = int(data.cardinality())
    known = {int(tf.data.INFINITE_CARDINALITY): ENDLESS, int(tf.data.UNKNOWN_CARDINALITY): None}
    if class_weight is not None:
        weigh = weigh_classes(class_weight)
        data = data.map(lambda *item: weigh(item))
    return StreamedDataset(data, known.get(length, length))
