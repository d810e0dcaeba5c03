"""The distinct pairs of a corpus, by index."""

import functools
from collections.abc import Iterator, Sequence

import numpy as np

import lightkeras as lk
from tasks.translation.corpus.encoding import Corpus


class Pairs(Sequence):
    """Distinct pairs (source, target), in the order of their first appearance: `pairs[place]` reads one.

    Args:
        corpus: The corpus.
        source: The side of the sources: 0, the first, or 1.
    """

    def __init__(self, corpus: Corpus, source: int = 0):
        self.corpus, self.sides = corpus, (source, 1 - source)
        self.rows = _first_appearances(corpus.keys)
        self.keys = corpus.keys[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> tuple[str, str]:
        return tuple(self.texts(number, [range(len(self))[place]])[0] for number in (0, 1))

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return zip(*(self.every_text(number, np.arange(len(self))) for number in (0, 1)), strict=True)

    def texts(self, number: int, places) -> list[str]:
        """Returns the sources (`number` 0) or targets (1) of some places (n,)."""
        return lk.text.read_texts(self.corpus.texts[self.sides[number]], self.rows[np.asarray(places, np.int64)])

    def every_text(self, number: int, places: np.ndarray) -> Iterator[str]:
        """Returns the sources or targets of some places (n,), one after the other."""
        return lk.text.every_text(self.corpus.texts[self.sides[number]], self.rows[places])

    def hashes(self, number: int, kind: str = "text") -> np.ndarray:
        """Returns a hash of each source or target, or of its letters: uint64 (pairs,)."""
        return self.keys[kind][:, self.sides[number]]

    def count_words(self, number: int, places: np.ndarray) -> dict[str, int]:
        """Counts the words of the sources or targets of some places (n,)."""
        side = self.sides[number]
        words, chosen = self.corpus.lists[side], np.zeros(len(self.corpus.keys), bool)
        chosen[self.rows[places]] = True
        counts = lk.text.count_numbers(self.corpus.words[side], chosen, len(words))
        return {words[number]: int(counts[number]) for number in np.flatnonzero(counts).tolist()}

    @functools.cached_property
    def _by_source(self) -> tuple[np.ndarray, np.ndarray]:
        """The places in the order of their sources' hashes, equal ones in their own order; and these hashes."""
        order = np.argsort(self.hashes(0), kind="stable").astype(np.int32)
        return order, self.hashes(0)[order]

    def with_same_source(self, place: int) -> np.ndarray:
        """Returns the places of all pairs with the source of one."""
        order, hashes = self._by_source
        wanted = self.hashes(0)[place]
        return order[np.searchsorted(hashes, wanted) : np.searchsorted(hashes, wanted, "right")]

    @functools.cached_property
    def is_first(self) -> np.ndarray:
        """Whether each pair is the first one with its source: bool (pairs,)."""
        order, hashes = self._by_source
        first = np.zeros(len(self), bool)
        first[order[np.append(True, hashes[1:] != hashes[:-1])[: len(self)]]] = True
        return first


def _first_appearances(keys: np.ndarray) -> np.ndarray:
    """The rows of the first pair of each two texts: int64, increasing."""
    first, second = keys["text"].T
    order = np.lexsort((second, first))  # stable: equal pairs stay in their order
    new = np.append(True, (np.diff(first[order]) != 0) | (np.diff(second[order]) != 0))
    return np.sort(order[new[: len(order)]])
