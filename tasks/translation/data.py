"""Pairs of sentences as ids, split so that no sentence is on two sides."""

import hashlib
import pathlib
import re
import unicodedata
import warnings

import numpy as np
import tensorflow as tf
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

import lightkeras as lk
from tasks.translation import grammar

SPA_ENG = lk.data.Download(
    url="https://storage.googleapis.com/download.tensorflow.org/data/spa-eng.zip",
    size=2_638_744,
    member="spa-eng/spa.txt",
    member_checksum="sha256:6ec60e212f812ee3430f7568ea6f33b6fb080e32193c5952e8da0ee8ba45574c",
    folder="spa_eng",
    name="spa.txt",
)
DIRECTIONS = ("second-to-first", "first-to-second")
VOCABULARIES = {"word": lk.text.WordVocabulary, "subword": lk.text.SubwordVocabulary}
SUBWORDS = 8000  # ids of a subword vocabulary, unless told otherwise
SPLITS = ("train", "validation", "test")

Pair = tuple[str, str]


class TranslationData(lk.DataModule):
    """Sentences and their translations: Tatoeba's Spanish and English, or your own.

    A batch holds `source`, int32 (batch, time), sentences that end with `END`; `target`, int32 (batch, time),
    sentences from `START` to `END` (`target[:, :-1]` is what a decoder reads, `target[:, 1:]` what it is to give);
    `index`, int32 (batch,), the pair's place in the corpus, for `references_at`; and `weight`, float32 (batch,). The
    ids 0 to 3 are padding, unknown, start and end, so `source != 0` tells a sentence from its padding. Sentences of a
    batch have similar lengths, and are padded to one of a few widths.

    Pairs that share a sentence on either side (but for case, accents, digits and punctuation) are a group, and so are
    groups that share one. A group is on one side of the split; which one depends on its sentences alone. Validation and
    test have each source sentence once: its target is the first of its translations, `references` are all of them. The
    vocabularies are made of the training sentences; a word without an id is `UNKNOWN`.

    Args:
        source: "download" (118,964 pairs of Spanish and English), a UTF-8 file of your own with a pair on each line
            (two sentences with a tab between them; a third column is ignored), "FIRST,SECOND" (two UTF-8 files with a
            sentence on each line, their lines in the same order), or "sample" (a small grammar, which comes with it).
        direction: "second-to-first" (the second column is translated into the first: Spanish into English) or
            "first-to-second".
        vocabulary: "word", words and signs with their case (`lk.text.tokenize`), or "subword", pieces of words
            (`lk.text.SubwordVocabulary`).
        vocabulary_size: Ids of each vocabulary at most, the four special ones included. None: of words all that
            `min_count` leaves, of subwords 8,000.
        min_count: How often a word must occur in training to get an id (words only).
        max_length: Words or subwords of a sentence at most, the end not counted. Longer pairs are left out of training;
            in validation and test, longer sentences are cut there, their references are not.
        cleaning: "none" (all but space and Unicode's composed form stays as it is, so that output is plain text), or
            "tutorial" (the TensorFlow tutorial's, `clean_as_tutorial`: lower case, no accents, only a-z and .?!,¿).
        batch_size: Pairs of one update (the global batch).
        batch_tokens: Tokens of one update at most, padding included, of a pair's longer side. Batches of short pairs
            then have more of them: a multiple of `batch_size`, and that at least. None: all have `batch_size`.
        val_fraction: Share of the source sentences for validation.
        test_fraction: Share of the source sentences for a test.
        skip_bad_lines: Leave out lines that are no pair or not UTF-8, with a warning that counts them.

    Raises:
        ValueError: A file that is not UTF-8, has lines that are no pairs (they are named and counted), or differs from
            its partner in the number of lines; too few groups for three splits; no pair within `max_length`.
        DownloadError: The official file is neither here nor to be had.
    """

    def __init__(
        self,
        source: str = "download",
        direction: str = "second-to-first",
        vocabulary: str = "word",
        vocabulary_size: int | None = None,
        min_count: int = 2,
        max_length: int = 50,
        cleaning: str = "none",
        batch_size: int = 64,
        batch_tokens: int | None = None,
        val_fraction: float = 0.02,
        test_fraction: float = 0.02,
        skip_bad_lines: bool = False,
    ):
        lk.utils.require_choice("direction", direction, DIRECTIONS)
        lk.utils.require_choice("vocabulary", vocabulary, VOCABULARIES)
        lk.utils.require_choice("cleaning", cleaning, CLEANING)
        lk.utils.require_int("vocabulary_size", vocabulary_size, minimum=5, optional=True)
        lk.utils.require_int("batch_tokens", batch_tokens, optional=True)
        for name, value in (("min_count", min_count), ("max_length", max_length), ("batch_size", batch_size)):
            lk.utils.require_int(name, value)
        lk.utils.require_number("val_fraction", val_fraction, below=1.0)
        lk.utils.require_number("test_fraction", test_fraction, below=1.0)
        lk.utils.require(val_fraction + test_fraction < 1, "val_fraction", "below 1 with test_fraction", val_fraction)
        self.source, self.direction, self.skip_bad_lines = source, direction, skip_bad_lines
        self.vocabulary, self.vocabulary_size, self.min_count = vocabulary, vocabulary_size, min_count
        self.max_length, self.cleaning = max_length, cleaning
        self.batch_size, self.batch_tokens = batch_size, batch_tokens
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.source_vocabulary: lk.text.WordVocabulary | lk.text.SubwordVocabulary | None = None
        self.target_vocabulary: lk.text.WordVocabulary | lk.text.SubwordVocabulary | None = None
        self.pairs: list[Pair] | None = None

    def prepare_data(self) -> None:
        """Downloads the pairs, if they are the official ones."""
        if self.source == "download":
            lk.data.find_data(self.source, SPA_ENG)

    def setup(self, stage: str) -> None:
        """Reads the pairs, makes the splits and, unless they were loaded, the vocabularies."""
        if self.pairs is None:
            self.pairs = self._read()
            sides = split_pairs(self.pairs, self.val_fraction, self.test_fraction)
            self._places = {name: np.flatnonzero(sides == i) for i, name in enumerate(SPLITS)}
            self._references = self._of_sources()
            if self.source_vocabulary is None:
                self._make_vocabularies()
            self._arrays = {name: self._encoded(name) for name in SPLITS}

    def _read(self) -> list[Pair]:
        """The distinct pairs (source, target), cleaned, in the order of the file."""
        pairs = grammar.pairs() if self.source == "sample" else self._read_files()
        order = slice(None) if self.direction == "first-to-second" else slice(None, None, -1)
        cleaned = [tuple(map(self.clean, pair[order])) for pair in pairs]
        whole = [pair for pair in cleaned if all(pair)]
        if len(whole) < len(cleaned):
            left_out = f"{len(cleaned) - len(whole)} of {len(cleaned)} pairs"
            warnings.warn(f"Left out {left_out}, of which cleaning={self.cleaning!r} leaves nothing", stacklevel=3)
        return list(dict.fromkeys(whole))

    def _read_files(self) -> list[Pair]:
        names = self.source.split(",")
        if len(names) == 2 and not pathlib.Path(self.source).expanduser().exists():
            return read_aligned([lk.data.find_data(name, SPA_ENG) for name in names], self.skip_bad_lines)
        return read_pairs(lk.data.find_data(self.source, SPA_ENG), self.skip_bad_lines)

    def clean(self, text: str) -> str:
        """`text` as the vocabularies know it: see `cleaning`."""
        return CLEANING[self.cleaning](text)

    def _of_sources(self) -> dict[str, list[int]]:
        """The places of the pairs of each source sentence."""
        places = {}
        for place, (source, _) in enumerate(self.pairs):
            places.setdefault(source, []).append(place)
        return places

    def _make_vocabularies(self) -> None:
        train = [self.pairs[place] for place in self._places["train"]]
        self.source_vocabulary, self.target_vocabulary = map(self._vocabulary_of, zip(*train, strict=True))

    def _vocabulary_of(self, texts) -> lk.text.WordVocabulary | lk.text.SubwordVocabulary:
        if self.vocabulary == "subword":
            return lk.text.SubwordVocabulary.from_texts(texts, self.vocabulary_size or SUBWORDS)
        return lk.text.WordVocabulary.from_tokens(map(lk.text.tokenize, texts), self.vocabulary_size, self.min_count)

    def _encoded(self, split: str) -> dict[str, np.ndarray | tf.RaggedTensor]:
        """The arrays of a split's batches."""
        places = self._places[split]
        if split != "train":
            places = np.array([place for place in places if self._references[self.pairs[place][0]][0] == place])
        sources, targets = zip(*(self.pairs[place] for place in places), strict=True)
        sources, targets = self.source_vocabulary.encode_texts(sources), self.target_vocabulary.encode_texts(targets)
        if split == "train":
            longest = np.array([max(len(s), len(t)) for s, t in zip(sources, targets, strict=True)])
            kept = np.flatnonzero(longest <= self.max_length)
            expected = f"{longest.min()} or more, the length of the shortest training pair"
            lk.utils.require(len(kept) > 0, "max_length", expected, self.max_length)
            places, sources, targets = places[kept], [sources[i] for i in kept], [targets[i] for i in kept]
        source = _ragged([], sources, self.max_length)
        target = _ragged([lk.text.WordVocabulary.START], targets, self.max_length)
        return {"source": source, "target": target, "index": places.astype(np.int32)}

    def train_dataset(self) -> lk.AddressedDataset:
        """The training pairs, shuffled."""
        return self._batches("train", shuffle=True)

    def val_dataset(self) -> lk.AddressedDataset:
        """The validation sentences, each source once."""
        return self._batches("validation", shuffle=False)

    def test_dataset(self) -> lk.AddressedDataset:
        """The test sentences, each source once."""
        return self._batches("test", shuffle=False)

    def _batches(self, split: str, shuffle: bool) -> lk.AddressedDataset:
        arrays = self._arrays[split]
        return lk.AddressedDataset.from_arrays(arrays, self.batch_size, shuffle, batch_tokens=self.batch_tokens)

    def sources(self, split: str) -> list[str]:
        """The source sentences of "train", "validation" or "test", in the order of its data set: plain text."""
        lk.utils.require_choice("split", split, SPLITS)
        return [self.pairs[place][0] for place in self._arrays[split]["index"]]

    def references(self, split: str) -> list[list[str]]:
        """All translations of each of `sources(split)`, the first one that of its data set's target."""
        lk.utils.require_choice("split", split, SPLITS)
        return self.references_at(self._arrays[split]["index"])

    def references_at(self, index) -> list[list[str]]:
        """All translations of the sources of a batch's `index` (batch,): plain text."""
        places = (self._references[self.pairs[i][0]] for i in np.asarray(index).tolist())
        return [[self.pairs[place][1] for place in of_source] for of_source in places]

    def encode(self, text: str) -> np.ndarray:
        """A sentence to translate as ids with `END`: (length,) int32. Of an empty one there is `END` alone."""
        return np.append(self.source_vocabulary.encode_texts([self.clean(text)])[0], [lk.text.WordVocabulary.END])

    def decode(self, ids) -> str:
        """The text of a translation: ids (length,) up to the first `END`."""
        return self.target_vocabulary.decode_text(ids)

    def state_dict(self) -> dict:
        """Both vocabularies."""
        return {"source": self.source_vocabulary.state_dict(), "target": self.target_vocabulary.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Takes the vocabularies of a trained run."""
        kind = VOCABULARIES[self.vocabulary]
        self.source_vocabulary, self.target_vocabulary = (kind.from_state_dict(state[s]) for s in ("source", "target"))


def _ragged(before: list[int], sentences: list[np.ndarray], longest: int) -> tf.RaggedTensor:
    """Sentences of at most `longest` ids between `before` and `END`: int32 (sentences, None)."""
    before, end = np.array(before, np.int32), np.array([lk.text.WordVocabulary.END], np.int32)
    flat = np.concatenate([part for ids in sentences for part in (before, ids[:longest], end)])
    lengths = np.minimum([len(ids) for ids in sentences], longest) + len(before) + 1
    return tf.RaggedTensor.from_row_lengths(flat, lengths, validate=False)


# ---- cleaning


def clean_as_tutorial(text: str) -> str:
    """What the TensorFlow tutorial "Neural machine translation with attention" leaves of a text.

    Compatible decomposition (NFKD), lower case, and of that only a to z, space and .?!,¿: no accents, digits,
    apostrophes or quotation marks. (The tutorial puts spaces around signs; here `lk.text.tokenize` cuts them off.)
    """
    return lk.text.normalize_text(re.sub("[^ a-z.?!,¿]", "", unicodedata.normalize("NFKD", text).lower()))


CLEANING = {"none": lk.text.normalize_text, "tutorial": clean_as_tutorial}

# ---- splits


def split_pairs(pairs: list[Pair], val_fraction: float, test_fraction: float) -> np.ndarray:
    """The side of every pair: 0 train, 1 validation, 2 test, int (pairs,).

    Pairs that share a source or a target, but for case, accents, digits and punctuation, are on the same side. Groups
    are taken in the order of the hash of a sentence of theirs, those that fit into what is left to take.

    Args:
        pairs: Distinct pairs (source, target).
        val_fraction: Share of the distinct sources for validation.
        test_fraction: Share of the distinct sources for a test.

    Raises:
        ValueError: A split would have no pair.
    """
    groups, names = _groups(pairs)
    first = {source: place for place, (source, _) in reversed(list(enumerate(pairs)))}
    sizes = np.bincount(groups[list(first.values())], minlength=len(names))  # distinct sources of each group
    order = sorted(range(len(names)), key=lambda group: hashlib.sha256(names[group].encode()).digest())
    side = np.zeros(len(names), np.int8)
    for number, fraction in ((2, test_fraction), (1, val_fraction)):
        free = [group for group in order if side[group] == 0]
        room = max(round(fraction * len(first)), 1, min(sizes[free], default=0))
        for group in free:
            if sizes[group] <= room:
                side[group], room = number, room - sizes[group]
    counts = np.bincount(side, minlength=3)
    lk.utils.require(
        counts.min() > 0, "source", "3 groups of pairs or more that share no sentence, for training, validation, test",
        f"{len(pairs)} pairs in {len(names)} groups",
    )  # fmt: skip
    return side[groups]


def _groups(pairs: list[Pair]) -> tuple[np.ndarray, list[str]]:
    """(Group of every pair (pairs,), and of each group the first sentence by alphabet, which names it)."""
    numbers, ends = {}, []
    keys = [(_letters(source), _letters(target)) for source, target in pairs]
    for side in (0, 1):
        ends.append([numbers.setdefault((side, key[side]), len(numbers)) for key in keys])
    graph = coo_array((np.ones(len(pairs), np.int8), ends), shape=(len(numbers), len(numbers)))
    count, group_of = connected_components(graph, directed=False)
    groups, names = group_of[ends[0]], [None] * count
    for group, (key, _) in zip(groups, keys, strict=True):
        names[group] = key if names[group] is None else min(names[group], key)
    return groups, names


def _letters(text: str) -> str:
    """The letters of a sentence, without case and accents; the sentence itself, if it has none."""
    return re.sub(r"[\W\d_]+", "", unicodedata.normalize("NFKD", text).casefold()) or text


# ---- reading

_UNDECODED = re.compile("[\udc80-\udcff]")


def read_pairs(path: pathlib.Path, skip_bad_lines: bool = False) -> list[Pair]:
    """The first two columns of a UTF-8 file with two or three, a tab between them.

    Raises:
        ValueError: Bytes that are not UTF-8 or lines that are no pairs, unless these are skipped; no pair at all.
    """
    rows = [line.split("\t") for line in _lines(path, skip_bad_lines)]
    return _checked(rows, 3 if len(rows[0]) == 3 else 2, str(path), skip_bad_lines)


def read_aligned(paths: list[pathlib.Path], skip_bad_lines: bool = False) -> list[Pair]:
    """The lines of two UTF-8 files as pairs.

    Raises:
        ValueError: As `read_pairs`, and for files of different numbers of lines.
    """
    columns = [_lines(path, skip_bad_lines) for path in paths]
    lengths = [len(column) for column in columns]
    if lengths[0] != lengths[1]:
        counted = ", ".join(f"{path} with {length:,}" for path, length in zip(paths, lengths, strict=True))
        raise ValueError(f"Expected aligned files to have as many lines as each other. Received: {counted}")
    rows = [list(row) for row in zip(*columns, strict=True)]
    return _checked(rows, 2, ",".join(map(str, paths)), skip_bad_lines)


def _lines(path: pathlib.Path, lenient: bool) -> list[str]:
    r"""The lines of a file, which end with `\n` or `\r\n`; `lenient`: bytes that are not UTF-8 are lone surrogates."""
    if path.is_dir():
        raise ValueError(f"Expected a file of pairs. Received: {path}, a folder")
    if lenient:
        text = path.read_bytes().decode(errors="surrogateescape").removeprefix("\ufeff")
    else:
        text = lk.text.read_text(path)
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def _checked(rows: list[list[str]], columns: int, path: str, skip_bad_lines: bool) -> list[Pair]:
    problems = [_problem(row, columns) for row in rows]
    bad = [f"line {number} ({problem})" for number, problem in enumerate(problems, 1) if problem]
    good = [(row[0], row[1]) for row, problem in zip(rows, problems, strict=True) if not problem]
    named = ", ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
    if bad and (not skip_bad_lines or not good):
        raise ValueError(
            f"Expected every line of {path} to be a pair of sentences, or skip_bad_lines=True to leave the others out. "
            f"Received: {len(bad):,} of {len(rows):,} that are not: {named}"
        )
    if bad:
        warnings.warn(f"Skipped {len(bad):,} of {len(rows):,} lines of {path}: {named}", stacklevel=5)
    return good


def _problem(row: list[str], columns: int) -> str | None:
    """What is wrong with a line, or None."""
    if any(map(_UNDECODED.search, row)):
        return "not UTF-8"
    if len(row) != columns:
        return f"{len(row) - 1} tabs, not {columns - 1}"
    empty = [str(number) for number, cell in enumerate(row[:2], 1) if not cell.strip()]
    return f"column {' and '.join(empty)} empty" if empty else None
