"""Languages that put no spaces between words."""

import re
from collections.abc import Iterable

from lightkeras.metrics.bleu import BLEU, CharacterBLEU, ChineseBLEU

_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_OTHERS = re.compile(  # kana; Thai and Lao, Tibetan, Burmese, Khmer
    "[\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff]"
)
LONG = 8  # characters between two spaces, on average: no words


def bleu_for(texts: Iterable[str]) -> type[BLEU]:
    """Chooses the BLEU for the language of some texts, by most of their letters.

    Returns:
        `ChineseBLEU`; `CharacterBLEU` for Japanese, Thai, Lao, Burmese, Khmer and Tibetan; else `BLEU`.
    """
    han, others, letters = _count(texts)
    if 2 * (han + others) <= letters:
        return BLEU
    return ChineseBLEU if 20 * others < han else CharacterBLEU


def lacks_spaces(texts: Iterable[str]) -> bool:
    """Returns whether texts are of such a language and no spaces stand between their words."""
    texts = list(texts)
    return bleu_for(texts) is not BLEU and sum(map(len, texts)) > LONG * sum(len(text.split()) for text in texts)


def _count(texts: Iterable[str]) -> tuple[int, int, int]:
    """Numbers of Chinese characters, of letters of other scripts without spaces, and of all letters."""
    han = others = letters = 0
    for text in texts:
        han, others = han + len(_HAN.findall(text)), others + len(_OTHERS.findall(text))
        letters += sum(map(str.isalpha, text))
    return han, others, letters
