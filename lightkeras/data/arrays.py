"""Arrays from outside as tensors: NumPy's, pandas', lists. What cannot be one is named by entry, example and column."""

import numbers
import warnings
from typing import Any

import numpy as np
import tensorflow as tf

from lightkeras.data.mapped import MappedArray, is_on_disk
from lightkeras.utils.checks import ArgumentError, require

_TEXT, _NUMBER, _MISSING = "text", "a number", "a missing value"


def to_tensors(arrays: Any) -> Any:
    """Copies the examples of all entries to the current device; see `to_tensor`.

    Args:
        arrays: A dict of arrays by name; or as for Keras' `fit`: `x`, `(x,)`, `(x, y)` or `(x, y, sample_weight)`.
            Dicts and tuples within are structures, lists are arrays.

    Returns:
        The same structure.
    """
    if not isinstance(arrays, tuple) or _is_array(arrays):
        return _in_structure("" if isinstance(arrays, dict) else "x", arrays)
    require(1 <= len(arrays) <= 3, "arrays", "(x,), (x, y) or (x, y, sample_weight)", f"{len(arrays)} parts")
    return tuple(map(_in_structure, ("x", "y", "sample_weight"), arrays))


def _in_structure(name: str, arrays: Any) -> Any:
    if arrays is None:
        return None
    if isinstance(arrays, dict):
        return {key: _in_structure(f"{name}/{key}" if name else key, one) for key, one in arrays.items()}
    if isinstance(arrays, tuple) and not _is_array(arrays):
        return tuple(_in_structure(f"{name}/{index}", one) for index, one in enumerate(arrays))
    return to_tensor(name, arrays)


def _is_array(values: tuple) -> bool:
    """Returns whether a tuple holds examples, and not arrays."""
    return any(isinstance(value, numbers.Number | str | bytes | np.generic) for value in values)


def to_tensor(name: str, array: Any) -> tf.Tensor | tf.RaggedTensor | MappedArray:
    """Copies the examples of an entry to the current device; ragged ones must have two axes (examples, time).

    An array on disk is not copied: it becomes a `MappedArray`.

    Floating-point numbers become float32, as in Keras' `fit` (whose `floatx` does not matter here, as variables are
    float32 in every `precision`); integers keep their type.

    Raises:
        ValueError: A missing value, values of different kinds, examples of different shapes, or anything else that is
            no array. The message names the entry and the example.
    """
    if isinstance(array, tf.RaggedTensor):
        require(array.shape.rank == 2, "arrays", "ragged with two axes (examples, time)", f"ragged {array.shape}")
        tensor = tf.nest.map_structure(tf.identity, array, expand_composites=True)
        return _to_float32(name, tensor) if tensor.dtype.is_floating else tensor
    if is_on_disk(array):
        require(len(array.shape) > 0, f"arrays[{name!r}]", "an array with the examples first", array)
        return MappedArray(array)
    plain = _plain(name, array)
    try:
        tensor = tf.convert_to_tensor(plain)
    except (TypeError, ValueError) as error:
        if isinstance(array, list | tuple):
            _from_list(name, array)  # raises a better error, if an example differs from the others
        expected = "an array of numbers, booleans or strings"
        kind = getattr(plain, "dtype", type(plain).__name__)
        raise ArgumentError(f"Expected the entry {name!r} to be {expected}. Received: {kind} ({error})") from error
    require(tensor.shape.rank > 0, f"arrays[{name!r}]", "an array with the examples first", array)
    return _to_float32(name, tensor) if tensor.dtype.is_floating else tensor


def _to_float32(name: str, tensor: Any) -> Any:
    values = tensor.flat_values if isinstance(tensor, tf.RaggedTensor) else tensor
    _warn_of_nan(name, tensor, np.asarray(values))
    cast = tf.cast(values, tf.float32)
    if values.dtype != cast.dtype and (large := np.isinf(cast) & np.isfinite(values)).any():
        example = np.argwhere(large)[0][0] if tensor is values else tensor.value_rowids()[np.argmax(large)]
        received = f"{np.asarray(values)[large][0]:g} in example {example}"
        raise ArgumentError(f"Expected the entry {name!r} to be within float32. Received: {received}")
    return tensor.with_flat_values(cast) if isinstance(tensor, tf.RaggedTensor) else cast


def _warn_of_nan(name: str, tensor: Any, values: np.ndarray) -> None:
    if not values.size or not np.isnan(values.min()):  # `min` needs no memory, and is NaN if any value is
        return
    if isinstance(tensor, tf.RaggedTensor):
        examples = np.unique(tensor.value_rowids().numpy()[np.isnan(values)])
    else:
        examples = np.flatnonzero(np.isnan(values.reshape(len(values), -1)).any(axis=1))
    warnings.warn(
        f"The entry {name!r} is NaN in {len(examples):,} of {tensor.shape[0]:,} examples, the first is example "
        f"{examples[0]}. A loss that reads it becomes NaN, and the run ends there.",
        stacklevel=4,
    )


# ---- columns of tables, and arrays of objects


def _plain(name: str, array: Any) -> Any:
    """Gives tables, arrays of objects and masked arrays one type of numbers or strings; leaves all else."""
    if isinstance(array, np.ma.MaskedArray):
        _reject_missing(name, np.ma.getmaskarray(array), None)
        return array.data
    if not hasattr(array, "to_numpy"):
        return _from_objects(name, array) if getattr(getattr(array, "dtype", None), "kind", None) == "O" else array
    values, columns = np.asarray(array.to_numpy()), getattr(array, "columns", None)
    if values.dtype == object:
        return _from_objects(name, values, columns)
    if np.issubdtype(values.dtype, np.floating):
        _reject_missing(name, np.isnan(values), columns)
    return values


def _from_list(name: str, examples: list | tuple) -> np.ndarray:
    objects = np.empty(len(examples), object)
    for number, example in enumerate(examples):
        objects[number] = example
    return _from_objects(name, objects)


def _from_objects(name: str, objects: np.ndarray, columns: Any = None) -> np.ndarray:
    """Converts objects (n, ...) to an array of numbers or strings; arrays of one shape are stacked."""
    flat = objects.ravel().tolist()
    kinds = np.array([_kind(value) for value in flat], object).reshape(objects.shape)
    _reject_missing(name, kinds == _MISSING, columns)
    odd = kinds != (kinds.flat[0] if kinds.size else None)
    if odd.any():
        where = np.argwhere(odd)[0]
        first, other = kinds.flat[0], kinds[tuple(where)]
        received = f"{first} in {_where(np.zeros_like(where), columns)}, {other} in {_where(where, columns)}"
        raise ArgumentError(
            f"Expected the entry {name!r} to have values of one kind and shape. Received: {received}{_cure(columns)}"
        )
    if kinds.size and kinds.flat[0] not in (_TEXT, _NUMBER) and not kinds.flat[0].startswith("an array"):
        expected = "numbers, booleans, strings or arrays"
        raise ArgumentError(f"Expected the entry {name!r} to hold {expected}. Received: {kinds.flat[0]} in example 0")
    if kinds.size and kinds.flat[0] == _TEXT:
        return objects
    return np.array(flat).reshape(*objects.shape, *np.shape(flat)[1:])


def _kind(value: Any) -> str:
    if isinstance(value, str | bytes):
        return _TEXT
    if isinstance(value, numbers.Real | np.bool_):
        return _MISSING if value != value else _NUMBER
    if value is None or type(value).__name__ in ("NAType", "NaTType"):  # pandas'
        return _MISSING
    if isinstance(value, list | tuple | np.ndarray):
        try:
            return f"an array of shape {np.shape(value)}"
        except ValueError:
            return "a list of lists of different lengths"
    return f"a {type(value).__name__}"


def _reject_missing(name: str, missing: np.ndarray, columns: Any) -> None:
    if missing.any():
        examples = np.unique(np.argwhere(missing)[:, 0])
        raise ArgumentError(
            f"Expected the entry {name!r} to have no missing values: fill them, or leave their examples out. Received: "
            f"{len(examples):,} examples with some, the first in {_where(np.argwhere(missing)[0], columns)}"
        )


def _cure(columns: Any) -> str:
    return "" if columns is None else ". Number such a column first: table[column].astype('category').cat.codes"


def _where(place: np.ndarray, columns: Any) -> str:
    column = f", column {list(columns)[place[1]]!r}" if columns is not None and len(place) > 1 else ""
    return f"example {place[0]}{column}"
