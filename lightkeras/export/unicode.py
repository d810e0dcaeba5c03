"""Facts about characters as TensorFlow operations on code points, from Python's own tables."""

import functools
import unicodedata

import numpy as np
import tensorflow as tf

from lightkeras.text.tokenize import JOIN, letter_runs

POINTS = 0x110000
SURROGATES = range(0xD800, 0xE000)
LEADING, VOWELS, TRAILING = (0x1100, 0x1113), (0x1161, 0x1176), (0x11A8, 0x11C3)  # jamo that compose
SYLLABLES = (0xAC00, 0xD7A4)


def find(table: np.ndarray, values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Finds `values` (n,) in a sorted `table`: (the places (n,) int32, whether each is there (n,))."""
    places = tf.minimum(tf.searchsorted(table, values), len(table) - 1)
    return places, tf.gather(table, places) == values


def is_letter(points: tf.Tensor) -> tf.Tensor:
    """Whether `lk.text.tokenize` takes each of points (n,) as a part of a word."""
    edges = np.array(letter_runs(), np.int32).ravel()  # start, end, start, end, ...
    return tf.searchsorted(edges, points, side="right") % 2 == 1


def normalizing() -> dict[str, str]:
    """Returns what `lk.text.normalize_text` replaces character by character."""
    return {**dict.fromkeys(_spaces(), " "), "\u200b": "", "\ufeff": "", JOIN: "\u25a0"}


@functools.cache
def _spaces() -> tuple[str, ...]:
    return tuple(chr(point) for point in range(POINTS) if chr(point).isspace())


@functools.cache
def _composition() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns what composed texts lack (characters, pairs), and the characters that move, with their classes."""
    every = [chr(point) for point in range(POINTS) if point not in SURROGATES]
    moved = [one for one in every if unicodedata.combining(one)]
    changed = [one for one in every if unicodedata.normalize("NFC", one) != one]
    parted = {one: unicodedata.normalize("NFD", one) for one in every if ord(one) not in range(*SYLLABLES)}
    composed = [one for one, parts in parted.items() if len(parts) > 1]
    firsts = {*composed, *(parted[one][0] for one in composed)}
    seconds = {parted[one][-1] for one in composed}
    pairs = [
        ord(first) * POINTS + ord(second)
        for first in firsts - set(changed)
        for second in seconds - set(changed)
        if unicodedata.normalize("NFC", first + second) != first + second
    ]
    classes = np.array([unicodedata.combining(one) for one in moved], np.int32)
    return _points(changed), np.sort(np.array(pairs, np.int64)), _points(moved), classes


def _points(characters: list[str]) -> np.ndarray:
    return np.array([ord(one) for one in characters], np.int32)


def is_composed(points: tf.Tensor) -> tf.Tensor:
    """Whether points (n,) are in Unicode's composed form (NFC): a scalar.

    A text is, if no character of it is replaced, no combining mark stands before one of a lower class, and no character
    composes with the starter before it unless a mark of the same or a higher class stands between (UAX 15).
    """
    changed, pairs, moved, classes = _composition()
    places, moves = find(moved, points)
    order = tf.where(moves, tf.gather(classes, places), 0)  # the combining class, 0 of a starter
    order_before = tf.concat([[0], order[:-1]], 0)
    before = _starters_before(points, order)
    adjacent = tf.concat([[True], order[:-1] == 0], 0)
    reached = adjacent | (order_before < order)
    key = tf.cast(before, tf.int64) * POINTS + tf.cast(points, tf.int64)
    composes = reached & find(pairs, key)[1] | adjacent & _composes_hangul(before, points)
    swapped = (order_before > order) & (order > 0)
    return ~tf.reduce_any(find(changed, points)[1] | composes | swapped)


def _starters_before(points: tf.Tensor, order: tf.Tensor) -> tf.Tensor:
    """Returns the last starter before each of points (n,); a space before the first."""
    starters = tf.concat([[ord(" ")], tf.boolean_mask(points, order == 0)], 0)
    return tf.gather(starters, tf.cumsum(tf.cast(order == 0, tf.int32), exclusive=True))


def _composes_hangul(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    syllable = _within(first, SYLLABLES) & ((first - SYLLABLES[0]) % 28 == 0)
    return _within(first, LEADING) & _within(second, VOWELS) | syllable & _within(second, TRAILING)


def _within(points: tf.Tensor, bounds: tuple[int, int]) -> tf.Tensor:
    return (points >= bounds[0]) & (points < bounds[1])
