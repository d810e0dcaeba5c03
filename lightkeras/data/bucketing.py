"""Widths for sequences of differing lengths."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lightkeras.utils.checks import require

MOST_WIDTHS = 8


def best_widths(lengths: Any, most: int = MOST_WIDTHS) -> tuple[int, ...]:
    """At most `most` widths, increasing, that pad sequences least where each is padded to the next width.

    The sum of the padding is the least there is, by dynamic programming over the distinct lengths.

    Args:
        lengths: Lengths of the sequences, ints (n,).
        most: Number of widths at most.
    """
    values, counts = np.unique(lengths, return_counts=True)
    values, ends = np.append(0, values), np.append(0, np.cumsum(counts))  # the first i lengths have ends[i] sequences
    last_class = (ends - ends[:, None]) * values  # slots of the class from length i (exclusive) to length j: (i, j)
    last_class = np.where(np.tri(len(values), k=-1, dtype=bool), np.iinfo(np.int64).max // 2, last_class)
    slots, cuts = ends * values, []
    for _ in range(most - 1):
        totals = slots[:, None] + last_class
        cuts.append(totals.argmin(axis=0))
        slots = totals.min(axis=0)
    chosen = [len(values) - 1]
    for cut in reversed(cuts):
        chosen.append(cut[chosen[-1]])
    return tuple(sorted({int(values[i]) for i in chosen if i}))


def _checked_lengths(lengths: Any, size: int) -> np.ndarray:
    lengths = np.asarray(lengths)
    good = lengths.shape == (size,) and np.issubdtype(lengths.dtype, np.integer) and lengths.min() >= 0
    received = f"{lengths.dtype} {lengths.shape}, the least {lengths.min() if lengths.size else None}"
    require(good, "lengths", f"ints of 0 or more, of shape {(size,)}", received)
    return lengths


def _checked_widths(widths: Sequence[int] | None, lengths: np.ndarray | None) -> tuple[int, ...] | None:
    if lengths is None:
        require(widths is None, "widths", "None without `lengths`", widths)
        return None
    if widths is None:
        return best_widths(lengths)
    longest = int(lengths.max())
    good = len(widths) > 0 and all(np.diff(widths) > 0) and widths[0] >= 0 and widths[-1] >= longest
    require(good, "widths", f"increasing, the last one {longest} (the longest) or more", widths)
    return tuple(int(width) for width in widths)
