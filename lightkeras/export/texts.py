"""Texts to ids and back as TensorFlow operations, equal to the vocabularies' own methods."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from lightkeras.export import unicode
from lightkeras.text.characters import CharacterVocabulary
from lightkeras.text.ids import END, PAD, SPECIAL_TOKENS, START, UNKNOWN
from lightkeras.text.tokenize import JOIN
from lightkeras.text.words import WordVocabulary

SPACE = 32
TEXTS = tf.TensorSpec((None,), tf.string)  # UTF-8, of any number


class CharacterCodec:
    """A `CharacterVocabulary` in a graph.

    Args:
        vocabulary: The characters.
    """

    def __init__(self, vocabulary: CharacterVocabulary) -> None:
        self.size = len(vocabulary)
        self._points = np.array([ord(token) for token in vocabulary.tokens], np.int32)
        self._ids = np.argsort(self._points).astype(np.int32)

    def encode(self, texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns ids (rows, time) int32, padded with 0 at the right, and lengths (rows,) int32.

        Raises:
            InvalidArgumentError: A text is empty, not UTF-8, or has characters that the vocabulary lacks: they are
                named. The error comes when the graph runs.
        """
        points = tf.strings.unicode_decode(texts, "UTF-8", errors="strict")  # (rows, time), ragged
        places, known = unicode.find(np.sort(self._points), points.flat_values)
        unknown = tf.unique(tf.boolean_mask(points.flat_values, ~known))[0]
        message = f"Expected texts of the {self.size} characters of the vocabulary. Received, unknown:"
        received = [message, tf.strings.unicode_encode(unknown[:, None], "UTF-8")]
        places = _checked(places, tf.reduce_all(known), received)
        lengths = tf.cast(points.row_lengths(), tf.int32)
        received = ["Expected texts of at least one character. Received:", texts]
        lengths = _checked(lengths, tf.reduce_all(lengths > 0), received)
        return points.with_flat_values(tf.gather(self._ids, places)).to_tensor(0), lengths

    def decode(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns the texts (rows,) of ids (rows, time)."""
        return tf.strings.unicode_encode(tf.gather(self._points, ids), "UTF-8")


class WordCodec:
    """A `WordVocabulary` in a graph.

    Args:
        vocabulary: The words.
        replaced: Texts by character, put in its place before the words are cut.
        keep_others: Whether characters that are not in `replaced` stay; else they are removed.
    """

    def __init__(
        self, vocabulary: WordVocabulary, replaced: dict[str, str] | None = None, keep_others: bool = True
    ) -> None:
        self._labels = np.array([token.encode() for token in (*SPECIAL_TOKENS, *vocabulary.words)], object)
        self._replaced = {**(unicode.normalizing() if keep_others else {}), **(replaced or {})}
        self._keep_others = keep_others
        with tf.init_scope():
            words = tf.constant(self._labels[len(SPECIAL_TOKENS) :])
            ids = tf.range(len(SPECIAL_TOKENS), len(self._labels), dtype=tf.int32)
            self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(words, ids), UNKNOWN)

    def encode(self, texts: tf.Tensor) -> tf.Tensor:
        """Returns the ids of each text and `END`: int32 (rows, slots), padded with `PAD` at the right.

        Raises:
            InvalidArgumentError: A text is not UTF-8, or not in Unicode's composed form (NFC). The error comes when the
                graph runs.
        """
        words = tf.strings.split(self._mark(self._clean(texts)))  # (rows, words), ragged
        ids = words.with_flat_values(self.table.lookup(words.flat_values))
        return tf.concat([ids, tf.fill([ids.nrows(), 1], END)], axis=1).to_tensor(PAD)

    def decode(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns the words before the first `END` of ids (rows, steps), with spaces between them: (rows,)."""
        ended = tf.cumsum(tf.cast(ids == END, tf.int32), axis=1) > 0
        words = tf.ragged.boolean_mask(self.labels(ids), ~ended & (ids != PAD) & (ids != START))
        return tf.strings.reduce_join(words, axis=1, separator=" ")

    def decode_text(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns the texts (rows,) of ids (rows, steps), as `WordVocabulary.decode_text` does."""
        texts = self.decode(ids)
        for mark in (f" {JOIN}", f"{JOIN} ", JOIN):
            texts = tf.strings.regex_replace(texts, mark, "")
        return texts

    def labels(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns a word for each of ids (...), special ones included."""
        return tf.gather(tf.constant(self._labels), ids)

    def _clean(self, texts: tf.Tensor) -> tf.Tensor:
        """Replaces single characters of texts (rows,)."""
        points = tf.strings.unicode_decode(texts, "UTF-8", errors="strict")
        if self._keep_others:
            ended = tf.concat([points, tf.fill([points.nrows(), 1], SPACE)], axis=1)
            composed = unicode.is_composed(ended.flat_values)
            received = ["Expected texts in Unicode's composed form (NFC). Received:", texts]
            points = points.with_flat_values(_checked(points.flat_values, composed, received))
        return tf.strings.reduce_join(points.with_flat_values(self._replace(points.flat_values)), axis=1)

    def _replace(self, points: tf.Tensor) -> tf.Tensor:
        """Returns the text in place of each of points (characters,)."""
        replaced = sorted(self._replaced.items())
        places, found = unicode.find(np.array([ord(one) for one, _ in replaced], np.int32), points)
        others = tf.strings.unicode_encode(points[:, None], "UTF-8") if self._keep_others else ""
        return tf.where(found, tf.gather(tf.constant([text for _, text in replaced]), places), others)

    def _mark(self, texts: tf.Tensor) -> tf.Tensor:
        """Puts signs between spaces with `JOIN` where they touch a neighbour, as `tokenize` does: (rows,)."""
        points = tf.strings.unicode_decode(tf.strings.join([texts, " "]), "UTF-8")  # a space parts the rows
        x = points.flat_values
        word, space = unicode.is_letter(x), x == SPACE
        word_before, word_after = _before(word, False), _after(word, False)
        apostrophe = (
            ((x == ord("'")) | (x == ord("\u2019"))) & word_before & word_after
        )  # it keeps the letters after it
        sign, single = ~word & ~space, ~word & ~space & ~apostrophe
        left = tf.where(sign, tf.where(_before(space, True), " ", f" {JOIN}"), "")
        right = tf.where(single, tf.where(word_after, f"{JOIN} ", " "), "")
        marked = tf.strings.join([left, tf.strings.unicode_encode(x[:, None], "UTF-8"), right])
        return tf.strings.reduce_join(points.with_flat_values(marked), axis=1)


def _before(flags: tf.Tensor, first: bool) -> tf.Tensor:
    return tf.concat([[first], flags[:-1]], 0)


def _after(flags: tf.Tensor, last: bool) -> tf.Tensor:
    return tf.concat([flags[1:], [last]], 0)


def _checked(value: tf.Tensor, condition: tf.Tensor, received: list) -> tf.Tensor:
    """Returns `value` behind a check of `condition`: what uses it runs after the check, so that its error comes first.

    The error shows up to ten of the values of `received`.
    """
    with tf.control_dependencies([tf.debugging.Assert(condition, received, summarize=10)]):
        return tf.identity(value)


def checked_between(name: str, value: tf.Tensor, minimum: float, below: float | None = None) -> tf.Tensor:
    """Returns a number; the graph fails unless it is at least `minimum`, and less than `below`.

    Raises:
        InvalidArgumentError: It is not. The error comes when the graph runs.
    """
    value = _checked(value, value >= minimum, [f"Expected `{name}` to be at least {minimum}. Received:", value])
    if below is None:
        return value
    return _checked(value, value < below, [f"Expected `{name}` to be below {below}. Received:", value])


def texts_of(values: Sequence[str]) -> np.ndarray:
    """Makes an array of texts as bytes, as the outputs of an endpoint have them."""
    return np.array([value.encode() for value in values], object)


@functools.cache
def kept_characters(clean: Callable[[str], str]) -> dict[str, str]:
    """Returns what a function that cleans texts character by character leaves of each, if anything; spaces stay."""
    found = ((chr(point), clean(chr(point))) for point in range(0x110000) if not 0xD800 <= point < 0xE000)
    return {" ": " "} | {character: text for character, text in found if text}
