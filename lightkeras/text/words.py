"""A vocabulary of words."""

import collections
import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from lightkeras.text.tokenize import detokenize, tokenize
from lightkeras.utils.checks import require, require_int


@dataclasses.dataclass(frozen=True, repr=False)
class WordVocabulary:
    """An immutable, ordered list of words, with four ids before them: padding, unknown, start and end.

    The word at place i has the id `FIRST_WORD + i`. A word is any text that is not empty: `"<unk>"` in a corpus is a
    word like another. Vocabularies are equal where their words are. `state_dict()` is what a checkpoint keeps.

    Args:
        words: the distinct words, in the order of their ids.

    Raises:
        ValueError: where `words` is empty, or holds anything but distinct texts of at least one character.
    """

    PAD = 0
    UNKNOWN = 1
    START = 2
    END = 3
    FIRST_WORD = 4
    UNKNOWN_WORD = "<unk>"

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", tuple(self.words))
        require(len(self.words) > 0, "words", "at least one word", self.words)
        for word in self.words:
            require(isinstance(word, str) and word != "", "words", "texts of at least one character", word)
        if len(self._ids) < len(self.words):
            twice = next(word for i, word in enumerate(self.words) if self._ids[word] != i + self.FIRST_WORD)
            raise ValueError(f"Expected `words` to be distinct. Received: {twice!r} more than once")

    @classmethod
    def from_counts(
        cls, counts: Mapping[str, int], max_size: int | None = None, min_count: int = 1
    ) -> "WordVocabulary":
        """The commonest words, the commonest first; words of one count are in the order of their code points.

        Args:
            counts: how often each word occurs.
            max_size: the largest `len()` of the vocabulary, its four special ids included; None for all words.
            min_count: how often a word must occur at least.

        Raises:
            ValueError: where no word is left.
        """
        require_int("max_size", max_size, cls.FIRST_WORD + 1, optional=True)
        require_int("min_count", min_count)
        kept = sorted((-count, word) for word, count in counts.items() if count >= min_count)
        most = max(counts.values(), default=0)
        require(len(kept) > 0, "min_count", f"at most {most}, how often the commonest word occurs", min_count)
        return cls(tuple(word for _, word in kept[: None if max_size is None else max_size - cls.FIRST_WORD]))

    @classmethod
    def from_tokens(
        cls, sentences: Iterable[Iterable[str]], max_size: int | None = None, min_count: int = 1
    ) -> "WordVocabulary":
        """`from_counts` of the words of `sentences`, each a list of words."""
        counts = collections.Counter()
        for sentence in sentences:
            counts.update(sentence)
        return cls.from_counts(counts, max_size, min_count)

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "WordVocabulary":
        """The vocabulary whose `state_dict()` was `state`."""
        return cls(tuple(state["words"]))

    def state_dict(self) -> dict[str, list[str]]:
        """The vocabulary as plain values that JSON can hold."""
        return {"words": list(self.words)}

    def __len__(self) -> int:
        """The number of ids, the four special ones included."""
        return self.FIRST_WORD + len(self.words)

    def __repr__(self) -> str:
        return f"WordVocabulary({len(self)} ids, fingerprint={self.fingerprint!r})"

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hex digits of the words' sha256: stable everywhere, another for other words or order."""
        return hashlib.sha256(json.dumps(self.words).encode("ascii")).hexdigest()[:16]

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words, self.FIRST_WORD)}

    def encode(self, tokens: Iterable[str]) -> np.ndarray:
        """The ids of words: (words,) int32, `UNKNOWN` for a word that the vocabulary has not; nothing is added.

        Raises:
            TypeError: where `tokens` is one text and not a list of words.
        """
        require(not isinstance(tokens, str), "tokens", "a list of words", tokens, TypeError)
        ids = self._ids
        return np.array([ids.get(token, self.UNKNOWN) for token in tokens], np.int32)

    def decode(self, ids: Any) -> list[str]:
        """The words of `ids`, an integer array or list (length,), before the first `END`.

        Padding and `START` are left out; an unknown word is `"<unk>"`.

        Raises:
            ValueError: where `ids` are not integers in one dimension, or an id is not in the vocabulary.
        """
        shown = _before_end(ids, len(self)).tolist()
        return [self.UNKNOWN_WORD if i == self.UNKNOWN else self.words[i - self.FIRST_WORD] for i in shown]

    def labels(self, ids: Any) -> list[str]:
        """A word for each of `ids`, the special ones included (`"</s>"` is the end): the ticks of a plot."""
        special = ("<pad>", self.UNKNOWN_WORD, "<s>", "</s>")
        return [special[i] if i < self.FIRST_WORD else self.words[i - self.FIRST_WORD] for i in np.asarray(ids)]

    def encode_texts(self, texts: Iterable[str]) -> list[np.ndarray]:
        """`encode(tokenize(text))` of every text."""
        return [self.encode(tokenize(text)) for text in texts]

    def decode_text(self, ids: Any) -> str:
        """`detokenize(decode(ids))`."""
        return detokenize(self.decode(ids))


def _before_end(ids: Any, size: int) -> np.ndarray:
    """The ids before the first `END` that are no padding and no `START`, found to be from 0 to `size - 1`."""
    ids = np.asarray(ids)
    integers = ids.size == 0 or np.issubdtype(ids.dtype, np.integer)
    require(ids.ndim == 1 and integers, "ids", "integers of shape (length,)", f"{ids.dtype} {ids.shape}")
    ends = np.flatnonzero(ids == WordVocabulary.END)
    ids = ids[: ends[0]] if len(ends) else ids
    bad = np.flatnonzero((ids < 0) | (ids >= size))
    if len(bad):
        where = f"{ids[bad[0]]} at position {bad[0]}"
        raise ValueError(f"Expected `ids` to be from 0 to {size - 1}. Received: {where}")
    return ids[(ids != WordVocabulary.PAD) & (ids != WordVocabulary.START)]
