"""The data of each stage: which data set of a `DataModule`, in which order, and how many of its batches."""

from typing import NamedTuple

import tensorflow as tf

from lightkeras.checks import check, nearest_multiples
from lightkeras.data import AddressedDataset, DataModule


class Stage(NamedTuple):
    """So many steps of a data set make an epoch, or an evaluation."""

    dataset: AddressedDataset
    steps: int


def training(data: DataModule, limit: int | float, overfit: int | float, parts: int) -> Stage:
    """The training data.

    Args:
        data: The data.
        limit: Number or share of the batches that are used.
        overfit: Number or share of the batches that are used again and again, always the same; 0 for `limit`.
        parts: Parts that a batch is cut into: replicas times micro-batches.
    """
    train = dataset_of(data, "train_dataset")
    expected = f"a multiple of {parts} (replicas x micro_batches), such as {nearest_multiples(train.batch_size, parts)}"
    check(train.batch_size % parts == 0, "batch_size", expected, train.batch_size)
    return Stage(_frozen(train), share(overfit, len(train))) if overfit else Stage(train, share(limit, len(train)))


def validation(data: DataModule, limit: int | float, overfit: int | float) -> Stage | None:
    """The validation data (with `overfit` that of training), or None where there is none."""
    if overfit:
        train = dataset_of(data, "train_dataset")
        return Stage(_frozen(train), share(overfit, len(train)))
    return evaluation(data, "val_dataset", limit) if data.val_dataset() is not None else None


def evaluation(data: DataModule, name: str, limit: int | float = 1.0) -> Stage:
    """The data set `data.NAME()` in its order."""
    dataset = dataset_of(data, name)
    dataset = dataset.replace(shuffle=False)
    return Stage(dataset, share(limit, len(dataset)))


def dataset_of(data: DataModule, name: str) -> AddressedDataset:
    """`data.NAME()`, found to be an `AddressedDataset`.

    Raises:
        ValueError: It is None: the data has none for this stage.
        TypeError: It is something else.
    """
    dataset = getattr(data, name)()
    check(dataset is not None, name, f"a data set of {type(data).__name__}, which has none for this", dataset)
    expected = "an AddressedDataset (from_arrays, from_batches, from_examples), so that a run can resume at any batch"
    check(isinstance(dataset, AddressedDataset), name, expected, dataset, TypeError)
    return dataset


def _frozen(dataset: AddressedDataset) -> AddressedDataset:
    """Every epoch as epoch 0 in order: also of data that differs by the epoch."""

    def load(rows: tf.data.Dataset) -> tf.data.Dataset:
        return dataset.load(rows.map(lambda indices, epoch, *width: (indices, tf.zeros_like(epoch), *width)))

    return dataset.replace(load=load, shuffle=False)


def share(amount: int | float, total: int) -> int:
    """So many of `total`, or that share of it: at least one, at most all."""
    return min(amount, total) if isinstance(amount, int) else max(1, int(amount * total + 1e-9))  # 0.29 * 100 is 28.99
