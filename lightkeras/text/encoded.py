"""A text as numbers, in memory or in a memory-mapped file, that is read by place."""

from collections.abc import Iterator, Sequence

import numpy as np

from lightkeras.text.characters import CharacterVocabulary
from lightkeras.utils.checks import ArgumentError
from lightkeras.utils.pages import PageRelease

_BLOCK = 1 << 20  # characters of `blocks`


class EncodedText:
    """A text of any length as the ids of its characters; slices are views.

    Args:
        codes: A code for each character, of any integer type (characters,): an array or a `np.memmap`, of which only
            the rows that are asked for are read.
        ids: The id of each code, int32 (codes,).
        pages: Gives pages of the map back that were read; None makes one.
    """

    def __init__(self, codes: np.ndarray, ids: np.ndarray, pages: PageRelease | None = None):
        self.codes, self._ids, self._pages = codes, ids, pages or PageRelease(codes)

    @classmethod
    def from_text(cls, text: str, vocabulary: CharacterVocabulary) -> "EncodedText":
        """Encodes a text in memory."""
        ids = vocabulary.encode(text)
        small = ids.astype(np.uint8) if len(vocabulary) <= 256 else ids
        return cls(small, np.arange(len(vocabulary), dtype=np.int32))

    @property
    def in_memory(self) -> bool:
        """Whether the codes are the ids, in an array in memory."""
        return not self._pages.is_map

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, part: slice) -> "EncodedText":
        return EncodedText(self.codes[part], self._ids, self._pages)

    def blocks(self) -> Iterator[np.ndarray]:
        """Yields the ids from the first to the last: int32 (characters,), a million at a time."""
        for start in range(0, len(self), _BLOCK):
            codes = np.asarray(self.codes[start : start + _BLOCK])
            self._pages.count(codes.nbytes)
            yield self._ids[codes]

    def windows(self, starts: np.ndarray, length: int) -> np.ndarray:
        """Returns the `length` ids from each of `starts` (rows,) on: int32 (rows, length)."""
        codes = np.asarray(self.codes[starts[:, None] + np.arange(length)])
        self._pages.count(codes.nbytes, reads=len(starts))
        return self._ids[codes]


def ids_of(characters: Sequence[str], vocabulary: CharacterVocabulary, source: str) -> np.ndarray:
    """Returns the id of each character: int32 (characters,).

    Raises:
        ValueError: The vocabulary lacks some; the message names up to ten.
    """
    unknown = sorted(set(characters) - set(vocabulary.tokens))
    if unknown:
        named = ", ".join(map(repr, unknown[:10])) + (", ..." if len(unknown) > 10 else "")
        raise ArgumentError(
            f"Expected {source} to hold only the {len(vocabulary)} characters of the vocabulary. Received: "
            f"{len(unknown)} unknown ({named})"
        )
    return vocabulary.encode("".join(characters))
