"""Pairs of sentences as arrays: their texts, the numbers of their words, and what they are compared by."""

import hashlib
import pathlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

import lightkeras as lk
from tasks.translation.corpus.cleaning import CLEANING
from tasks.translation.corpus.reading import Faults, Part, bytes_before, find_faults, read_pairs, require_pairs

IN_MEMORY = 1 << 25  # bytes of the files that are encoded in memory
SPLITTERS: dict[str, Callable[[str], list[str]]] = {"word": lk.text.tokenize, "subword": str.split}
KEYS = np.dtype([("text", "<u8", 2), ("letters", ">u8", 2)])  # hashes of both sentences, and of their letters alone
SIDES = (0, 1)
ROWS = (*(f"{kind}-{side}" for side in SIDES for kind in ("texts", "words", "list")), "keys")


class Corpus(NamedTuple):
    """Pairs of sentences as they follow each other in the files.

    Args:
        texts: The sentences of both sides, in UTF-8.
        words: Their words, by number.
        lists: The words of each side, in the order of their numbers.
        keys: Hashes of each pair, `KEYS` (pairs,).
        emptied: Number of pairs of which cleaning left nothing; they are left out.
    """

    texts: tuple[lk.text.Rows, ...]
    words: tuple[lk.text.Rows, ...]
    lists: tuple[list[str], ...]
    keys: np.ndarray
    emptied: int

    @classmethod
    def of_rows(cls, rows: dict[str, lk.text.Rows], emptied: int) -> "Corpus":
        """Takes the rows by their names, `ROWS`."""
        texts, words = (tuple(rows[f"{kind}-{side}"] for side in SIDES) for kind in ("texts", "words"))
        lists = tuple(list(lk.text.every_text(rows[f"list-{side}"])) for side in SIDES)
        return cls(texts, words, lists, rows["keys"].values().view(KEYS), emptied)


class Encoder:
    """Encodes blocks of pairs.

    Args:
        cleaning, vocabulary: Arguments of `TranslationData`.
        rows: Where the rows go, by their names, `ROWS`.
        lists: The words of each side so far.
        emptied: Number of pairs so far of which cleaning left nothing.
    """

    def __init__(
        self, cleaning: str, vocabulary: str, rows: dict[str, Any], lists: Iterable = ((), ()), emptied: int = 0
    ):
        self._clean, self._split, self._rows, self.emptied = CLEANING[cleaning], SPLITTERS[vocabulary], rows, emptied
        self._words = [
            lk.text.WordRows(rows[f"words-{side}"], rows[f"list-{side}"], known)
            for side, known in zip(SIDES, lists, strict=True)
        ]

    def encode(self, pairs: list) -> None:
        """Appends pairs of sentences."""
        cleaned = [(self._clean(first), self._clean(second)) for first, second in pairs]
        whole = [pair for pair in cleaned if all(pair)]
        self.emptied += len(cleaned) - len(whole)
        keys = np.empty(len(whole), KEYS)
        for side in SIDES:
            sentences = [pair[side] for pair in whole]
            keys["text"][:, side] = _hashes(sentences, "<u8")
            keys["letters"][:, side] = _hashes(map(letters_of, sentences), ">u8")
            lk.text.append_texts(self._rows[f"texts-{side}"], sentences)
            self._words[side].append([self._split(sentence) for sentence in sentences])
        self._rows["keys"].append(keys.view(np.uint8), np.full(len(keys), KEYS.itemsize))


def _hashes(texts: Iterable[str], kind: str) -> np.ndarray:
    """The first eight bytes of each SHA-256; as big-endian numbers they have the order of the digests."""
    return np.frombuffer(b"".join(hashlib.sha256(text.encode()).digest()[:8] for text in texts), kind)


def letters_of(text: str) -> str:
    """The letters of a sentence without case and accents; of a sentence without letters, the sentence."""
    return re.sub(r"[\W\d_]+", "", unicodedata.normalize("NFKD", text).casefold()) or text


def encode_in_memory(blocks: Iterable[list], cleaning: str, vocabulary: str) -> Corpus:
    """Encodes blocks of pairs, each a pair of sentences, as they are."""
    rows = {name: lk.text.RowsInMemory() for name in ROWS}
    encoder = Encoder(cleaning, vocabulary, rows)
    for pairs in blocks:
        encoder.encode(pairs)
    return Corpus.of_rows({name: one.rows() for name, one in rows.items()}, encoder.emptied)


class PairCache(lk.text.RowsCache):
    """The corpus of large files, encoded once and kept on the disk.

    Args:
        parts: The files.
        cleaning, vocabulary: Arguments of `TranslationData`.
        skip_bad_lines: Whether to leave out bad lines.
        root: The folder of all caches; None for `texts` beside the downloaded data sets.
    """

    NAMES, FACTS = ROWS, ("done", "faults", "part", "position", "emptied")

    def __init__(
        self, parts: list[Part], cleaning: str, vocabulary: str, skip_bad_lines: bool = False,
        root: pathlib.Path | None = None,
    ):  # fmt: skip
        super().__init__([file for part in parts for file in part], root, f"pairs {cleaning} {vocabulary}")
        self._parts, self._skip_bad_lines = parts, skip_bad_lines
        self._encoding = (cleaning, vocabulary)

    def open_corpus(self) -> tuple[Corpus, list[Faults]]:
        """Returns the corpus, and the bad lines of each part; encodes the files first, unless that was done."""
        rows, facts = self.open()
        faults = [Faults(*one) for one in facts["faults"]]
        for part, one in zip(self._parts, faults, strict=True):
            require_pairs(part, one, self._skip_bad_lines)  # the index may be that of another call
        return Corpus.of_rows(rows, facts["emptied"]), faults

    def _begin(self) -> dict[str, Any]:
        faults = [find_faults(part, self._skip_bad_lines) for part in self._parts]  # before the long work
        return {"done": 0, "faults": faults, "part": 0, "position": None, "emptied": 0}

    def _append(self, rows: dict[str, lk.text.RowsFile], facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
        known = [list(lk.text.every_text(rows[f"list-{side}"].rows())) for side in SIDES]
        encoder = Encoder(*self._encoding, rows, known, facts["emptied"])
        for number, part in enumerate(self._parts[facts["part"] :], facts["part"]):
            before = sum(file.stat().st_size for some in self._parts[:number] for file in some)
            for pairs, position in read_pairs(part, facts["position"] if number == facts["part"] else None):
                encoder.encode(pairs)
                done = {"done": before + bytes_before(position), "part": number, "position": position}
                yield {**facts, **done, "emptied": encoder.emptied}
