"""A vocabulary of characters."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from lightkeras.text.ids import as_ids, require_range
from lightkeras.utils.checks import ArgumentError, require

_BLOCK = 1 << 16  # characters converted at a time: few enough for the processor's cache
_UTF32 = ("utf-32-le", "surrogatepass")  # lone surrogates are legal in a str, so they must survive


def _code_points(text: str) -> Iterator[np.ndarray]:
    """Yields the code points of `text` in blocks: uint32 arrays (block,)."""
    for start in range(0, len(text), _BLOCK):
        yield np.frombuffer(text[start : start + _BLOCK].encode(*_UTF32), dtype="<u4")


@dataclasses.dataclass(frozen=True, repr=False)
class CharacterVocabulary:
    """An immutable, ordered list of characters; a character's id is its place in the list.

    Vocabularies with equal tokens are equal. A checkpoint keeps `state_dict()`.

    Args:
        tokens: The distinct characters, in the order of their ids.

    Raises:
        ValueError: `tokens` is empty, or holds anything but single, distinct characters.
    """

    tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", tuple(self.tokens))
        require(len(self.tokens) > 0, "tokens", "at least one character", self.tokens)
        for token in self.tokens:
            single = isinstance(token, str) and len(token) == 1
            require(single, "tokens", "single characters", token)
        if len(set(self.tokens)) < len(self.tokens):
            twice = next(t for t in self.tokens if self.tokens.count(t) > 1)
            raise ArgumentError(f"Expected `tokens` to be distinct. Received: {twice!r} more than once")

    @classmethod
    def from_text(cls, text: str) -> "CharacterVocabulary":
        """Takes the distinct characters of `text`, sorted by code point.

        Raises:
            ValueError: `text` is empty.
        """
        require(len(text) > 0, "text", "at least one character", text)
        seen = np.zeros(0x110000, bool)  # one flag for each code point of Unicode
        for block in _code_points(text):
            seen[block] = True
        return cls(tuple(map(chr, np.flatnonzero(seen))))

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "CharacterVocabulary":
        """Restores the vocabulary from its `state_dict()`."""
        return cls(tuple(state["tokens"]))

    def state_dict(self) -> dict[str, list[str]]:
        """Returns the vocabulary as plain values that JSON can hold."""
        return {"tokens": list(self.tokens)}

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        return f"CharacterVocabulary({len(self)} tokens, fingerprint={self.fingerprint!r})"

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hex digits of the tokens' sha256: the same on every machine, different for other tokens or order."""
        return hashlib.sha256(json.dumps(self.tokens).encode("ascii")).hexdigest()[:16]

    @functools.cached_property
    def _points(self) -> np.ndarray:
        """The code point of each id: (tokens,) uint32."""
        return np.array([ord(token) for token in self.tokens], dtype="<u4")

    @functools.cached_property
    def _ids(self) -> np.ndarray:
        """The id of each code point up to the largest known one, -1 for unknown ones, then another -1: int32."""
        ids = np.full(int(self._points.max()) + 2, -1, np.int32)
        ids[self._points] = np.arange(len(self), dtype=np.int32)
        return ids

    def encode(self, text: str) -> np.ndarray:
        """Returns the ids of the characters of `text`: (characters,) int32.

        Raises:
            ValueError: `text` has characters that the vocabulary lacks. The message names up to ten of them and the
                position of the first.
        """
        ids = np.empty(len(text), np.int32)
        for i, block in enumerate(_code_points(text)):
            part = ids[i * _BLOCK : i * _BLOCK + len(block)]
            np.take(self._ids, block, mode="clip", out=part)  # beyond the table: its last entry, -1
            if part.min() < 0:
                self._raise_unknown(text, i * _BLOCK + int(np.argmax(part < 0)))
        return ids

    def _raise_unknown(self, text: str, first: int) -> None:
        unknown = sorted(set(text) - set(self.tokens))
        named = ", ".join(map(repr, unknown[:10])) + (", ..." if len(unknown) > 10 else "")
        raise ArgumentError(
            f"Expected `text` to hold only the {len(self)} characters of the vocabulary. Received: "
            f"{len(unknown)} unknown ({named}), the first {text[first]!r} at position {first}"
        )

    def decode(self, ids: Any) -> str:
        """Returns the text of `ids`, an integer array or list (characters,).

        Raises:
            ValueError: `ids` are not integers in one dimension, or an id is not in the vocabulary.
        """
        ids = as_ids(ids)
        return "".join(self._decode_block(ids[i : i + _BLOCK], i) for i in range(0, len(ids), _BLOCK))

    def _decode_block(self, ids: np.ndarray, position: int) -> str:
        require_range(ids, len(self), position)
        return self._points[ids].tobytes().decode(*_UTF32)
