"""Pairs of sentences as ids, split so that no sentence is on two sides."""

import functools
import warnings

import numpy as np

import lightkeras as lk
from tasks.translation import grammar
from tasks.translation.corpus import CLEANING, Corpus, Pairs, encode_in_memory, open_corpus, split_pairs
from tasks.translation.corpus.batches import EncodedPairs
from tasks.translation.corpus.opening import cache_of, find_parts

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

    A corpus of more than 32 MB is encoded once, into files beside the downloaded data sets, which training reads by
    place. What is cut off while it encodes is resumed.

    Sentences of a batch have similar lengths, and are padded to one of a few widths.

    Pairs that share a sentence on either side (except for case, accents, digits and punctuation) form a group, and
    groups that share one are merged. A whole group is on one side of the split, which depends on its sentences alone.
    Validation and test have each source sentence once, with the first of its translations as the target; `references`
    gives all of them. The vocabularies are made from the training sentences; a word without an id is `UNKNOWN`.

    Args:
        source: "download" (118,964 pairs of Spanish and English); a UTF-8 file of your own with a pair on each line
            (two sentences separated by a tab; a third column is ignored), a folder of such files or a glob
            ("pairs/**/*.tsv"), which are read one after the other in the order of their paths; "FIRST,SECOND" (two
            UTF-8 files with a sentence on each line, in the same order); or "sample" (the small grammar in
            `tasks.translation.grammar`).
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
        self.pairs: Pairs | None = None

    def prepare_data(self) -> None:
        """Downloads the official pairs, if they are the source; encodes a large corpus."""
        if self.source != "sample" and (cache := cache_of(self._parts(), *self._encoding())):
            cache.encode()

    def _parts(self) -> list:
        return find_parts(self.source, SPA_ENG)

    def _encoding(self) -> tuple[str, str, bool]:
        return self.cleaning, self.vocabulary, self.skip_bad_lines

    def setup(self, stage: str) -> None:
        """Reads the pairs, splits them and, unless they were loaded, makes the vocabularies."""
        if self.pairs is None:
            corpus = self._read()
            self.pairs = Pairs(corpus, int(self.direction == "second-to-first"))
            sides = split_pairs(self.pairs, self.val_fraction, self.test_fraction, self.source)
            self._places = {name: np.flatnonzero(sides == i) for i, name in enumerate(SPLITS)}
            if self.source_vocabulary is None:
                self._make_vocabularies()
            self._encoded = {name: self._encode(name) for name in SPLITS}

    def _read(self) -> Corpus:
        """Reads the pairs, cleaned, in the order of the files."""
        if self.source == "sample":
            corpus = encode_in_memory([grammar.pairs()], self.cleaning, self.vocabulary)
        else:
            corpus = open_corpus(self._parts(), *self._encoding())
        if corpus.emptied:
            left_out = f"{corpus.emptied} of {corpus.emptied + len(corpus.keys)} pairs"
            warnings.warn(f"Left out {left_out}, of which cleaning={self.cleaning!r} leaves nothing", stacklevel=3)
        return corpus

    def clean(self, text: str) -> str:
        """Cleans `text` for the vocabularies; see `cleaning`."""
        return CLEANING[self.cleaning](text)

    def _make_vocabularies(self) -> None:
        self.source_vocabulary, self.target_vocabulary = map(self._make_vocabulary, (0, 1))

    def _make_vocabulary(self, number: int) -> Vocabulary:
        train = self._places["train"]
        if self.vocabulary == "word" and lk.metrics.lacks_spaces(self.pairs.every_text(number, train)):
            warnings.warn(
                f"No spaces stand between the words of sentences such as {self.pairs.texts(number, train[:1])[0]!r}: "
                'with vocabulary="word", hardly any of them has an id. Use vocabulary="subword", or separate the words '
                "by spaces.",
                stacklevel=5,
            )
        counts = self.pairs.count_words(number, train)
        if self.vocabulary == "subword":
            return lk.text.SubwordVocabulary.from_counts(counts, self.vocabulary_size or SUBWORDS)
        return lk.text.WordVocabulary.from_counts(counts, self.vocabulary_size, self.min_count)

    def _encode(self, split: str) -> EncodedPairs:
        """Encodes the pairs of a split's batches."""
        places = self._places[split]
        if split != "train":
            places = places[self.pairs.is_first[places]]
        vocabularies = (self.source_vocabulary, self.target_vocabulary)
        return EncodedPairs(self.pairs, places, vocabularies, self.max_length, leave_out=split == "train")

    @functools.cached_property
    def bleu(self) -> type[lk.metrics.BLEU]:
        """The BLEU for the target language."""
        return lk.metrics.bleu_for(self.pairs.every_text(1, np.arange(len(self.pairs))))

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
        return self._encoded[split].batches(self.batch_size, shuffle, self.batch_tokens)

    def sources(self, split: str) -> list[str]:
        """Returns the source sentences of "train", "validation" or "test", in the order of its data set: plain text."""
        lk.utils.require_choice("split", split, SPLITS)
        return self.pairs.texts(0, self._encoded[split].places)

    def sources_at(self, index) -> list[str]:
        """Returns the sources at a batch's `index` (batch,): plain text."""
        return [self.pairs[i][0] for i in np.asarray(index).tolist()]

    def references(self, split: str) -> list[list[str]]:
        """Returns all translations of each of `sources(split)`, the target of the data set first."""
        lk.utils.require_choice("split", split, SPLITS)
        return self.references_at(self._encoded[split].places)

    def references_at(self, index) -> list[list[str]]:
        """Returns all translations of the sources at a batch's `index` (batch,): plain text."""
        return [self.pairs.texts(1, self.pairs.with_same_source(place)) for place in np.asarray(index).tolist()]

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
