"""Writes sentences of the grammar, and links the words that belong together."""

import functools
from typing import NamedTuple

import numpy as np

import lightkeras as lk
from tasks.translation.grammar.words import (
    ADJECTIVES,
    BEINGS,
    DETERMINERS,
    PLACES,
    STATES,
    THINGS,
    VERBS,
    inflect,
)

SENTENCES = 4000
KEY = 0x6AA6  # of the draws


class Sentence(NamedTuple):
    """A pair of sentences.

    Attributes:
        english: The English sentence.
        spanish: Its translation.
        links: (English place, Spanish place) of the words that belong together, places in `lk.text.tokenize`.
    """

    english: str
    spanish: str
    links: tuple[tuple[int, int], ...]


# A word and its meaning: words of both languages with one meaning belong together.
Words = list[tuple[str, str]]


class Phrase(NamedTuple):
    """The words of a noun phrase in both languages, and its number (0 singular, 1 plural)."""

    english: Words
    spanish: Words
    number: int


class _Writer:
    """Draws sentences; every method returns the words of both languages."""

    def __init__(self):
        self._draws = np.random.Generator(np.random.Philox(key=KEY))

    def _choose(self, choices):
        return choices[self._draws.integers(len(choices))]

    def phrase(self, nouns, name: str, determiners=DETERMINERS, with_adjective: bool | None = None) -> Phrase:
        """Draws a determiner, a noun and, in two of five phrases, an adjective."""
        noun, (english, spanish), number = self._choose(nouns), self._choose(determiners), self._draws.integers(2)
        if with_adjective is None:
            with_adjective = self._draws.random() < 0.4
        english_words = [(english[number], f"{name} which")]
        spanish_words = [(spanish[2 * number + noun.gender], f"{name} which"), (noun.spanish[number], name)]
        if with_adjective:
            adjective = self._choose(ADJECTIVES)
            english_words.append((adjective[0], f"{name} how"))
            spanish_words.append((inflect(adjective[1], noun.gender, number), f"{name} how"))
        return Phrase([*english_words, (noun.english[number], name)], spanish_words, int(number))

    def action(self) -> tuple[Words, Words, bool]:
        """Writes that somebody does something to a thing: stated, denied, asked, or announced."""
        who, what = self.phrase(BEINGS, "who"), self.phrase(THINGS, "what")
        he, they, his, theirs, infinitive = self._choose(VERBS)
        does, spanish = ("do", theirs) if who.number else ("does", his)
        verb, acts = (they, "verb"), (spanish, "verb")
        kind = self._choose(("stated", "stated", "denied", "asked", "announced"))
        if kind == "denied":
            english = [*who.english, (does, "not"), ("not", "not"), verb, *what.english]
            return english, [*who.spanish, ("no", "not"), acts, *what.spanish], False
        if kind == "asked":
            return [(does, "verb"), *who.english, verb, *what.english], [*who.spanish, acts, *what.spanish], True
        if kind == "announced":
            be, go = ("are", "van") if who.number else ("is", "va")
            english = [*who.english, (be, "will"), ("going", "will"), ("to", "to"), verb, *what.english]
            return english, [*who.spanish, (go, "will"), ("a", "to"), (infinitive, "verb"), *what.spanish], False
        states = (they if who.number else he, "verb")
        return [*who.english, states, *what.english], [*who.spanish, acts, *what.spanish], False

    def quality(self) -> tuple[Words, Words, bool]:
        """Writes that something is big."""
        nouns = BEINGS + THINGS
        what, adjective = self.phrase(nouns, "what", with_adjective=False), self._choose(ADJECTIVES)
        gender = next(noun.gender for noun in nouns if what.spanish[1][0] in noun.spanish)
        be, es = ("are", "son") if what.number else ("is", "es")
        english = [*what.english, (be, "be"), (adjective[0], "how")]
        return english, [*what.spanish, (es, "be"), (inflect(adjective[1], gender, what.number), "how")], False

    def state(self) -> tuple[Words, Words, bool]:
        """Writes that somebody is hungry: in Spanish, has hunger."""
        who, (adjective, noun) = self.phrase(BEINGS, "who"), self._choose(STATES)
        be, has = ("are", "tienen") if who.number else ("is", "tiene")
        return [*who.english, (be, "be"), (adjective, "how")], [*who.spanish, (has, "be"), (noun, "how")], False

    def liking(self) -> tuple[Words, Words, bool]:
        """Writes that somebody likes a thing: in Spanish, it pleases them."""
        who = self.phrase(BEINGS, "who", DETERMINERS[2:])
        what = self.phrase(THINGS, "what", DETERMINERS[2:])
        likes = ("like" if who.number else "likes", "like")
        pleases = [("les" if who.number else "le", "like"), ("gustan" if what.number else "gusta", "like")]
        return [*who.english, likes, *what.english], [("a", "to"), *who.spanish, *pleases, *what.spanish], False

    def being(self) -> tuple[Words, Words, bool]:
        """Writes that there is something somewhere."""
        what = self.phrase(BEINGS + THINGS, "what", DETERMINERS[1:2])
        where = self.phrase(PLACES, "where", DETERMINERS[:1] + DETERMINERS[2:], with_adjective=False)
        there = [("there", "be"), ("are" if what.number else "is", "be")]
        english = [*there, *what.english, ("in", "in"), *where.english]
        return english, [("hay", "be"), *what.spanish, ("en", "in"), *where.spanish], False

    def sentence(self) -> Sentence:
        """Writes one sentence of any kind."""
        kinds = (self.action, self.action, self.action, self.quality, self.state, self.liking, self.being)
        english, spanish, asked = self._choose(kinds)()
        sign = (lk.text.JOIN + ("?" if asked else "."), "end")
        before = [("¿" + lk.text.JOIN, "end")] if asked else []
        return _sentence([*english, sign], [*before, *spanish, sign])


def _sentence(english: Words, spanish: Words) -> Sentence:
    links = tuple((i, j) for i, (_, a) in enumerate(english) for j, (_, b) in enumerate(spanish) if a == b)
    texts = (lk.text.detokenize([word for word, _ in words]) for words in (english, spanish))
    return Sentence(*(_capitalized(text) for text in texts), links)


def _capitalized(text: str) -> str:
    start = 1 if text[0] == "¿" else 0
    return text[:start] + text[start].upper() + text[start + 1 :]


@functools.cache
def sentences(count: int = SENTENCES) -> tuple[Sentence, ...]:
    """Returns the first `count` distinct sentences, always the same ones."""
    writer, distinct = _Writer(), {}
    while len(distinct) < count:
        sentence = writer.sentence()
        distinct.setdefault(sentence.english, sentence)
    return tuple(distinct.values())


def pairs() -> list[tuple[str, str]]:
    """Returns the sentences as pairs (English, Spanish)."""
    return [(sentence.english, sentence.spanish) for sentence in sentences()]
