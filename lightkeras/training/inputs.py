"""Batches of what `task.evaluate` and `task.predict` are given."""

from typing import Any

import tensorflow as tf

from lightkeras.data import AddressedDataset
from lightkeras.data.batches import WEIGHT
from lightkeras.utils.checks import require, require_int

BATCH_SIZE = 32  # Keras' default
Spec = dict[str, tf.TensorSpec]
KINDS = (
    "a dict of arrays by the names of the task's batches ({names}), a tf.data.Dataset of such batches, or an "
    "AddressedDataset"
)


def as_batches(
    x: Any, batch_size: int | None, steps: int | None, spec: Spec
) -> tuple[AddressedDataset | tf.data.Dataset, int | None]:
    """Makes batches of `x` with the entries' dtypes as in training, and a "weight" of 1 where there is none.

    Args:
        x: A dict of arrays, a `tf.data.Dataset` of batches (dicts), or an `AddressedDataset`.
        batch_size: Rows of a batch, for arrays; None for 32.
        steps: The first batches that are used; None for all.
        spec: The element spec of the training.

    Returns:
        The data, in order, and the number of batches: None where only reading them will tell.

    Raises:
        TypeError: `x` is something else.
        ValueError: The batches do not fit the task, or there are too few of them, or endlessly many.
    """
    require_int("steps", steps, optional=True)
    require_int("batch_size", batch_size, optional=True)
    names = ", ".join(name for name in spec if name != WEIGHT)
    require(isinstance(x, dict | tf.data.Dataset | AddressedDataset), "x", KINDS.format(names=names), x, TypeError)
    require(batch_size is None or isinstance(x, dict), "batch_size", "None for data that are batches", batch_size)
    if isinstance(x, dict) and WEIGHT not in x:
        x = AddressedDataset.from_arrays(x, batch_size or BATCH_SIZE, shuffle=False)
    elif isinstance(x, dict):
        x = tf.data.Dataset.from_tensor_slices(x).batch(batch_size or BATCH_SIZE)
    require(isinstance(x.element_spec, dict), "x", f"batches that are dicts with the entries {names}", x, TypeError)
    _require_fit(x.element_spec, spec)
    x = _fit_addressed(x, spec) if isinstance(x, AddressedDataset) else _fit_dataset(x, spec)
    count = len(x) if isinstance(x, AddressedDataset) else int(x.cardinality())
    require(count != 0, "x", "data with batches", "an empty data set")
    ends = count != tf.data.INFINITE_CARDINALITY or steps is not None
    require(ends, "steps", "a number of batches of endless data", steps)
    return _first(x, count, steps)


def _first(x: Any, count: int, steps: int | None) -> tuple[Any, int | None]:
    """Takes the first `steps` of `count` batches."""
    require(steps is None or count < 0 or steps <= count, "steps", f"at most {count}, the batches of the data", steps)
    if steps and isinstance(x, tf.data.Dataset):
        x = x.take(steps)
    return x, None if count == tf.data.UNKNOWN_CARDINALITY else steps or count


def _fit_addressed(dataset: AddressedDataset, spec: Spec) -> AddressedDataset:
    if _fits(dataset.element_spec, spec):
        return dataset.replace(shuffle=False) if dataset.shuffle else dataset  # its pipelines are kept

    def load(rows: tf.data.Dataset) -> tf.data.Dataset:
        return dataset.load(rows).map(lambda batch: _cast(batch, spec))

    return dataset.replace(load=load, shuffle=False, gather_from_memory=None)


def _fit_dataset(dataset: tf.data.Dataset, spec: Spec) -> tf.data.Dataset:
    given: Any = dataset.element_spec
    dataset = dataset if WEIGHT in given else dataset.map(_add_ones)
    return dataset if _fits(given, spec) else dataset.map(lambda batch: _cast(batch, spec))


def _fits(given: dict, spec: Spec) -> bool:
    return all(entry.dtype == spec[name].dtype for name, entry in given.items() if name in spec)


def _require_fit(given: dict, spec: Spec) -> None:
    for name in sorted(given.keys() & spec.keys()):
        found, known = tf.TensorShape(given[name].shape), tf.TensorShape(spec[name].shape)
        same = None in (found.rank, known.rank) or found.rank == known.rank
        expected = f'batches whose entry "{name}" has the shape {tuple(known)}'
        require(same, "x", expected, f"{tuple(found)} (not batched?)")
        fits = _is_castable(given[name].dtype, spec[name].dtype)
        expected = f'data whose entry "{name}" is of {spec[name].dtype.name}, as in training'
        require(fits, "x", expected, given[name].dtype.name)


def _is_castable(given: tf.DType, dtype: tf.DType) -> bool:
    """Whether a cast loses nothing but digits: a real number becomes no integer."""
    to_real = dtype.is_floating and (given.is_floating or given.is_integer or given.is_bool)
    return given == dtype or to_real or (dtype.is_integer and given.is_integer)


def _add_ones(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    rows = next(iter(batch.values()))
    count = rows.bounding_shape()[0] if isinstance(rows, tf.RaggedTensor) else tf.shape(rows)[0]
    return {**batch, WEIGHT: tf.ones([count])}


def _cast(batch: dict[str, tf.Tensor], spec: Spec) -> dict[str, tf.Tensor]:
    """Casts numbers to the dtypes of `spec`, as Keras casts its inputs."""
    return {name: tf.cast(value, spec[name].dtype) if name in spec else value for name, value in batch.items()}
