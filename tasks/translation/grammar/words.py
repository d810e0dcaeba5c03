"""The words of the grammar, English and Spanish."""

from typing import NamedTuple


class Noun(NamedTuple):
    """English and Spanish forms, (singular, plural) each, and the Spanish gender: 0 masculine, 1 feminine."""

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


def inflect(adjective: str, gender: int, number: int) -> str:
    """Makes a Spanish adjective agree with a noun's gender (1 feminine) and number (1 plural)."""
    form = adjective[:-1] + "a" if gender and adjective.endswith("o") else adjective
    return form + "s" * number
