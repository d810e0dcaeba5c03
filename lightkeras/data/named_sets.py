"""Several data sets of one stage, by name: what `val_dataset()` and `test_dataset()` may return in the place of one."""

import re
from collections.abc import Callable
from typing import Any

from lightkeras.data.structures import as_structure
from lightkeras.utils.checks import require

UNNAMED = ""  # the name of a data set that is the only one
_NAME = re.compile(r"[\w.-]+")


def is_named(given: Any) -> bool:
    """Returns whether `given` is data sets by name: a dict whose values are data, not the arrays of one data set."""
    if not isinstance(given, dict):
        return False
    return as_structure(given) is None or all(isinstance(value, dict | tuple) for value in given.values())


def by_name(method: str, given: Any) -> dict[str, Any]:
    """Returns the data sets that `method` gave, by name: `UNNAMED` if it is one.

    Raises:
        ValueError: A name is no word of letters, digits, "_", "-" and ".", a set is None, or there is none.
    """
    if not is_named(given):
        return {UNNAMED: given}
    require(bool(given), method, "a data set, or at least one by name", given)
    for name, dataset in given.items():
        fits = isinstance(name, str) and _NAME.fullmatch(name) is not None
        expected = 'data sets by name, each name of letters, digits, "_", "-" and "." alone'
        require(fits, method, expected, name)
        require(dataset is not None, method, f"a data set for each name: {name!r} has none", dataset)
    return given


def map_sets(function: Callable[[Any], Any], given: Any) -> Any:
    """Applies `function` to the data set `given`, or to each of several by name."""
    return {name: function(one) for name, one in given.items()} if is_named(given) else function(given)


def metric_prefix(stage: str, name: str) -> str:
    """Returns what stands before the metrics of a data set: "val_", or "val_NAME_" of one that has a name."""
    return f"{stage}_{name}_" if name else f"{stage}_"
