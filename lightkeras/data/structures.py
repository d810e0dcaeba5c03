"""Arrays that are brought in a structure: in memory, or on disk."""

import numbers
from typing import Any

import numpy as np
import tensorflow as tf

from lightkeras.data.arrays import to_tensors
from lightkeras.data.batched import Reading
from lightkeras.data.batches import PARTS, named_entries
from lightkeras.data.dataset import AddressedDataset
from lightkeras.data.fingerprint import digest_arrays
from lightkeras.data.forms import find_form, weigh_classes
from lightkeras.data.mapped import MappedArray, is_on_disk
from lightkeras.utils.checks import lightkeras_error, require


def as_structure(value: Any) -> Any:
    """Returns arrays in the structure in which they are brought, or None if `value` is something else.

    A list of arrays is a tuple of inputs, as for Keras' models. A list of numbers, strings or lists is an array. A list
    of dicts or of tuples holds examples, and so is none.
    """
    if isinstance(value, dict | tuple) and value and not (isinstance(value, tuple) and _is_plain(value[0])):
        given = list(value.values() if isinstance(value, dict) else value)
        parts = [None if part is None else as_structure(part) for part in given]
        if any(found is None and part is not None for found, part in zip(parts, given, strict=True)):
            return None
        return dict(zip(value, parts, strict=True)) if isinstance(value, dict) else tuple(parts)
    if isinstance(value, list) and value and all(isinstance(one, np.ndarray) or tf.is_tensor(one) for one in value):
        return tuple(value)
    return value if _is_array(value) else None


def require_arrays(name: str, value: dict | tuple) -> None:
    """Raises TypeError for a dict or a tuple that `as_structure` does not take: names the entry that is no array."""
    parts = value.items() if isinstance(value, dict) else zip(PARTS, value, strict=False)
    for path, part in parts:
        if part is not None and as_structure(part) is None:
            how = "make it dense" if _is_sparse(part) else "`numpy.asarray` makes one"
            raise lightkeras_error(TypeError)(
                f"Expected the entries of `{name}` to be arrays: {how}. Received: {path}, a {type(part).__name__}"
            )


def _is_sparse(value: Any) -> bool:
    return isinstance(value, tf.SparseTensor) or type(value).__module__.startswith("scipy.sparse")


def _is_plain(value: Any) -> bool:
    return isinstance(value, numbers.Number | str | bytes | np.generic)


def _is_array(value: Any) -> bool:
    if isinstance(value, tf.SparseTensor):
        return False
    if isinstance(value, list | tuple):
        first = value[0] if value else 0.0
        numbers_alone = isinstance(first, tuple) and all(isinstance(one, numbers.Number) for one in first)
        return numbers_alone or not isinstance(first, dict | tuple)
    known = isinstance(value, np.ndarray | tf.RaggedTensor) or tf.is_tensor(value) or is_on_disk(value)
    return known or hasattr(value, "to_numpy") or (hasattr(value, "__array__") and hasattr(value, "shape"))


def from_structure(
    arrays: Any, batch_size: int, shuffle: bool, class_weight: dict[int, float] | None = None
) -> AddressedDataset:
    """Makes a data set of arrays.

    Args:
        arrays: What `as_structure` returns.
        batch_size, shuffle: As for `AddressedDataset`.
        class_weight: Weights by class, for (x, y).

    Raises:
        ValueError: The arrays differ in their first axes, are empty, or cannot be arrays.
    """
    with tf.device("CPU"):
        tensors = to_tensors(arrays)
        form = find_form(tensors)
        if class_weight is not None and form.parts == 2:  # labels need little memory
            tensors = (
                tensors[0],
                tf.constant(tensors[1].read(np.arange(tensors[1].shape[0])))
                if isinstance(tensors[1], MappedArray)
                else tensors[1],
            )
        tensors = weigh_classes(class_weight)(tensors)
    empty = [name for name, one in named_entries(tensors).items() if one.shape.rank and one.shape[0] == 0]
    require(not empty, "data", "arrays with examples", f"empty: {', '.join(empty)}")
    made = AddressedDataset.from_tensors(tensors, batch_size, shuffle)
    where = "on disk" if any(isinstance(one, MappedArray) for one in named_entries(tensors).values()) else "in memory"
    made.form = find_form(tensors)
    made.identity = {"kind": f"arrays {where}", "examples": made.size, "digest": digest_arrays(tensors)}
    copied = ", not copied" if where == "on disk" else ""
    made.reading = Reading(f"{made.size:,} examples in arrays {where}{copied}, read by index")
    return made
