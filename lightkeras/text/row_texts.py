"""Texts as rows: their bytes in UTF-8, or the numbers of their words."""

from collections.abc import Iterable, Iterator

import numpy as np

from lightkeras.text.rows import Rows, RowsFile, RowsInMemory, cut


def append_texts(rows: RowsFile | RowsInMemory, texts: Iterable[str]) -> None:
    """Appends texts as rows of bytes."""
    encoded = [text.encode() for text in texts]
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    rows.append(np.frombuffer(b"".join(encoded), np.uint8), lengths)


def read_texts(rows: Rows, numbers) -> list[str]:
    """Returns the texts of some rows (n,)."""
    values, lengths = rows.read(numbers)
    joined, ends = values.tobytes(), np.cumsum(lengths).tolist()
    return [joined[start:end].decode() for start, end in zip([0, *ends], ends, strict=False)]


def every_text(rows: Rows, numbers: np.ndarray | None = None) -> Iterator[str]:
    """Yields the texts of some rows (n,), or of all, one after the other."""
    for part in cut(np.arange(len(rows)) if numbers is None else numbers):
        yield from read_texts(rows, part)


class WordRows:
    """Appends sentences as the numbers of their words.

    Words have numbers in the order in which they appear: one pass is enough, whatever the vocabulary will be.

    Args:
        numbers: Where the numbers of each sentence go.
        words: Where each new word goes.
        known: The words so far.
    """

    def __init__(self, numbers: RowsFile | RowsInMemory, words: RowsFile | RowsInMemory, known: Iterable[str] = ()):
        self._rows, self._words = numbers, words
        self._numbers = {word: number for number, word in enumerate(known)}

    def append(self, sentences: list[list[str]]) -> None:
        """Appends sentences, each a list of words."""
        known, before = self._numbers, len(self._numbers)
        numbers = [known.setdefault(word, len(known)) for words in sentences for word in words]
        self._rows.append(np.array(numbers, np.int64), np.fromiter(map(len, sentences), np.int64, len(sentences)))
        newest = reversed(known)
        append_texts(self._words, [next(newest) for _ in range(len(known) - before)][::-1])


def count_numbers(rows: Rows, chosen: np.ndarray, size: int) -> np.ndarray:
    """Counts each of the numbers 0 to `size - 1` in the chosen rows, bool (rows,): int64 (size,)."""
    counts = np.zeros(size, np.int64)
    for part, values, lengths in rows.blocks():
        counts += np.bincount(values[np.repeat(chosen[part], lengths)], minlength=size)
    return counts
