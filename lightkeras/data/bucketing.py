"""Few widths that sequences of differing lengths are padded to."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lightkeras.utils.checks import require

MAX_WIDTHS = 8


def best_widths(lengths: Any, max_widths: int = MAX_WIDTHS) -> tuple[int, ...]:
    """The increasing widths with the least padding, where each sequence is padded to the next width.

    No other choice of `max_widths` widths pads less: dynamic programming over the distinct lengths finds the minimum.

    Args:
        lengths: Lengths of the sequences, ints (n,).
        max_widths: Maximum number of widths.
    """
    values, counts = np.unique(lengths, return_counts=True)
    values, ends = np.append(0, values), np.append(0, np.cumsum(counts))  # the first i lengths have ends[i] sequences
    last_class = (ends - ends[:, None]) * values  # slots of the class from length i (exclusive) to length j: (i, j)
    last_class = np.where(np.tri(len(values), k=-1, dtype=bool), np.iinfo(np.int64).max // 2, last_class)
    slots, cuts = ends * values, []
    for _ in range(max_widths - 1):
        totals = slots[:, None] + last_class
        cuts.append(totals.argmin(axis=0))
        slots = totals.min(axis=0)
    chosen = [len(values) - 1]
    for cut in reversed(cuts):
        chosen.append(cut[chosen[-1]])
    return tuple(sorted({int(values[i]) for i in chosen if i}))


def check_lengths(lengths: Any, size: int) -> np.ndarray:
    """`lengths` as an array (size,); raises ValueError unless it holds an int of 0 or more for every example."""
    lengths = np.asarray(lengths)
    valid = lengths.shape == (size,) and np.issubdtype(lengths.dtype, np.integer) and lengths.min() >= 0
    received = f"{lengths.dtype} {lengths.shape}, the least {lengths.min() if lengths.size else None}"
    require(valid, "lengths", f"ints of 0 or more, of shape {(size,)}", received)
    return lengths


def choose_widths(widths: Sequence[int] | None, lengths: np.ndarray | None) -> tuple[int, ...] | None:
    """`widths`, or `best_widths` where it is None; None without `lengths`.

    Raises:
        ValueError: They do not increase, or the longest sequence does not fit into the last one.
    """
    if lengths is None:
        require(widths is None, "widths", "None without `lengths`", widths)
        return None
    if widths is None:
        return best_widths(lengths)
    longest = int(lengths.max())
    valid = len(widths) > 0 and all(np.diff(widths) > 0) and widths[0] >= 0 and widths[-1] >= longest
    require(valid, "widths", f"increasing, the last one {longest} (the longest) or more", widths)
    return tuple(int(width) for width in widths)
