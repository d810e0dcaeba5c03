"""Batches of what `task.evaluate` and `task.predict` are given."""

from typing import Any

import tensorflow as tf

from lightkeras.data import AddressedDataset
from lightkeras.data.batches import WEIGHT, add_weight, batch_spec, map_batch, named_entries
from lightkeras.utils.checks import require, require_int

BATCH_SIZE = 32  # Keras' default
Spec = Any  # a structure of tf.TensorSpec


def as_batches(
    x: Any, y: Any, sample_weight: Any, batch_size: int | None, steps: int | None, spec: Spec
) -> tuple[AddressedDataset | tf.data.Dataset, int | None]:
    """Makes batches with the entries' dtypes as in training, and a weight of 1 where there is none.

    Args:
        x: Arrays, a `tf.data.Dataset` of batches, or an `AddressedDataset`; in the form of the training data.
        y, sample_weight: Arrays beside the arrays `x`, for a task that was trained on `(x, y)`.
        batch_size: Rows of a batch, for arrays; None for 32.
        steps: The first batches that are used; None for all.
        spec: The element spec of the training.

    Returns:
        The data, in order, and the number of batches: None where only reading them will tell.

    Raises:
        TypeError: The data have another form than those of the training.
        ValueError: The batches do not fit the task, or there are too few of them, or endlessly many.
    """
    require_int("steps", steps, optional=True)
    require_int("batch_size", batch_size, optional=True)
    batches = isinstance(x, tf.data.Dataset | AddressedDataset)
    require(batch_size is None or not batches, "batch_size", "None for data that are batches", batch_size)
    for name, part in (("y", y), ("sample_weight", sample_weight)):
        alone = batches or isinstance(spec, dict)
        require(part is None or not alone, name, "None: it is a part of the batches in `x`", type(part).__name__)
    if not batches:
        x = _from_arrays(x if y is None and sample_weight is None else (x, y, sample_weight), batch_size, spec)
    given = x.element_spec if isinstance(x, AddressedDataset) else batch_spec(x.element_spec)
    _require_form(given, spec)
    _require_fit(named_entries(given), named_entries(spec))
    x = _fit_addressed(x, spec) if isinstance(x, AddressedDataset) else _fit_dataset(x, given, spec)
    count = len(x) if isinstance(x, AddressedDataset) else int(x.cardinality())
    require(count != 0, "x", "data with batches", "an empty data set")
    ends = count != tf.data.INFINITE_CARDINALITY or steps is not None
    require(ends, "steps", "a number of batches of endless data", steps)
    return _first(x, count, steps)


def _from_arrays(arrays: Any, batch_size: int | None, spec: Spec) -> AddressedDataset:
    plain = isinstance(arrays, dict) or not isinstance(spec, dict)
    require(plain, "x", _form(spec), arrays, TypeError)
    return AddressedDataset.from_arrays(arrays, batch_size or BATCH_SIZE, shuffle=False)


def _form(spec: Spec) -> str:
    names = ", ".join(name for name in named_entries(spec) if name != WEIGHT)
    if isinstance(spec, dict):
        known = f"a dict of arrays by the names of the task's batches ({names})"
    else:
        known = "arrays x, or (x, y), or (x, y, sample_weight), as in training"
    return f"{known}, a tf.data.Dataset of such batches, or an AddressedDataset"


def _require_form(given: Any, spec: Spec) -> None:
    same = isinstance(given, dict) == isinstance(spec, dict) or not isinstance(spec, dict)
    require(same, "x", _form(spec), f"batches of {type(given).__name__}", TypeError)


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
        return dataset.load(rows).map(lambda *batch: _cast(_joined(batch), spec))

    return dataset.replace(load=load, shuffle=False, gather_from_memory=None)


def _fit_dataset(dataset: tf.data.Dataset, given: Any, spec: Spec) -> tf.data.Dataset:
    """Gives the batches weights, and their entries the dtypes of the training."""

    def fit(*parts):
        batch = _joined(parts)
        batch = add_weight(batch, tf.zeros([_count_rows(batch)], tf.int64))
        return batch if _fits(given, spec) else _cast(batch, spec)

    return dataset.map(fit)


def _joined(parts: tuple) -> Any:
    """Joins the arguments that `tf.data` makes of a batch that is a tuple."""
    return parts[0] if len(parts) == 1 else parts


def _count_rows(batch: Any) -> Any:
    rows = next(iter(named_entries(batch).values()))
    return rows.bounding_shape()[0] if isinstance(rows, tf.RaggedTensor) else tf.shape(rows)[0]


def _fits(given: Any, spec: Spec) -> bool:
    known = named_entries(spec)
    return all(entry.dtype == known[name].dtype for name, entry in named_entries(given).items() if name in known)


def _require_fit(given: dict, spec: dict) -> None:
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


def _cast(batch: Any, spec: Spec) -> Any:
    """Casts numbers to the dtypes of `spec`, as Keras casts its inputs."""
    known, names = named_entries(spec), iter(named_entries(batch))

    def cast(entry):
        name = next(names)
        return tf.cast(entry, known[name].dtype) if name in known else entry

    return map_batch(cast, batch)
