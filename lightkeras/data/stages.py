"""The data of each stage: which data set of a `DataModule`, in which order, and how many of its batches."""

from typing import NamedTuple

import tensorflow as tf

from lightkeras.data.dataset import AddressedDataset
from lightkeras.data.module import DataModule
from lightkeras.utils.checks import nearest_multiples, require


class StageData(NamedTuple):
    """So many steps of a data set make an epoch, or an evaluation."""

    dataset: AddressedDataset
    steps: int


def training(data: DataModule, limit: int | float, overfit: int | float, parts: int) -> StageData:
    """The training data.

    Args:
        data: The data.
        limit: Number or share of the batches that are used.
        overfit: Number or share of the batches that are used again and again, always the same; 0 for `limit`.
        parts: Parts that a batch is cut into: replicas times micro-batches.
    """
    train = require_dataset(data, "train_dataset")
    expected = f"a multiple of {parts} (replicas x micro_batches), such as {nearest_multiples(train.batch_size, parts)}"
    require(train.batch_size % parts == 0, "batch_size", expected, train.batch_size)
    return (
        StageData(_frozen(train), batch_count(overfit, len(train)))
        if overfit
        else StageData(train, batch_count(limit, len(train)))
    )


def validation(data: DataModule, limit: int | float, overfit: int | float) -> StageData | None:
    """The validation data (with `overfit` that of training), or None where there is none."""
    if overfit:
        train = require_dataset(data, "train_dataset")
        return StageData(_frozen(train), batch_count(overfit, len(train)))
    return evaluation(data, "val_dataset", limit) if data.val_dataset() is not None else None


def evaluation(data: DataModule, name: str, limit: int | float = 1.0) -> StageData:
    """The data set `data.NAME()` in its order."""
    dataset = require_dataset(data, name)
    dataset = dataset.replace(shuffle=False)
    return StageData(dataset, batch_count(limit, len(dataset)))


def require_dataset(data: DataModule, name: str) -> AddressedDataset:
    """`data.NAME()`, found to be an `AddressedDataset`.

    Raises:
        ValueError: It is None: the data has none for this stage.
        TypeError: It is something else.
    """
    dataset = getattr(data, name)()
    require(dataset is not None, name, f"a data set of {type(data).__name__}, which has none for this", dataset)
    expected = "an AddressedDataset (from_arrays, from_batches, from_examples), so that a run can resume at any batch"
    require(isinstance(dataset, AddressedDataset), name, expected, dataset, TypeError)
    return dataset


def _frozen(dataset: AddressedDataset) -> AddressedDataset:
    """Every epoch as epoch 0 in order: also of data that differs by the epoch."""

    def load(rows: tf.data.Dataset) -> tf.data.Dataset:
        return dataset.load(rows.map(lambda indices, epoch, *width: (indices, tf.zeros_like(epoch), *width)))

    return dataset.replace(load=load, shuffle=False)


def batch_count(amount: int | float, total: int) -> int:
    """So many of `total`, or that share of it: at least one, at most all."""
    return min(amount, total) if isinstance(amount, int) else max(1, int(amount * total + 1e-9))  # 0.29 * 100 is 28.99
