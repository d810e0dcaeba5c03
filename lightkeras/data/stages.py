"""The data of each stage: which data set of a `DataModule`, in which order, and how many of its batches."""

from typing import Any, NamedTuple

from lightkeras.data.dataset import AddressedDataset
from lightkeras.data.module import DataModule
from lightkeras.utils.checks import require


class StageData(NamedTuple):
    """A data set and the number of its batches that make an epoch, or an evaluation."""

    dataset: AddressedDataset
    steps: int


def training(data: DataModule, limit: int | float, overfit: int | float, parts: int) -> StageData:
    """The training data.

    Args:
        data: The data.
        limit: Number or share of the batches that are used.
        overfit: Number or share of the batches to train on, the same ones in every epoch; 0: `limit` counts.
        parts: Parts that a batch is cut into: replicas times micro-batches.

    Raises:
        ValueError: There is no training data, or a batch cannot be cut into `parts` equal parts.
    """
    dataset = require_dataset(data, "train_dataset")
    dataset.require_multiple(parts)
    if overfit:
        steps = batch_count(overfit, len(dataset))
        return StageData(dataset.repeat_first_epoch(steps), steps)
    return StageData(dataset, batch_count(limit, len(dataset)))


def validation(data: DataModule, limit: int | float, overfit: int | float) -> StageData | None:
    """The validation data (with `overfit` the training data), or None where there is none."""
    if overfit:
        return training(data, limit, overfit, parts=1)
    dataset = data.val_dataset()
    return None if dataset is None else _unshuffled(_checked(dataset, data, "val_dataset"), limit)


def evaluation(data: DataModule, name: str, limit: int | float = 1.0) -> StageData:
    """The data set `data.NAME()`, unshuffled."""
    return _unshuffled(require_dataset(data, name), limit)


def require_dataset(data: DataModule, name: str) -> AddressedDataset:
    """Calls `data.NAME()` and checks the result.

    Raises:
        ValueError: It is None: the data has none for this stage.
        TypeError: It is not an `AddressedDataset`.
    """
    return _checked(getattr(data, name)(), data, name)


def _checked(dataset: Any, data: DataModule, name: str) -> AddressedDataset:
    require(dataset is not None, name, f"a data set of {type(data).__name__}, which has none for this", dataset)
    expected = "an AddressedDataset (from_arrays, from_batches, from_examples), so that a run can resume at any batch"
    require(isinstance(dataset, AddressedDataset), name, expected, dataset, TypeError)
    return dataset


def _unshuffled(dataset: AddressedDataset, limit: int | float) -> StageData:
    unshuffled = dataset.replace(shuffle=False)
    return StageData(unshuffled, batch_count(limit, len(unshuffled)))


def batch_count(amount: int | float, total: int) -> int:
    """The number of batches: `amount` itself (an int), or that share of `total`; at least one, at most all."""
    return min(amount, total) if isinstance(amount, int) else max(1, int(amount * total + 1e-9))  # 0.29 * 100 is 28.99
