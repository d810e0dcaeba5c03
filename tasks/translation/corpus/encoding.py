"""Pairs of sentences as arrays: their texts, the numbers of their words, and what they are compared by.

Words have numbers in the order in which they appear: one pass is enough, whatever the splits and the vocabularies are.
"""

import hashlib
import os
import pathlib
import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO, NamedTuple

import numpy as np

import lightkeras as lk
from tasks.translation.corpus.cleaning import CLEANING
from tasks.translation.corpus.reading import Faults, Part, bytes_before, find_faults, read_pairs, require_pairs

IN_MEMORY = 1 << 25  # bytes of the files that are encoded in memory
SAVE_BLOCKS = 16  # between two states
SPLITTERS: dict[str, Callable[[str], list[str]]] = {"word": lk.text.tokenize, "subword": str.split}
ROWS = ("text_rows", "word_rows")  # in a state: of both sides
KEYS_FILE, STATE = "keys", "state.json"
KEYS = np.dtype([("text", "<u8", 2), ("letters", ">u8", 2)])  # hashes of both sentences, and of their letters alone
SIDES = (0, 1)


class Corpus(NamedTuple):
    """Pairs of sentences as they follow each other in the files.

    Args:
        texts: The sentences of both sides, in UTF-8.
        words: Their words, by number.
        lists: The words of each side, in the order of their numbers.
        keys: Hashes of each pair, `KEYS` (pairs,).
        emptied: Number of pairs of which cleaning left nothing; they are left out.
    """

    texts: tuple[lk.text.Rows, lk.text.Rows]
    words: tuple[lk.text.Rows, lk.text.Rows]
    lists: tuple[list[str], list[str]]
    keys: np.ndarray
    emptied: int


class Encoder:
    """Encodes blocks of pairs.

    Args:
        clean: Cleans a sentence.
        split: Splits a clean sentence into words.
        texts, words: Where the rows of both sides go.
        lists: The words of each side so far.
    """

    def __init__(self, clean: Callable, split: Callable, texts: Any, words: Any, lists: Iterable[list[str]] = ((), ())):
        self._clean, self._split, self._texts, self._words = clean, split, texts, words
        self.numbers = [{word: number for number, word in enumerate(known)} for known in lists]
        self.emptied = 0

    def encode(self, pairs: list) -> np.ndarray:
        """Appends pairs of sentences; returns their keys."""
        cleaned = [(self._clean(first), self._clean(second)) for first, second in pairs]
        whole = [pair for pair in cleaned if all(pair)]
        self.emptied += len(cleaned) - len(whole)
        keys = np.empty(len(whole), KEYS)
        for side in SIDES:
            sentences = [pair[side] for pair in whole]
            encoded = [sentence.encode() for sentence in sentences]
            keys["text"][:, side] = _hashes(encoded, "<u8")
            keys["letters"][:, side] = _hashes([letters_of(sentence).encode() for sentence in sentences], ">u8")
            lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
            self._texts[side].append(np.frombuffer(b"".join(encoded), np.uint8), lengths)
            self._append_words(side, [self._split(sentence) for sentence in sentences])
        return keys

    def _append_words(self, side: int, sentences: list[list[str]]) -> None:
        known = self.numbers[side]
        numbers = [known.setdefault(word, len(known)) for words in sentences for word in words]
        lengths = np.fromiter(map(len, sentences), np.int64, len(sentences))
        self._words[side].append(np.array(numbers, np.int64), lengths)


def _hashes(texts: list[bytes], kind: str) -> np.ndarray:
    """The first eight bytes of each SHA-256; as big-endian numbers they have the order of the digests."""
    return np.frombuffer(b"".join(hashlib.sha256(text).digest()[:8] for text in texts), kind)


def letters_of(text: str) -> str:
    """The letters of a sentence without case and accents; of a sentence without letters, the sentence."""
    return re.sub(r"[\W\d_]+", "", unicodedata.normalize("NFKD", text).casefold()) or text


# ---- in memory


def encode_in_memory(blocks: Iterable[list], cleaning: str, vocabulary: str) -> Corpus:
    """Encodes blocks of pairs, each a pair of sentences, as they are."""
    texts, words = ([lk.text.RowsInMemory() for _ in SIDES] for _ in range(2))
    encoder = Encoder(CLEANING[cleaning], SPLITTERS[vocabulary], texts, words)
    keys = np.concatenate([np.empty(0, KEYS), *map(encoder.encode, blocks)])
    rows = (tuple(side.rows() for side in sides) for sides in (texts, words))
    return Corpus(*rows, tuple(map(list, encoder.numbers)), keys, encoder.emptied)


# ---- in files


class PairCache(lk.text.FileCache):
    """The corpus of large files, encoded once and kept on the disk.

    Args:
        parts: The files.
        cleaning, vocabulary: Arguments of `TranslationData`.
        skip_bad_lines: Whether to leave out bad lines.
        root: The folder of all caches; None for `texts` beside the downloaded data sets.
    """

    def __init__(
        self, parts: list[Part], cleaning: str, vocabulary: str, skip_bad_lines: bool = False,
        root: pathlib.Path | None = None,
    ):  # fmt: skip
        super().__init__([file for part in parts for file in part], root, f"pairs {cleaning} {vocabulary}")
        self.parts, self._skip_bad_lines = parts, skip_bad_lines
        self.clean, self.split = CLEANING[cleaning], SPLITTERS[vocabulary]

    def open(self) -> tuple[Corpus, list[Faults]]:
        """Returns the corpus, and the bad lines of each part; encodes the files first, unless that was done."""
        index = self.encode()
        texts, words = ([lk.text.Rows.open(self.folder, *one) for one in _named(index, kind)] for kind in ROWS)
        lists = [self.read_list(side, index["list_bytes"][side]) for side in SIDES]
        keys = np.fromfile(self.folder / KEYS_FILE, KEYS)
        faults = [Faults(*one) for one in index["faults"]]
        for part, one in zip(self.parts, faults, strict=True):
            require_pairs(part, one, self._skip_bad_lines)  # the index may be that of another call
        return Corpus(tuple(texts), tuple(words), tuple(lists), keys, index["emptied"]), faults

    def read_list(self, side: int, size: int) -> list[str]:
        """Returns the words in the first `size` bytes of a side's list."""
        with self.list_path(side).open("rb") as file:
            return file.read(size).decode().split("\n")[:-1]

    def list_path(self, side: int) -> pathlib.Path:
        """Returns the path of the words of a side, a line each."""
        return self.folder / f"list-{side}.txt"

    def _outputs(self, index: dict[str, Any]) -> list[pathlib.Path]:
        rows = [path for kind in ROWS for one in _named(index, kind) for path in lk.text.row_paths(self.folder, *one)]
        return [*rows, *map(self.list_path, SIDES), self.folder / KEYS_FILE]

    def _is_usable(self, facts: dict[str, Any]) -> bool:
        lists = (*ROWS, "list_bytes", "faults")
        whole = all(isinstance(facts.get(name), list) for name in lists) and len(facts["list_bytes"]) == 2
        return (
            whole and isinstance(facts.get("pairs"), int) and isinstance(facts.get("emptied"), int)
            and all(len(one) == 3 for one in facts["faults"]) and len(facts["faults"]) == len(self.parts)
            and all(lk.text.are_saved(self.folder, *one) for kind in ROWS for one in _named(facts, kind))
            and all(_size(self.list_path(side)) >= facts["list_bytes"][side] for side in SIDES)
            and _size(self.folder / KEYS_FILE) >= facts["pairs"] * KEYS.itemsize
        )  # fmt: skip

    def _make(self) -> dict[str, Any]:
        saved, stamps = self._read_facts(STATE), self.stamps()
        if saved is None or saved["files"] != stamps:
            faults = [find_faults(part, self._skip_bad_lines) for part in self.parts]  # before the long work
            saved = {"files": stamps, "faults": faults, "part": 0, "position": None, "pairs": 0, "emptied": 0,
                     "list_bytes": [0, 0], **{kind: [None, None] for kind in ROWS}}  # fmt: skip
        return _Encoding(self, saved).run()


def _named(facts: dict[str, Any], kind: str) -> list[tuple[str, Any]]:
    return [(f"{kind}-{side}", facts[kind][side]) for side in SIDES]


def _size(path: pathlib.Path) -> int:
    return path.stat().st_size if path.exists() else -1


class _Encoding:
    """One encoding of files, from their start or from the saved state."""

    def __init__(self, cache: PairCache, state: dict[str, Any]):
        self._cache, self._state = cache, state

    def run(self) -> dict[str, Any]:
        """Encodes what is left; returns the index."""
        cache, state = self._cache, self._state
        self._open()
        try:
            with lk.text.show_progress("Encoding", cache.files, self._done()) as advance:
                while state["part"] < len(cache.parts):
                    self._encode_part(cache.parts[state["part"]], advance)
        finally:
            for one in (*self._texts, *self._words, *self._lists, self._keys):
                one.close()
        digests = lk.text.digest_files(cache.files)
        same = cache.stamps() == state["files"]
        lk.utils.require(same, "source", "files that stay as they are while they are read", "changed ones")
        kept = ("files", "faults", "pairs", "emptied", "list_bytes", *ROWS)
        return {**{name: state[name] for name in kept}, "digests": digests}

    def _open(self) -> None:
        """Opens all files behind what the state counts."""
        cache, state = self._cache, self._state
        self._texts, self._words = (
            [lk.text.RowsFile(cache.folder, *one) for one in _named(state, kind)] for kind in ROWS
        )
        self._lists = [_open_behind(cache.list_path(side), state["list_bytes"][side]) for side in SIDES]
        self._keys = _open_behind(cache.folder / KEYS_FILE, state["pairs"] * KEYS.itemsize)
        lists = [cache.read_list(side, state["list_bytes"][side]) for side in SIDES]
        self._encoder = Encoder(cache.clean, cache.split, self._texts, self._words, lists)
        self._encoder.emptied = state["emptied"]

    def _done(self) -> int:
        parts, position = self._cache.parts, self._state["position"]
        before = sum(file.stat().st_size for part in parts[: self._state["part"]] for file in part)
        return before + bytes_before(position)

    def _encode_part(self, part: Part, advance: Callable[[int], None]) -> None:
        state, before = self._state, bytes_before(self._state["position"])
        for number, (pairs, position) in enumerate(read_pairs(part, state["position"]), 1):
            known = list(map(len, self._encoder.numbers))
            self._keys.write(self._encoder.encode(pairs).tobytes())
            for file, numbers, count in zip(self._lists, self._encoder.numbers, known, strict=True):
                file.writelines(f"{word}\n".encode() for word in _last(numbers, len(numbers) - count))
            state["position"], behind = position, bytes_before(position)
            advance(behind - before)
            before = behind
            if number % SAVE_BLOCKS == 0:
                self._save()
        state.update(part=state["part"] + 1, position=None)
        self._save()

    def _save(self) -> None:
        for rows in (*self._texts, *self._words):
            rows.save()
        for file in (*self._lists, self._keys):
            file.flush()
            os.fsync(file.fileno())
        state, encoder = self._state, self._encoder
        state.update(pairs=self._keys.tell() // KEYS.itemsize, emptied=encoder.emptied)
        state["list_bytes"] = [file.tell() for file in self._lists]
        state.update(zip(ROWS, ([rows.state for rows in some] for some in (self._texts, self._words)), strict=True))
        lk.utils.write_json(self._cache.folder / STATE, state)


def _last(words: dict[str, int], count: int) -> list[str]:
    """The words that were added last, in their order."""
    newest = reversed(words)
    return [next(newest) for _ in range(count)][::-1]


def _open_behind(path: pathlib.Path, size: int) -> BinaryIO:
    """Opens a file to write behind its first `size` bytes, and cuts off the others."""
    file = path.open("r+b" if size else "w+b")
    file.truncate(size)
    file.seek(size)
    return file
