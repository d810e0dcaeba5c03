"""Languages that put no spaces between words."""

import itertools
import re
from collections.abc import Iterable, Iterator

import numpy as np

from lightkeras.metrics.bleu import BLEU, CharacterBLEU, ChineseBLEU

_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_OTHERS = re.compile(  # kana; Thai and Lao, Tibetan, Burmese, Khmer
    "[\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff]"
)
BLOCK, SEPARATOR, CODE_POINTS = 1 << 13, "\n", 0x110000  # texts that are counted at once
LONG = 8  # characters between two spaces, on average: no words


def bleu_for(texts: Iterable[str]) -> type[BLEU]:
    """Chooses the BLEU for the language of some texts, by most of their letters.

    Returns:
        `ChineseBLEU`; `CharacterBLEU` for Japanese, Thai, Lao, Burmese, Khmer and Tibetan; else `BLEU`.
    """
    return _bleu_of(sum((_count_points(block) for block in _blocks(texts)), np.zeros(CODE_POINTS, np.int64)))


def lacks_spaces(texts: Iterable[str]) -> bool:
    """Returns whether texts are of such a language and no spaces stand between their words; reads them once."""
    words, characters = 0, np.zeros(CODE_POINTS, np.int64)
    for block in _blocks(texts):
        words += len(block.split())
        characters += _count_points(block)
    characters[ord(SEPARATOR)] = 0
    return _bleu_of(characters) is not BLEU and int(characters.sum()) > LONG * words


def _blocks(texts: Iterable[str]) -> Iterator[str]:
    """Yields the texts, many at a time; a separator stands between two."""
    texts = iter(texts)
    while block := list(itertools.islice(texts, BLOCK)):
        yield SEPARATOR.join(block)


def _count_points(text: str) -> np.ndarray:
    """Numbers of the occurrences of each code point of Unicode."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    return np.bincount(points, minlength=CODE_POINTS)


def _bleu_of(counts: np.ndarray) -> type[BLEU]:
    """Chooses by the numbers of each code point: Chinese, other scripts without spaces, and all letters."""
    han = others = letters = 0
    for point in np.flatnonzero(counts).tolist():
        character, count = chr(point), int(counts[point])
        han += count * bool(_HAN.match(character))
        others += count * bool(_OTHERS.match(character))
        letters += count * character.isalpha()
    if 2 * (han + others) <= letters:
        return BLEU
    return ChineseBLEU if 20 * others < han else CharacterBLEU
