"""Splits of pairs in which no sentence is on two sides."""

import hashlib
import re
import unicodedata

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

import lightkeras as lk


def split_pairs(
    pairs: list[tuple[str, str]], val_fraction: float, test_fraction: float, source: str = "pairs"
) -> np.ndarray:
    """Assigns every pair to a split: 0 training, 1 validation, 2 test; int (pairs,).

    Pairs that share a source or a target, except for case, accents, digits and punctuation, get the same split. The
    groups of such pairs are taken in the order of a hash of one of their sentences; a group too large for the rest of
    its split is skipped.

    Args:
        pairs: Distinct pairs (source, target).
        val_fraction: Share of the distinct sources for validation.
        test_fraction: Share of the distinct sources for the test.
        source: Where they come from, for the message of an error.

    Raises:
        ValueError: A split would have no pair.
    """
    groups, names = _groups(pairs)
    first = {source: place for place, (source, _) in reversed(list(enumerate(pairs)))}
    sizes = np.bincount(groups[list(first.values())], minlength=len(names))  # distinct sources of each group
    order = sorted(range(len(names)), key=lambda group: hashlib.sha256(names[group].encode()).digest())
    side = np.zeros(len(names), np.int8)
    for number, fraction in ((2, test_fraction), (1, val_fraction)):
        free = [group for group in order if side[group] == 0]
        room = max(round(fraction * len(first)), 1, min(sizes[free], default=0))
        for group in free:
            if sizes[group] <= room:
                side[group], room = number, room - sizes[group]
    counts = np.bincount(side, minlength=3)
    lk.utils.require(
        counts.min() > 0, "source", "3 groups of pairs or more that share no sentence, for training, validation, test",
        f"{source}, {len(pairs)} pairs in {len(names)} groups",
    )  # fmt: skip
    return side[groups]


def _groups(pairs: list[tuple[str, str]]) -> tuple[np.ndarray, list[str]]:
    """The group of every pair, (pairs,), and each group's name: its first source by alphabet."""
    numbers, ends = {}, []
    keys = [(_letters(source), _letters(target)) for source, target in pairs]
    for side in (0, 1):
        ends.append([numbers.setdefault((side, key[side]), len(numbers)) for key in keys])
    graph = coo_array((np.ones(len(pairs), np.int8), ends), shape=(len(numbers), len(numbers)))
    count, component = connected_components(graph, directed=False)
    groups, names = component[ends[0]], [None] * count
    for group, (key, _) in zip(groups, keys, strict=True):
        names[group] = key if names[group] is None else min(names[group], key)
    return groups, names


def _letters(text: str) -> str:
    """The letters of a sentence without case and accents; of a sentence without letters, the sentence."""
    return re.sub(r"[\W\d_]+", "", unicodedata.normalize("NFKD", text).casefold()) or text
