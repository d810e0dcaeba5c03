"""The data of each stage: which data set of a `DataModule`, in which order, and how many of its batches."""

from typing import Any, NamedTuple

from lightkeras.data.batched import BatchedDataset
from lightkeras.data.brought import as_dataset, has_batches
from lightkeras.data.module import DataModule
from lightkeras.data.named_sets import by_name, is_named
from lightkeras.data.streamed import ENDLESS, StreamedDataset
from lightkeras.utils.checks import require


class StageData(NamedTuple):
    """A data set and the number of its batches that make an epoch, or an evaluation."""

    dataset: BatchedDataset
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
    data.trained_on = dataset
    if overfit:
        steps = _count_steps(dataset, overfit)
        return StageData(dataset.repeat_first_epoch(steps), steps)
    return StageData(dataset, _count_steps(dataset, limit))


def validation(data: DataModule, limit: int | float, overfit: int | float) -> dict[str, StageData]:
    """The validation data sets by name (with `overfit`, each is the training data); none where there is none."""
    given, like = data.val_dataset(), _training_spec(data)
    if overfit:
        found = training(data, limit, overfit, parts=1)
        return dict.fromkeys(by_name("val_dataset", given, like), found)
    return {} if given is None else _unshuffled_sets(given, data, "val_dataset", limit, like)


def evaluation(data: DataModule, method: str, limit: int | float = 1.0, like: Any = None) -> dict[str, StageData]:
    """The data sets of `data.METHOD()` by name, unshuffled. One without a name has the name `named_sets.UNNAMED`.

    Args:
        data: The data.
        method: The name of its method.
        limit: Number or share of the batches that are used.
        like: The spec of a batch of the training; None if it is not known.

    Raises:
        ValueError: There is none for this stage, or there are several to predict on.
        TypeError: It is no data.
    """
    given = getattr(data, method)()
    if method == "predict_dataset":
        names = list(given) if is_named(given, like) else None
        require(names is None, method, "one data set: outputs have no place for several", names)
    return _unshuffled_sets(given, data, method, limit, like)


def _unshuffled_sets(given: Any, data: DataModule, method: str, limit: int | float, like: Any) -> dict[str, StageData]:
    sets = by_name(method, given, like)
    return {name: _unshuffled(convert(one, data, method), limit) for name, one in sets.items()}


def require_dataset(data: DataModule, name: str) -> BatchedDataset:
    """Calls `data.NAME()` and checks the result.

    Raises:
        ValueError: It is None: the data has none for this stage.
        TypeError: It is no data, or several data sets by name.
    """
    return convert(getattr(data, name)(), data, name)


def require_datasets(data: DataModule, name: str) -> dict[str, BatchedDataset]:
    """Calls `data.NAME()`, which may give several data sets by name, and checks the result as `require_dataset`."""
    sets = by_name(name, getattr(data, name)(), _training_spec(data))
    return {key: convert(one, data, name) for key, one in sets.items()}


def _training_spec(data: DataModule) -> Any:
    """Returns the structure of the batches that were trained on; None before any."""
    return None if data.trained_on is None else data.trained_on.element_spec


def convert(dataset: Any, data: DataModule, name: str) -> BatchedDataset:
    """Makes a data set of what `data.NAME()` returned, in any form; see `require_dataset`."""
    require(dataset is not None, name, f"a data set of {type(data).__name__}, which has none for this", dataset)
    if isinstance(dataset, BatchedDataset):
        return dataset
    rows = None if has_batches(dataset) else getattr(data, "batch_size", None)
    return as_dataset(name, dataset, rows, shuffle=name == "train_dataset")


def _unshuffled(dataset: BatchedDataset, limit: int | float) -> StageData:
    unshuffled = dataset.replace(shuffle=False)
    return StageData(unshuffled, _count_steps(unshuffled, limit))


def _count_steps(dataset: BatchedDataset, limit: int | float) -> int:
    """Returns the number of batches that are used; streamed data without a length is not counted for a number."""
    if isinstance(limit, int) and isinstance(dataset, StreamedDataset) and dataset.length in (None, ENDLESS):
        return limit
    return batch_count(limit, len(dataset))


def batch_count(amount: int | float, total: int) -> int:
    """The number of batches: `amount` itself (an int), or that share of `total`; at least one, at most all."""
    return min(amount, total) if isinstance(amount, int) else max(1, int(amount * total + 1e-9))  # 0.29 * 100 is 28.99
