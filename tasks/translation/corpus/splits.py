"""Splits of pairs in which no sentence is on two sides."""

import hashlib

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

import lightkeras as lk
from tasks.translation.corpus.encoding import letters_of
from tasks.translation.corpus.pairs import Pairs


def split_pairs(pairs: Pairs, val_fraction: float, test_fraction: float, source: str = "pairs") -> np.ndarray:
    """Assigns every pair to a split: 0 training, 1 validation, 2 test; int8 (pairs,).

    Pairs that share a source or a target, except for case, accents, digits and punctuation, get the same split. The
    groups of such pairs are taken in the order of a hash of one of their sentences; a group too large for the rest of
    its split is skipped.

    Args:
        pairs: The pairs.
        val_fraction: Share of the distinct sources for validation.
        test_fraction: Share of the distinct sources for the test.
        source: Where they come from, for the message of an error.

    Raises:
        ValueError: A split would have no pair.
    """
    groups, count = _groups(pairs)
    order = np.argsort(_group_hashes(pairs, groups, count), kind="stable")
    sizes = np.bincount(groups[pairs.is_first], minlength=count)  # distinct sources of each group
    side = np.zeros(count, np.int8)
    for number, fraction in ((2, test_fraction), (1, val_fraction)):
        free = order[side[order] == 0]
        room = max(round(fraction * int(pairs.is_first.sum())), 1, sizes[free].min(initial=len(pairs)))
        side[free[_taken(sizes[free], room)]] = number
    counts = np.bincount(side, minlength=3)
    lk.utils.require(
        counts.min() > 0, "source", "3 groups of pairs or more that share no sentence, for training, validation, test",
        f"{source}, {len(pairs)} pairs in {count} groups",
    )  # fmt: skip
    return side[groups]


def _taken(sizes: np.ndarray, room: int) -> np.ndarray:
    """The places of the groups that fit into `room`, one after the other; one that is too large is skipped."""
    left, taken = np.arange(len(sizes)), []
    while len(left := left[sizes[left] <= room]):
        fitting = int(np.searchsorted(np.cumsum(sizes[left]), room, "right"))
        taken.append(left[:fitting])
        room, left = room - int(sizes[left[:fitting]].sum()), left[fitting:]
    return np.concatenate(taken) if taken else left


def _groups(pairs: Pairs) -> tuple[np.ndarray, int]:
    """The group of every pair, int32 (pairs,), and the number of groups."""
    (first, sources), (_, targets) = (
        np.unique(pairs.hashes(number, "letters"), return_inverse=True) for number in (0, 1)
    )
    sources, targets = sources.astype(np.int32), targets.astype(np.int32) + np.int32(len(first))
    size = int(targets.max(initial=0)) + 1
    graph = coo_array((np.ones(len(pairs), np.int8), (sources, targets)), shape=(size, size))
    count, component = connected_components(graph, directed=False)
    return component[sources], count


def _group_hashes(pairs: Pairs, groups: np.ndarray, count: int) -> np.ndarray:
    """A hash of each group's first source by alphabet, of its letters: uint64 (groups,)."""
    hashes = pairs.hashes(0, "letters")
    found = np.zeros(count, np.uint64)
    found[groups] = hashes
    several = np.zeros(count, bool)
    several[groups[found[groups] != hashes]] = True
    names = {}
    places = np.flatnonzero(several[groups])
    for group, text in zip(groups[places].tolist(), pairs.every_text(0, places), strict=True):
        letters = letters_of(text)
        names[group] = min(names.get(group, letters), letters)
    for group, name in names.items():
        found[group] = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
    return found
