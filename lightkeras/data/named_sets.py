"""Several data sets of one stage, by name: what `val_dataset()` and `test_dataset()` may return in the place of one."""

import re
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from lightkeras.data.batches import WEIGHT
from lightkeras.data.structures import as_structure
from lightkeras.utils.checks import ArgumentError, require

UNNAMED = ""  # the name of a data set that is the only one
_NAME = re.compile(r"[\w.-]+")


def is_named(given: Any, like: Any = None) -> bool:
    """Returns whether `given` is data sets by name: a dict whose values are data, not the arrays of one data set.

    A dict of dicts of arrays, all of one length, may be either. The batches of the training tell: a data
    set has their entries.

    Args:
        given: What was brought.
        like: A batch of the training, or its spec; None if it is not known.

    Raises:
        ValueError: Nothing tells.
    """
    if not isinstance(given, dict) or as_structure(given) is None:
        return isinstance(given, dict)
    values = list(given.values())
    if not all(isinstance(value, dict | tuple) for value in values):
        return False
    if any(isinstance(value, tuple) for value in values) or len(_lengths(given)) > 1:
        return True
    whole, parts = _is_like(given, like), all(_is_like(value, like) for value in values)
    if whole != parts:
        return parts
    raise ArgumentError(
        "Expected data whose form tells whether it is one data set or several by name. Received: a dict of dicts of "
        f"arrays of one length, {', '.join(map(str, given))}. Make a data set of it, or of each: "
        "lk.AddressedDataset.from_arrays({...}, batch_size)"
    )


def _lengths(given: dict) -> set[int]:
    return {len(one) for one in tf.nest.flatten(given) if one is not None}


def _is_like(given: Any, like: Any) -> bool:
    """Returns whether a batch has the entries of another; weights may be added to it."""
    return isinstance(like, dict) and set(given) | {WEIGHT} == set(like) | {WEIGHT}


def by_name(method: str, given: Any, like: Any = None) -> dict[str, Any]:
    """Returns the data sets that `method` gave, by name: `UNNAMED` if it is one; `like` as for `is_named`.

    Raises:
        ValueError: A name is no word of letters, digits, "_", "-" and ".", a set is None, or there is none; or nothing
            tells whether it is one.
    """
    if not is_named(given, like):
        return {UNNAMED: given}
    require(bool(given), method, "a data set, or at least one by name", given)
    for name, dataset in given.items():
        fits = isinstance(name, str) and _NAME.fullmatch(name) is not None
        expected = 'data sets by name, each name of letters, digits, "_", "-" and "." alone'
        require(fits, method, expected, name)
        require(dataset is not None, method, f"a data set for each name: {name!r} has none", dataset)
    return given


def map_sets(function: Callable[[Any], Any], given: Any, like: Any = None) -> Any:
    """Applies `function` to the data set `given`, or to each of several by name; `like` as for `is_named`."""
    return {name: function(one) for name, one in given.items()} if is_named(given, like) else function(given)


def metric_prefix(stage: str, name: str) -> str:
    """Returns what stands before the metrics of a data set: "val_", or "val_NAME_" of one that has a name."""
    return f"{stage}_{name}_" if name else f"{stage}_"
