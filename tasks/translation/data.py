"""Pairs of sentences as ids, split so that no sentence is on two sides."""

import functools
import warnings

import numpy as np
import tensorflow as tf

import lightkeras as lk
from tasks.translation import grammar
from tasks.translation.corpus import CLEANING, read_aligned, read_pairs, split_pairs

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
SUBWORDS = 8000  # ids of a subword vocabulary by default
SPLITS = ("train", "validation", "test")

Vocabulary = lk.text.WordVocabulary | lk.text.SubwordVocabulary


class TranslationData(lk.DataModule):
    """Sentences and their translations: Tatoeba's Spanish and English, or your own.

    A batch holds

    - `source`, int32 (batch, time): sentences that end with `END`, padded with `PAD` (0);
    - `target`, int32 (batch, time): sentences from `START` to `END`; a decoder reads `target[:, :-1]` and predicts
      `target[:, 1:]`;
    - `index`, int32 (batch,): the pair's place in the corpus, for `references_at`;
    - `weight`, float32 (batch,): 0 for a row of padding.

    Sentences of a batch have similar lengths, and are padded to one of a few widths.

    Pairs that share a sentence on either side (except for case, accents, digits and punctuation) form a group, and
    groups that share one are merged. A whole group is on one side of the split, which depends on its sentences alone.
    Validation and test have each source sentence once, with the first of its translations as the target; `references`
    gives all of them. The vocabularies are made from the training sentences; a word without an id is `UNKNOWN`.

    Args:
        source: "download" (118,964 pairs of Spanish and English); a UTF-8 file of your own with a pair on each line
            (two sentences separated by a tab; a third column is ignored); "FIRST,SECOND" (two UTF-8 files with a
            sentence on each line, in the same order); or "sample" (the small grammar in `tasks.translation.grammar`).
        direction: "second-to-first" (translate the second column into the first: Spanish into English) or
            "first-to-second".
        vocabulary: "word", words and signs with their case (`lk.text.tokenize`), or "subword", pieces of words
            (`lk.text.SubwordVocabulary`).
        vocabulary_size: The most ids of each vocabulary, the four special ones included. None: all words that
            `min_count` leaves, or 8,000 subwords.
        min_count: The smallest number of occurrences in training of a word with an id (words only).
        max_length: The most words or subwords of a sentence, its end not counted. Training leaves longer pairs out;
            validation and test cut longer sentences, but not their references.
        cleaning: "none" (changes only spaces and Unicode's form, so that the output is plain text), or "tutorial" (the
            TensorFlow tutorial's `clean_as_tutorial`: lower case, no accents, only a-z and .?!,¿).
        batch_size: Pairs of one update (the global batch).
        batch_tokens: The most tokens of one update, padding included, of the longer side of each pair. Batches of short
            pairs then hold more pairs: a multiple of `batch_size`. None: all batches have `batch_size` pairs.
        val_fraction: Share of the source sentences for validation.
        test_fraction: Share of the source sentences for the test.
        skip_bad_lines: Whether to leave out lines that are no pair or not UTF-8, with a warning that counts them.

    Raises:
        ValueError: A file is not UTF-8, has lines that are no pairs (the message names and counts them), or has another
            number of lines than its partner; too few groups for three splits; no pair within `max_length`.
        DownloadError: The official file is neither present nor available.
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
        self.source_vocabulary: Vocabulary | None = None
        self.target_vocabulary: Vocabulary | None = None
        self.pairs: list[tuple[str, str]] | None = None

    def prepare_data(self) -> None:
        """Downloads the official pairs, if they are the source."""
        if self.source == "download":
            lk.data.find_data(self.source, SPA_ENG)

    def setup(self, stage: str) -> None:
        """Reads the pairs, splits them and, unless they were loaded, makes the vocabularies."""
        if self.pairs is None:
            self.pairs = self._read()
            sides = split_pairs(self.pairs, self.val_fraction, self.test_fraction, self.source)
            self._places = {name: np.flatnonzero(sides == i) for i, name in enumerate(SPLITS)}
            self._references = self._places_by_source()
            if self.source_vocabulary is None:
                self._make_vocabularies()
            self._arrays = {name: self._encoded(name) for name in SPLITS}

    def _read(self) -> list[tuple[str, str]]:
        """Reads the distinct pairs (source, target), cleaned, in the order of the file."""
        pairs = grammar.pairs() if self.source == "sample" else self._read_files()
        order = slice(None) if self.direction == "first-to-second" else slice(None, None, -1)
        cleaned = [tuple(map(self.clean, pair[order])) for pair in pairs]
        whole = [pair for pair in cleaned if all(pair)]
        if len(whole) < len(cleaned):
            left_out = f"{len(cleaned) - len(whole)} of {len(cleaned)} pairs"
            warnings.warn(f"Left out {left_out}, of which cleaning={self.cleaning!r} leaves nothing", stacklevel=3)
        return list(dict.fromkeys(whole))

    def _read_files(self) -> list[tuple[str, str]]:
        names = self.source.split(",")
        if len(names) == 2 and not lk.utils.local_path(self.source).exists():
            return read_aligned([lk.data.find_data(name, SPA_ENG) for name in names], self.skip_bad_lines)
        return read_pairs(lk.data.find_data(self.source, SPA_ENG), self.skip_bad_lines)

    def clean(self, text: str) -> str:
        """Cleans `text` for the vocabularies; see `cleaning`."""
        return CLEANING[self.cleaning](text)

    def _places_by_source(self) -> dict[str, list[int]]:
        """The places of the pairs of each source sentence."""
        places = {}
        for place, (source, _) in enumerate(self.pairs):
            places.setdefault(source, []).append(place)
        return places

    def _make_vocabularies(self) -> None:
        train = [self.pairs[place] for place in self._places["train"]]
        self.source_vocabulary, self.target_vocabulary = map(self._make_vocabulary, zip(*train, strict=True))

    def _make_vocabulary(self, texts) -> Vocabulary:
        if self.vocabulary == "word" and lk.metrics.lacks_spaces(texts):
            warnings.warn(
                f'No spaces stand between the words of sentences such as {texts[0]!r}: with vocabulary="word", hardly '
                'any of them has an id. Use vocabulary="subword", or separate the words by spaces.',
                stacklevel=5,
            )
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
        target = _ragged([lk.text.START], targets, self.max_length)
        return {"source": source, "target": target, "index": places.astype(np.int32)}

    @functools.cached_property
    def bleu(self) -> type[lk.metrics.BLEU]:
        """The BLEU for the target language."""
        return lk.metrics.bleu_for(target for _, target in self.pairs)

    def train_dataset(self) -> lk.AddressedDataset:
        """Returns the training pairs, shuffled."""
        return self._batches("train", shuffle=True)

    def val_dataset(self) -> lk.AddressedDataset:
        """Returns the validation sentences, each source once."""
        return self._batches("validation", shuffle=False)

    def test_dataset(self) -> lk.AddressedDataset:
        """Returns the test sentences, each source once."""
        return self._batches("test", shuffle=False)

    def _batches(self, split: str, shuffle: bool) -> lk.AddressedDataset:
        arrays = self._arrays[split]
        return lk.AddressedDataset.from_arrays(arrays, self.batch_size, shuffle, batch_tokens=self.batch_tokens)

    def sources(self, split: str) -> list[str]:
        """Returns the source sentences of "train", "validation" or "test", in the order of its data set: plain text."""
        lk.utils.require_choice("split", split, SPLITS)
        return [self.pairs[place][0] for place in self._arrays[split]["index"]]

    def references(self, split: str) -> list[list[str]]:
        """Returns all translations of each of `sources(split)`, the target of the data set first."""
        lk.utils.require_choice("split", split, SPLITS)
        return self.references_at(self._arrays[split]["index"])

    def references_at(self, index) -> list[list[str]]:
        """Returns all translations of the sources at a batch's `index` (batch,): plain text."""
        places = (self._references[self.pairs[i][0]] for i in np.asarray(index).tolist())
        return [[self.pairs[place][1] for place in same_source] for same_source in places]

    def encode(self, text: str) -> np.ndarray:
        """Returns the ids of a sentence to translate, then `END`: int32 (length,). An empty sentence is `END` alone."""
        return np.append(self.source_vocabulary.encode_texts([self.clean(text)])[0], [lk.text.END])

    def decode(self, ids) -> str:
        """Returns the text of a translation: ids (length,) up to the first `END`."""
        return self.target_vocabulary.decode_text(ids)

    def show_example(self, example) -> dict[str, str]:
        """Returns a pair of sentences, as they were written."""
        source, target = self.pairs[int(example["index"])]
        return {"source": source, "target": target}

    def state_dict(self) -> dict:
        """Returns both vocabularies."""
        return {"source": self.source_vocabulary.state_dict(), "target": self.target_vocabulary.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Restores the vocabularies of a trained run."""
        kind = VOCABULARIES[self.vocabulary]
        self.source_vocabulary, self.target_vocabulary = (kind.from_state_dict(state[s]) for s in ("source", "target"))


def _ragged(before: list[int], sentences: list[np.ndarray], longest: int) -> tf.RaggedTensor:
    """Puts sentences, cut to `longest` ids, between `before` and `END`: int32 (sentences, None)."""
    before, end = np.array(before, np.int32), np.array([lk.text.END], np.int32)
    flat = np.concatenate([part for ids in sentences for part in (before, ids[:longest], end)])
    lengths = np.minimum([len(ids) for ids in sentences], longest) + len(before) + 1
    return tf.RaggedTensor.from_row_lengths(flat, lengths, validate=False)
