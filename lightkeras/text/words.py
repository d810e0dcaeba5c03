"""A vocabulary of words."""

import collections
import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from lightkeras.text.ids import FIRST_WORD, SPECIAL_TOKENS, UNKNOWN, ids_before_end
from lightkeras.text.tokenize import detokenize, tokenize
from lightkeras.utils.checks import ArgumentError, require, require_int


@dataclasses.dataclass(frozen=True, repr=False)
class WordVocabulary:
    """An immutable, ordered list of words after four special ids: padding, unknown, start and end.

    The word at place i has the id `FIRST_WORD + i`. Any text that is not empty can be a word: `"<unk>"` in a corpus is
    an ordinary word. Vocabularies with equal words are equal. A checkpoint keeps `state_dict()`.

    Args:
        words: The distinct words, in the order of their ids.

    Raises:
        ValueError: `words` is empty, or holds anything but distinct texts of at least one character.
    """

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", tuple(self.words))
        require(len(self.words) > 0, "words", "at least one word", self.words)
        for word in self.words:
            require(isinstance(word, str) and word != "", "words", "texts of at least one character", word)
        if len(self._ids) < len(self.words):
            twice = next(word for i, word in enumerate(self.words) if self._ids[word] != i + FIRST_WORD)
            raise ArgumentError(f"Expected `words` to be distinct. Received: {twice!r} more than once")

    @classmethod
    def from_counts(
        cls, counts: Mapping[str, int], max_size: int | None = None, min_count: int = 1
    ) -> "WordVocabulary":
        """Takes the most frequent words, the most frequent first; words with equal counts are sorted by code point.

        Args:
            counts: Number of occurrences of each word.
            max_size: The largest `len()` of the vocabulary, the four special ids included; None for all words.
            min_count: The smallest number of occurrences of a word that is kept.

        Raises:
            ValueError: No word is left.
        """
        require_int("max_size", max_size, FIRST_WORD + 1, optional=True)
        require_int("min_count", min_count)
        kept = sorted((-count, word) for word, count in counts.items() if count >= min_count)
        most = max(counts.values(), default=0)
        require(len(kept) > 0, "min_count", f"at most {most}, the count of the most frequent word", min_count)
        return cls(tuple(word for _, word in kept[: None if max_size is None else max_size - FIRST_WORD]))

    @classmethod
    def from_tokens(
        cls, sentences: Iterable[Iterable[str]], max_size: int | None = None, min_count: int = 1
    ) -> "WordVocabulary":
        """Counts the words of `sentences`, each a list of words, and calls `from_counts`."""
        counts = collections.Counter()
        for sentence in sentences:
            counts.update(sentence)
        return cls.from_counts(counts, max_size, min_count)

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "WordVocabulary":
        """Restores the vocabulary from its `state_dict()`."""
        return cls(tuple(state["words"]))

    def state_dict(self) -> dict[str, list[str]]:
        """Returns the vocabulary as plain values that JSON can hold."""
        return {"words": list(self.words)}

    def __len__(self) -> int:
        """Number of ids, the four special ones included."""
        return FIRST_WORD + len(self.words)

    def __repr__(self) -> str:
        return f"WordVocabulary({len(self)} ids, fingerprint={self.fingerprint!r})"

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hex digits of the words' sha256: the same on every machine, different for other words or order."""
        return hashlib.sha256(json.dumps(self.words).encode("ascii")).hexdigest()[:16]

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words, FIRST_WORD)}

    def encode(self, tokens: Iterable[str]) -> np.ndarray:
        """Returns the ids of a list of words: int32 (words,), `UNKNOWN` for a word without an id; adds nothing.

        Raises:
            TypeError: `tokens` is one text, not a list of words.
        """
        require(not isinstance(tokens, str), "tokens", "a list of words", tokens, TypeError)
        ids = self._ids
        return np.array([ids.get(token, UNKNOWN) for token in tokens], np.int32)

    def decode(self, ids: Any) -> list[str]:
        """Returns the words of `ids`, an integer array or list (length,), before the first `END`.

        Padding and `START` are left out; an unknown word is `"<unk>"`.

        Raises:
            ValueError: `ids` are not integers in one dimension, or an id is not in the vocabulary.
        """
        return self.labels(ids_before_end(ids, len(self)))

    def labels(self, ids: Any) -> list[str]:
        """Returns a word for each of `ids`, special ones included (`"</s>"` is the end): the ticks of a plot."""
        return [SPECIAL_TOKENS[i] if i < FIRST_WORD else self.words[i - FIRST_WORD] for i in np.asarray(ids).tolist()]

    def encode_texts(self, texts: Iterable[str]) -> list[np.ndarray]:
        """Returns `encode(tokenize(text))` of every text."""
        return [self.encode(tokenize(text)) for text in texts]

    def decode_text(self, ids: Any) -> str:
        """Returns `detokenize(decode(ids))`."""
        return detokenize(self.decode(ids))
