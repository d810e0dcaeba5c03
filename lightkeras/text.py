"""Text in and out of models: reading files, cutting text into words, vocabularies of characters, words and subwords.

Nothing here imports TensorFlow. A text of a gigabyte is encoded by NumPy over its code points, block by
block, so the memory needed beyond the result stays small.
"""

import base64
import codecs
import collections
import dataclasses
import functools
import hashlib
import io
import json
import pathlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import sentencepiece

from lightkeras.checks import check, check_int

_BLOCK = 1 << 16  # characters converted at a time: few enough for the processor's cache
JOIN = "\uffed"  # the mark of `tokenize`: a halfwidth black square
_UTF32 = ("utf-32-le", "surrogatepass")  # lone surrogates are legal in a str, so they must survive


def read_text(path: str | pathlib.Path) -> str:
    r"""Reads a UTF-8 file as it is: `\r\n` stays `\r\n`; only a byte order mark at the start is dropped.

    Raises:
        ValueError: for a file that is not UTF-8 (naming line, column and byte offset of the first bad byte;
            the line and column count from 1, the offset from 0), and for an empty file.
        OSError: where the file cannot be read.
    """
    data = pathlib.Path(path).read_bytes()
    text_start = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0
    if len(data) == text_start:
        raise ValueError(f"Expected a text file that is not empty. Received: {path}, 0 characters")
    try:
        return str(memoryview(data)[text_start:], "utf-8")
    except UnicodeDecodeError as error:
        bad = text_start + error.start
        line_start = max(data.rfind(b"\n", 0, bad) + 1, text_start)
        line, column = data.count(b"\n", 0, bad) + 1, len(data[line_start:bad].decode()) + 1
        where = f"{path}, line {line}, column {column} (byte {bad}): 0x{data[bad]:02x}"
        raise ValueError(f"Expected UTF-8 text. Received: {where}") from error


def normalize_text(text: str) -> str:
    """`text` in Unicode's composed form (NFC) with one space between words and none around.

    Zero-width spaces and byte order marks go; a halfwidth black square, with which `tokenize` marks joints, becomes a
    black square, its compatible form.
    """
    text = unicodedata.normalize("NFC", text)
    return " ".join(text.replace("\u200b", "").replace("\ufeff", "").replace(JOIN, "\u25a0").split())


@functools.cache
def _signs() -> tuple[re.Pattern, re.Pattern]:
    """What `tokenize` cuts off (an apostrophe within a word and what follows it; all that is no letter and no digit),
    and a letter or digit.
    """
    marks = (chr(c) for c in range(0x10000) if unicodedata.category(chr(c)).startswith("M"))
    word = f"\\w\u200c\u200d{''.join(marks)}"  # letters are joined by combining marks and by two format characters
    return re.compile(f"(?<=[{word}])['\u2019][{word}]+|[^\\s{word}]"), re.compile(f"[{word}]")


def _marked(match: re.Match) -> str:
    """A sign between spaces, with `JOIN` on the sides where it touches what stood there."""
    text, start, end = match.string, match.start(), match.end()
    left = JOIN if start and text[start - 1] != " " else ""
    right = JOIN if _signs()[1].match(text, end) else ""  # of two signs that touch, the second has the mark
    return f" {left}{match.group()}{right} "


def tokenize(text: str) -> list[str]:
    """The words and signs of `normalize_text(text)`, case and all; `detokenize` gives that text back.

    A sign is a token of its own, with a mark (`JOIN`) on each side where no space stood, so that words need none: with
    the mark written as `_`, `"I'm here," he said.` is `"_ I _'m here _, _" he said _.`.
    """
    return _signs()[0].sub(_marked, normalize_text(text)).split()


def detokenize(tokens: Iterable[str]) -> str:
    """The text of `tokens`, whatever they are: one with a mark touches its neighbour."""
    text = " ".join(tokens)
    return text.replace(" " + JOIN, "").replace(JOIN + " ", "").replace(JOIN, "")


def _code_points(text: str) -> Iterator[np.ndarray]:
    """The code points of `text` in blocks: uint32 arrays (block,)."""
    for start in range(0, len(text), _BLOCK):
        yield np.frombuffer(text[start : start + _BLOCK].encode(*_UTF32), dtype="<u4")


@dataclasses.dataclass(frozen=True, repr=False)
class Vocabulary:
    """An immutable, ordered list of characters; a character's id is its place in the list.

    Vocabularies are equal where their tokens are. `state_dict()` is what a checkpoint keeps.

    Args:
        tokens: the distinct characters, in the order of their ids.

    Raises:
        ValueError: where `tokens` is empty, or holds anything but single, distinct characters.
    """

    tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", tuple(self.tokens))
        check(len(self.tokens) > 0, "tokens", "at least one character", self.tokens)
        for token in self.tokens:
            single = isinstance(token, str) and len(token) == 1
            check(single, "tokens", "single characters", token)
        if len(set(self.tokens)) < len(self.tokens):
            twice = next(t for t in self.tokens if self.tokens.count(t) > 1)
            raise ValueError(f"Expected `tokens` to be distinct. Received: {twice!r} more than once")

    @classmethod
    def from_text(cls, text: str) -> "Vocabulary":
        """The distinct characters of `text`, sorted by code point.

        Raises:
            ValueError: where `text` is empty.
        """
        check(len(text) > 0, "text", "at least one character", text)
        seen = np.zeros(0x110000, bool)  # one flag for each code point of Unicode
        for block in _code_points(text):
            seen[block] = True
        return cls(tuple(map(chr, np.flatnonzero(seen))))

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "Vocabulary":
        """The vocabulary whose `state_dict()` was `state`."""
        return cls(tuple(state["tokens"]))

    def state_dict(self) -> dict[str, list[str]]:
        """The vocabulary as plain values that JSON can hold."""
        return {"tokens": list(self.tokens)}

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} tokens, fingerprint={self.fingerprint!r})"

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hex digits of the tokens' sha256: stable everywhere, another for other tokens or order."""
        return hashlib.sha256(json.dumps(self.tokens).encode("ascii")).hexdigest()[:16]

    @functools.cached_property
    def _points(self) -> np.ndarray:
        """The code point of each id: (tokens,) uint32."""
        return np.array([ord(token) for token in self.tokens], dtype="<u4")

    @functools.cached_property
    def _ids(self) -> np.ndarray:
        """The id of each code point up to the largest known, -1 for the unknown, and a last -1."""
        ids = np.full(int(self._points.max()) + 2, -1, np.int32)
        ids[self._points] = np.arange(len(self), dtype=np.int32)
        return ids

    def encode(self, text: str) -> np.ndarray:
        """The ids of the characters of `text`: (characters,) int32.

        Raises:
            ValueError: where `text` has characters that the vocabulary has not, naming up to ten of them and
                the position of the first.
        """
        ids = np.empty(len(text), np.int32)
        for i, block in enumerate(_code_points(text)):
            part = ids[i * _BLOCK : i * _BLOCK + len(block)]
            np.take(self._ids, block, mode="clip", out=part)  # beyond the table: its last entry, -1
            if part.min() < 0:
                self._refuse_unknown(text, i * _BLOCK + int(np.argmax(part < 0)))
        return ids

    def _refuse_unknown(self, text: str, first: int) -> None:
        unknown = sorted(set(text) - set(self.tokens))
        named = ", ".join(map(repr, unknown[:10])) + (", ..." if len(unknown) > 10 else "")
        raise ValueError(
            f"Expected `text` to hold only the {len(self)} characters of the vocabulary. Received: "
            f"{len(unknown)} unknown ({named}), the first {text[first]!r} at position {first}"
        )

    def decode(self, ids: Any) -> str:
        """The text of `ids`, an integer array or list (characters,).

        Raises:
            ValueError: where `ids` are not integers in one dimension, or an id is not in the vocabulary.
        """
        ids = np.asarray(ids)
        integers = ids.size == 0 or np.issubdtype(ids.dtype, np.integer)
        check(ids.ndim == 1 and integers, "ids", "integers of shape (length,)", f"{ids.dtype} {ids.shape}")
        blocks = (ids[start : start + _BLOCK] for start in range(0, len(ids), _BLOCK))
        return "".join(self._decode_block(block, i * _BLOCK) for i, block in enumerate(blocks))

    def _decode_block(self, ids: np.ndarray, position: int) -> str:
        if ids.min() < 0 or ids.max() >= len(self):
            first = int(np.argmax((ids < 0) | (ids >= len(self))))
            raise ValueError(
                f"Expected `ids` to be from 0 to {len(self) - 1}. Received: {ids[first]} at position {position + first}"
            )
        return self._points[ids].tobytes().decode(*_UTF32)


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
        check(len(self.words) > 0, "words", "at least one word", self.words)
        for word in self.words:
            check(isinstance(word, str) and word != "", "words", "texts of at least one character", word)
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
        check_int("max_size", max_size, cls.FIRST_WORD + 1, optional=True)
        check_int("min_count", min_count)
        kept = sorted((-count, word) for word, count in counts.items() if count >= min_count)
        most = max(counts.values(), default=0)
        check(len(kept) > 0, "min_count", f"at most {most}, how often the commonest word occurs", min_count)
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
        check(not isinstance(tokens, str), "tokens", "a list of words", tokens, TypeError)
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


@dataclasses.dataclass(frozen=True, repr=False)
class SubwordVocabulary:
    """Pieces of words found by byte-pair encoding (Sennrich et al. 2016), with `WordVocabulary`'s four special ids.

    A frequent word is one piece, a rare one several, so that only characters never seen are unknown. Made by
    SentencePiece (Kudo and Richardson 2018).

    Args:
        model: SentencePiece's model file, as bytes.
    """

    PAD = WordVocabulary.PAD
    UNKNOWN = WordVocabulary.UNKNOWN
    START = WordVocabulary.START
    END = WordVocabulary.END

    model: bytes

    @classmethod
    def from_texts(cls, texts: Iterable[str], size: int = 8000) -> "SubwordVocabulary":
        """`size` ids, the four special ones included, from the words of `texts`; the same texts give the same.

        Raises:
            ValueError: where the texts have more characters, or fewer pieces, than `size`.
        """
        check_int("size", size, WordVocabulary.FIRST_WORD + 1)
        model = io.BytesIO()
        ids = {"pad_id": cls.PAD, "unk_id": cls.UNKNOWN, "bos_id": cls.START, "eos_id": cls.END}
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=map(normalize_text, texts), model_writer=model, vocab_size=size, model_type="bpe",
                character_coverage=1.0, normalization_rule_name="identity", max_sentence_length=1 << 30,
                unk_surface=f" {WordVocabulary.UNKNOWN_WORD} ", minloglevel=3, **ids,
            )  # fmt: skip
        except RuntimeError as error:
            raise ValueError(f"Expected texts with {size} pieces of words. Received: {error}") from error
        return cls(model.getvalue())

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "SubwordVocabulary":
        """The vocabulary whose `state_dict()` was `state`."""
        return cls(base64.b64decode(state["sentencepiece"]))

    def state_dict(self) -> dict[str, str]:
        """The vocabulary as plain values that JSON can hold."""
        return {"sentencepiece": base64.b64encode(self.model).decode("ascii")}

    def __len__(self) -> int:
        """The number of ids, the four special ones included."""
        return self._processor.get_piece_size()

    def __repr__(self) -> str:
        return f"SubwordVocabulary({len(self)} ids, fingerprint={self.fingerprint!r})"

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hex digits of the model's sha256."""
        return hashlib.sha256(self.model).hexdigest()[:16]

    @functools.cached_property
    def _processor(self):
        return sentencepiece.SentencePieceProcessor(model_proto=self.model)

    def labels(self, ids: Any) -> list[str]:
        """The piece of each of `ids`, the special ones included (`"</s>"` is the end): the ticks of a plot."""
        return [self._processor.id_to_piece(int(i)) for i in np.asarray(ids)]

    def encode_texts(self, texts: Iterable[str]) -> list[np.ndarray]:
        """The ids of every text: int32 (pieces,) each; nothing is added."""
        ids = self._processor.encode([normalize_text(text) for text in texts], out_type=int)
        return [np.array(of_text, np.int32) for of_text in ids]

    def decode_text(self, ids: Any) -> str:
        """The text of `ids`, an integer array or list (length,), before the first `END`; `"<unk>"` for the unknown.

        Raises:
            ValueError: where `ids` are not integers in one dimension, or an id is not in the vocabulary.
        """
        shown = _before_end(ids, len(self))
        return " ".join(self._processor.decode(shown.tolist()).split())


def _before_end(ids: Any, size: int) -> np.ndarray:
    """The ids before the first `END` that are no padding and no `START`, found to be from 0 to `size - 1`."""
    ids = np.asarray(ids)
    integers = ids.size == 0 or np.issubdtype(ids.dtype, np.integer)
    check(ids.ndim == 1 and integers, "ids", "integers of shape (length,)", f"{ids.dtype} {ids.shape}")
    ends = np.flatnonzero(ids == WordVocabulary.END)
    ids = ids[: ends[0]] if len(ends) else ids
    bad = np.flatnonzero((ids < 0) | (ids >= size))
    if len(bad):
        where = f"{ids[bad[0]]} at position {bad[0]}"
        raise ValueError(f"Expected `ids` to be from 0 to {size - 1}. Received: {where}")
    return ids[(ids != WordVocabulary.PAD) & (ids != WordVocabulary.START)]
