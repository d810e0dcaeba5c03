"""A batch: a structure of tensors with the batch axis first, and the weight of every row.

Data that are a dict arrive in the steps as a dict with an entry "weight"; all other data as the tuple
`(x, y, sample_weight)`, as in Keras, where `y` is None if there is none, and `x` and `y` may be structures.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from lightkeras.data.mapped import MappedArray

Batch = Any  # a dict of tensors, or (x, y, sample_weight)
traced_as_it_is = tf.autograph.experimental.do_not_convert  # what `tf.data` calls; users' functions are converted
WEIGHT, PARTS = "weight", ("x", "y", "sample_weight")


@traced_as_it_is
def map_batch(function: Callable[[Any], Any], batch: Batch) -> Any:
    """Applies `function` to every tensor (or spec) of a batch; what is None stays so."""
    return keras.tree.map_structure(lambda entry: None if entry is None else function(entry), batch)


@traced_as_it_is
def named_entries(batch: Batch) -> dict[str, Any]:
    """Returns every tensor (or spec) of a batch by its name: `x`, `y` and `sample_weight` are those of a tuple.

    A name within a structure is a path: "x/left", "y/0".
    """
    parts = dict(enumerate(PARTS)) if isinstance(batch, tuple) else {}
    found = keras.tree.flatten_with_path(batch)
    return {
        "/".join(str(parts.get(key, key) if place == 0 else key) for place, key in enumerate(path)) or "x": entry
        for path, entry in found
        if entry is not None
    }


def weights_of(batch: Batch) -> tf.Tensor:
    """Returns the weight of every row: float32 (rows,), or (rows, time) if the data brought such weights."""
    return batch[WEIGHT] if isinstance(batch, dict) else batch[2]


def unpacked(arguments: tuple) -> Any:
    """Returns the batch that `tf.data` passes to a function: the parts of a tuple come as arguments."""
    return arguments[0] if len(arguments) == 1 else arguments


def row_count(batch: Batch) -> int | None:
    """Returns the rows of a batch (or of its spec); None where they are not static."""
    return next(iter(named_entries(batch).values())).shape[0]


@traced_as_it_is
def complete_batch(fetched: Any, indices: tf.Tensor) -> Batch:
    """Adds the weights to what was fetched for a row of indices (rows,).

    Raises:
        TypeError: The batch is no structure of tensors that a step can take.
        ValueError: It has an entry with another number of rows.
    """
    batch = add_weight(fetched, indices)
    rows = indices.shape[0]
    entries = named_entries(batch).items()
    wrong = [f"{name} with shape {tensor.shape}" for name, tensor in entries if tensor.shape[:1] != (rows,)]
    if wrong:
        raise ValueError(f"Expected every entry of a batch to have {rows} rows. Received: {', '.join(wrong)}")
    return batch


@traced_as_it_is
def examples_to_read(indices: tf.Tensor) -> tf.Tensor:
    """Index of the example to read for each row; padding rows encode one as -1 - i."""
    return tf.maximum(indices, -1 - indices)


@traced_as_it_is
def add_weight(batch: Any, indices: tf.Tensor) -> Batch:
    """Puts rows in the form in which steps get them, and multiplies their weights by 0 where they are padding.

    Args:
        batch: A dict; or `x`, `(x,)`, `(x, y)` or `(x, y, sample_weight)`. Also of one example.
        indices: The rows' indices, int64 (rows,); negative ones are padding.
    """
    present = tf.cast(indices >= 0, tf.float32)
    if isinstance(batch, dict):
        return {**batch, WEIGHT: _times(batch.get(WEIGHT), present)}
    if isinstance(batch, list):
        raise TypeError("Expected a batch to be a dict, a tuple or a tensor. Received: a list")
    parts = batch if isinstance(batch, tuple) else (batch,)
    if not 1 <= len(parts) <= 3:
        raise TypeError(f"Expected a batch to be (x,), (x, y) or (x, y, sample_weight). Received: {len(parts)} parts")
    x, y, weight = (*parts, None, None)[:3]
    if weight is None:
        return x, y, present
    return x, y, keras.tree.map_structure(lambda part: _times(part, present), weight)


def _times(weight: Any, present: tf.Tensor) -> tf.Tensor:
    """Multiplies weights (rows, ...) by those of the rows; None stands for ones."""
    if weight is None:
        return present
    weight = tf.cast(weight, tf.float32)
    missing = (weight.shape.rank or 0) - (present.shape.rank or 0)
    return weight * tf.reshape(present, tf.concat([tf.shape(present), [1] * missing], axis=0))


@traced_as_it_is
def gather_rows(tensor: tf.Tensor | tf.RaggedTensor | MappedArray, indices: tf.Tensor, *width: tf.Tensor) -> tf.Tensor:
    """Takes rows (rows, ...); ragged ones are padded with zeros to (rows, width)."""
    rows = tensor.gather(indices) if isinstance(tensor, MappedArray) else tf.gather(tensor, indices)
    if not isinstance(rows, tf.RaggedTensor):
        return rows
    shape = tf.stack([tf.size(indices, tf.int64), *width])
    return tf.ensure_shape(rows.to_tensor(shape=shape), (indices.shape[0], None))


# ---- specs


def batch_spec(element_spec: Any) -> Any:
    """Returns the element spec of a `tf.data.Dataset` of batches, with None where `tf.data` marks a None."""
    return keras.tree.map_structure(lambda one: one if hasattr(one, "dtype") else None, element_spec)


def spec_to_json(spec: Any) -> Any:
    """Writes the spec of a batch in JSON's types; `spec_from_json` reads it."""
    if isinstance(spec, dict):
        return {name: spec_to_json(one) for name, one in spec.items()}
    if isinstance(spec, list | tuple):
        return [spec_to_json(one) for one in spec]
    return None if spec is None else {"shape": list(spec.shape), "dtype": spec.dtype.name}


def spec_from_json(written: Any, name: str | None = None) -> Any:
    """Reads what `spec_to_json` wrote: lists become tuples."""
    if written is None:
        return None
    if isinstance(written, list):
        return tuple(spec_from_json(one) for one in written)
    if isinstance(written.get("shape"), list) and isinstance(written.get("dtype"), str):
        return tf.TensorSpec(written["shape"], written["dtype"], name)
    return {name: spec_from_json(one, name) for name, one in written.items()}
