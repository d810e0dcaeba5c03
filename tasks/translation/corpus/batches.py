"""Batches of the pairs of a split: their words' ids, read by index."""

import numpy as np
import tensorflow as tf

import lightkeras as lk
from tasks.translation.corpus.pairs import Pairs

Vocabulary = lk.text.WordVocabulary | lk.text.SubwordVocabulary


class WordIds:
    """The ids of each word of a list: one, or, of subwords, several.

    Args:
        words: The words.
        vocabulary: The vocabulary.
    """

    def __init__(self, words: list[str], vocabulary: Vocabulary):
        if isinstance(vocabulary, lk.text.WordVocabulary):
            ids, lengths = vocabulary.encode(words), np.ones(len(words), np.int64)
        else:
            parts = [vocabulary.encode_texts(words[i : i + lk.text.BLOCK]) for i in range(0, len(words), lk.text.BLOCK)]
            ids = np.concatenate([np.zeros(0, np.int32), *(piece for part in parts for piece in part)])
            lengths = np.array([len(piece) for part in parts for piece in part], np.int64)
        self._ids, self._bounds = ids, np.append(0, np.cumsum(lengths))
        self._lengths, self.single = lengths, isinstance(vocabulary, lk.text.WordVocabulary)

    def of_rows(self, words: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ids of rows of words, int32, one after the other, and the length of each row."""
        if self.single:
            return self._ids[words], lengths
        counts = self._lengths[words]
        places = np.arange(counts.sum()) + np.repeat(self._bounds[words] - (np.cumsum(counts) - counts), counts)
        ends = np.append(0, np.cumsum(counts))[np.cumsum(lengths)]
        return self._ids[places], np.diff(ends, prepend=0)


class EncodedPairs:
    """The pairs of a split as ids.

    Args:
        pairs: All pairs.
        places: Those of the split (n,).
        vocabularies: Of the sources and of the targets.
        max_length: The most ids of a sentence, its end not counted.
        leave_out: Whether longer pairs are left out, and not cut.

    Attributes:
        places: Those of the split that are in it, int32.

    Raises:
        ValueError: All are longer.
    """

    def __init__(self, pairs: Pairs, places: np.ndarray, vocabularies: tuple, max_length: int, leave_out: bool):
        self._pairs, self._max_length = pairs, max_length
        lists = [pairs.corpus.lists[side] for side in pairs.sides]
        self._ids = list(map(WordIds, lists, vocabularies))
        lengths = [self._lengths(number, places) for number in (0, 1)]
        if leave_out:
            longest = np.maximum(*lengths)
            kept = longest <= max_length
            expected = f"{longest.min()} or more, the length of the shortest training pair"
            lk.utils.require(kept.any(), "max_length", expected, max_length)
            places, lengths = places[kept], [one[kept] for one in lengths]
        self.places = places.astype(np.int32)
        source, target = (np.minimum(one, max_length) for one in lengths)
        self.lengths = np.maximum(source + 1, target + 2)  # with the ends, and the start of the target

    def _lengths(self, number: int, places: np.ndarray) -> np.ndarray:
        """The ids of each sentence, int32 (n,)."""
        parts = [self._read(number, part)[1] for part in lk.text.cut(places)]
        return np.concatenate(parts).astype(np.int32)

    def _read(self, number: int, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = self._pairs.corpus.words[self._pairs.sides[number]]
        return self._ids[number].of_rows(*rows.read(self._pairs.rows[places]))

    def batches(self, batch_size: int, shuffle: bool, batch_tokens: int | None) -> lk.AddressedDataset:
        """Makes the data set: `source`, `target` and `index`, grouped by length."""
        if self._pairs.corpus.words[0].in_memory:
            arrays = {"source": self._ragged(0), "target": self._ragged(1), "index": self.places}
            return lk.AddressedDataset.from_arrays(arrays, batch_size, shuffle, batch_tokens=batch_tokens)

        def fetch(indices, epoch, width):
            read = tf.numpy_function(self.read, [indices, width], (tf.int32, tf.int32, tf.int32), stateful=False)
            source, target, index = (tf.ensure_shape(one, indices.shape + [None] * axes)
                                     for one, axes in zip(read, (1, 1, 0), strict=True))  # fmt: skip
            return {"source": source, "target": target, "index": index}

        return lk.AddressedDataset.from_batches(
            fetch, len(self.places), batch_size, shuffle, self.lengths, batch_tokens=batch_tokens
        )

    def read(self, indices: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns sources and targets padded to one width, int32 (rows, width), and places, int32 (rows,)."""
        places = self.places[indices]
        return *(self._padded(number, places, int(width)) for number in (0, 1)), places

    def _padded(self, number: int, places: np.ndarray, width: int) -> np.ndarray:
        flat, lengths = self._marked(number, places)
        padded = np.zeros((len(places), width), np.int32)
        padded[np.arange(width) < lengths[:, None]] = flat
        return padded

    def _ragged(self, number: int) -> tf.RaggedTensor:
        return tf.RaggedTensor.from_row_lengths(*self._marked(number, self.places), validate=False)

    def _marked(self, number: int, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The ids of sentences, cut, with their end and the start of a target: int32, and the length of each."""
        ids, lengths = self._read(number, places)
        kept = np.minimum(lengths, self._max_length)
        before = np.cumsum(lengths) - lengths
        cut = ids[np.arange(len(ids)) - np.repeat(before, lengths) < self._max_length]
        marked = kept + 1 + number
        ends = np.cumsum(marked)
        found = np.full(int(marked.sum()), -1, np.int32)
        found[ends - 1] = lk.text.END
        if number:
            found[ends - marked] = lk.text.START
        found[found < 0] = cut
        return found, marked
