"""A small grammar that writes English sentences with their Spanish translations, and says which words belong together.

Articles and adjectives agree with their noun in gender and number, adjectives change sides ("a red house", "una casa
roja"), and some words have two counterparts or none ("does not" and "no", "likes" and "le gusta").
"""

import functools
from typing import NamedTuple

import numpy as np

import lightkeras as lk

SENTENCES = 4000
KEY = 0x6AA6  # of the draws
J = "\uffed"  # the mark of `lk.text.tokenize`


class Sentence(NamedTuple):
    """A pair of sentences.

    `links` are (English place, Spanish place) of the words that belong together, places in `lk.text.tokenize`.
    """

    english: str
    spanish: str
    links: tuple[tuple[int, int], ...]


class Noun(NamedTuple):
    """English and Spanish forms, (singular, plural) each, and the gender: 0 masculine, 1 feminine."""

    english: tuple[str, str]
    spanish: tuple[str, str]
    gender: int


def _noun(english: str, spanish: str, gender: int, plural: str = "") -> Noun:
    ends_in_vowel = spanish[-1] in "aeoé"
    return Noun((english, plural or english + "s"), (spanish, spanish + ("s" if ends_in_vowel else "es")), gender)


BEINGS = (
    _noun("boy", "niño", 0), _noun("girl", "niña", 1), _noun("man", "hombre", 0, "men"),
    _noun("woman", "mujer", 1, "women"), _noun("dog", "perro", 0), _noun("cat", "gato", 0),
    _noun("teacher", "maestra", 1), _noun("doctor", "médico", 0), _noun("queen", "reina", 1),
    _noun("bird", "pájaro", 0),
)  # fmt: skip
THINGS = (
    _noun("book", "libro", 0), _noun("house", "casa", 1), _noun("table", "mesa", 1), _noun("car", "coche", 0),
    _noun("flower", "flor", 1), _noun("letter", "carta", 1), _noun("hat", "sombrero", 0), _noun("key", "llave", 1),
    _noun("clock", "reloj", 0), _noun("bottle", "botella", 1), _noun("tree", "árbol", 0), _noun("shirt", "camisa", 1),
)  # fmt: skip
PLACES = (
    _noun("garden", "jardín", 0)._replace(spanish=("jardín", "jardines")), _noun("street", "calle", 1),
    _noun("school", "escuela", 1), _noun("park", "parque", 0), _noun("kitchen", "cocina", 1),
)  # fmt: skip
# the Spanish forms: masculine, feminine, their plurals
DETERMINERS = (
    (("the", "the"), ("el", "la", "los", "las")),
    (("a", "some"), ("un", "una", "unos", "unas")),
    (("this", "these"), ("este", "esta", "estos", "estas")),
    (("my", "my"), ("mi", "mi", "mis", "mis")),
)
ADJECTIVES = (
    ("white", "blanco"), ("red", "rojo"), ("black", "negro"), ("small", "pequeño"), ("big", "grande"), ("new", "nuevo"),
    ("pretty", "bonito"), ("strange", "raro"), ("poor", "pobre"), ("tall", "alto"), ("green", "verde"),
)  # fmt: skip
# English he-form, they-form; Spanish he-form, they-form, infinitive
VERBS = (
    ("sees", "see", "ve", "ven", "ver"), ("buys", "buy", "compra", "compran", "comprar"),
    ("sells", "sell", "vende", "venden", "vender"), ("finds", "find", "encuentra", "encuentran", "encontrar"),
    ("wants", "want", "quiere", "quieren", "querer"), ("loses", "lose", "pierde", "pierden", "perder"),
    ("draws", "draw", "dibuja", "dibujan", "dibujar"),
)  # fmt: skip
STATES = (("hungry", "hambre"), ("cold", "frío"), ("afraid", "miedo"), ("sleepy", "sueño"))

# A word and what it means: words of both languages with one meaning belong together.
Words = list[tuple[str, str]]


class Phrase(NamedTuple):
    """The words of a noun phrase, its number (0 singular, 1 plural)."""

    english: Words
    spanish: Words
    number: int


def _agreeing(adjective: str, gender: int, number: int) -> str:
    form = adjective[:-1] + "a" if gender and adjective.endswith("o") else adjective
    return form + "s" * number


class _Writer:
    """Draws sentences."""

    def __init__(self):
        self._draws = np.random.Generator(np.random.Philox(key=KEY))

    def _one_of(self, choices):
        return choices[self._draws.integers(len(choices))]

    def phrase(self, nouns, name: str, determiners=DETERMINERS, with_adjective: bool | None = None) -> Phrase:
        """A determiner, a noun and, in two of five, an adjective."""
        noun, (english, spanish), number = self._one_of(nouns), self._one_of(determiners), self._draws.integers(2)
        if with_adjective is None:
            with_adjective = self._draws.random() < 0.4
        english_words = [(english[number], f"{name} which")]
        spanish_words = [(spanish[2 * number + noun.gender], f"{name} which"), (noun.spanish[number], name)]
        if with_adjective:
            adjective = self._one_of(ADJECTIVES)
            english_words.append((adjective[0], f"{name} how"))
            spanish_words.append((_agreeing(adjective[1], noun.gender, number), f"{name} how"))
        return Phrase([*english_words, (noun.english[number], name)], spanish_words, int(number))

    def action(self) -> tuple[Words, Words, bool]:
        """Somebody does something to a thing: stated, denied, asked, or announced."""
        who, what = self.phrase(BEINGS, "who"), self.phrase(THINGS, "what")
        he, they, his, theirs, infinitive = self._one_of(VERBS)
        does, spanish = ("do", theirs) if who.number else ("does", his)
        verb, acts = (they, "verb"), (spanish, "verb")
        kind = self._one_of(("stated", "stated", "denied", "asked", "announced"))
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
        """Something is big."""
        nouns = BEINGS + THINGS
        what, adjective = self.phrase(nouns, "what", with_adjective=False), self._one_of(ADJECTIVES)
        gender = next(noun.gender for noun in nouns if what.spanish[1][0] in noun.spanish)
        be, es = ("are", "son") if what.number else ("is", "es")
        english = [*what.english, (be, "be"), (adjective[0], "how")]
        return english, [*what.spanish, (es, "be"), (_agreeing(adjective[1], gender, what.number), "how")], False

    def state(self) -> tuple[Words, Words, bool]:
        """Somebody is hungry: in Spanish, has hunger."""
        who, (adjective, noun) = self.phrase(BEINGS, "who"), self._one_of(STATES)
        be, has = ("are", "tienen") if who.number else ("is", "tiene")
        return [*who.english, (be, "be"), (adjective, "how")], [*who.spanish, (has, "be"), (noun, "how")], False

    def liking(self) -> tuple[Words, Words, bool]:
        """Somebody likes a thing: in Spanish, it pleases them."""
        who = self.phrase(BEINGS, "who", DETERMINERS[2:])
        what = self.phrase(THINGS, "what", DETERMINERS[2:])
        likes = ("like" if who.number else "likes", "like")
        pleases = [("les" if who.number else "le", "like"), ("gustan" if what.number else "gusta", "like")]
        return [*who.english, likes, *what.english], [("a", "to"), *who.spanish, *pleases, *what.spanish], False

    def being(self) -> tuple[Words, Words, bool]:
        """There is something somewhere."""
        what = self.phrase(BEINGS + THINGS, "what", DETERMINERS[1:2])
        where = self.phrase(PLACES, "where", DETERMINERS[:1] + DETERMINERS[2:], with_adjective=False)
        there = [("there", "be"), ("are" if what.number else "is", "be")]
        english = [*there, *what.english, ("in", "in"), *where.english]
        return english, [("hay", "be"), *what.spanish, ("en", "in"), *where.spanish], False

    def sentence(self) -> Sentence:
        """One sentence of any kind."""
        kinds = (self.action, self.action, self.action, self.quality, self.state, self.liking, self.being)
        english, spanish, asked = self._one_of(kinds)()
        sign = (J + ("?" if asked else "."), "end")
        before = [("¿" + J, "end")] if asked else []
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
    """The first `count` distinct sentences, always the same ones."""
    writer, distinct = _Writer(), {}
    while len(distinct) < count:
        sentence = writer.sentence()
        distinct.setdefault(sentence.english, sentence)
    return tuple(distinct.values())


def pairs() -> list[tuple[str, str]]:
    """The sentences (English, Spanish)."""
    return [(sentence.english, sentence.spanish) for sentence in sentences()]
