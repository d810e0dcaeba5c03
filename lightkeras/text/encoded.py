"""A text as numbers, in memory or in a memory-mapped file, that is read by place."""

import copy
import os
import weakref
from collections.abc import Iterator, Sequence

import numpy as np

from lightkeras.text.characters import CharacterVocabulary
from lightkeras.utils.checks import ArgumentError

_BLOCK = 1 << 20  # characters of `blocks`


class EncodedText:
    """A text of any length as the ids of its characters; slices are views.

    A memory-mapped text is read by `pread`: pages that are read through the map would count as memory of this process,
    with up to 2 MB beside each.

    Args:
        codes: A code for each character, of any integer type (characters,): an array, or a `np.memmap` of a whole file.
        ids: The id of each code, int32 (codes,).
    """

    def __init__(self, codes: np.ndarray, ids: np.ndarray):
        self.codes, self._ids, self._first = codes, ids, 0
        self._file = Descriptor(str(codes.filename)) if isinstance(codes, np.memmap) else None

    @classmethod
    def from_text(cls, text: str, vocabulary: CharacterVocabulary) -> "EncodedText":
        """Encodes a text in memory."""
        ids = vocabulary.encode(text)
        small = ids.astype(np.uint8) if len(vocabulary) <= 256 else ids
        return cls(small, np.arange(len(vocabulary), dtype=np.int32))

    @property
    def in_memory(self) -> bool:
        """Whether the codes are the ids, in an array in memory."""
        return self._file is None

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, part: slice) -> "EncodedText":
        view = copy.copy(self)
        view.codes, view._first = self.codes[part], self._first + part.indices(len(self))[0]
        return view

    def blocks(self) -> Iterator[np.ndarray]:
        """Yields the ids from the first to the last: int32 (characters,), a million at a time."""
        for start in range(0, len(self), _BLOCK):
            yield self.windows(np.array([start]), min(_BLOCK, len(self) - start))[0]

    def windows(self, starts: np.ndarray, length: int) -> np.ndarray:
        """Returns the `length` ids from each of `starts` (rows,) on: int32 (rows, length)."""
        if self._file is None:
            return self._ids[self.codes[starts[:, None] + np.arange(length)]]
        codes = np.empty((len(starts), length), self.codes.dtype)
        for row, start in zip(codes, starts.tolist(), strict=True):
            self._file.read_into(row, (self._first + start) * codes.itemsize)
        return self._ids[codes]


class Descriptor:
    """A file that is open for `pread` until nothing refers to it."""

    def __init__(self, path: str | os.PathLike):
        self._path, self._number = path, os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._number)

    def read_into(self, target: np.ndarray, offset: int) -> None:
        """Fills an array with the bytes from `offset` on.

        Raises:
            ValueError: The file ends before; it was cut since it was opened.
        """
        size = os.preadv(self._number, [target.data], offset)
        if size != target.nbytes:
            raise ArgumentError(
                f"Expected {self._path} to have {target.nbytes} bytes from {offset} on, as when it was encoded. "
                f"Received: {size}"
            )


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
