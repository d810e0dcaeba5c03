"""BLEU of translations on NLTK's n-gram counts, with the tokens and the smoothing of sacreBLEU."""

import math
import re
from collections.abc import Iterable

import numpy as np
from nltk.translate import bleu_score

from lightkeras.metrics.statistics import CorpusMetricWithSignature, check_corpus, signed_header

ORDER = 4
_CHINESE = re.compile(  # sacreBLEU's ranges; \u2001 to \u2a6d in place of the rare characters from U+20000 on, as there
    "([\u3400-\u4db5\u4e00-\u9fbb\uf900-\ufa2d\ufa30-\ufa6a\ufa70-\ufad9\u2001-\u2a6d\uff00-\uffef\u2e80-\u2fdf"
    "\u2ff0-\u303f\u3100-\u312f\u31a0-\u31bf\u31c0-\u31ef\u3200-\u33ff\ufe10-\ufe1f\ufe30-\ufe4f])"
)
_ENTITIES = {"&quot;": '"', "&amp;": "&", "&lt;": "<", "&gt;": ">"}  # in mteval-v13a's order
_RULES = (
    (re.compile(r"([!-&(-+/:-@\[-`{-~])"), r" \1 "),  # ASCII punctuation but ' , - and .
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)


def tokenize_13a(text: str) -> list[str]:
    """Splits a sentence into tokens like NIST's mteval-v13a and sacreBLEU's `13a`."""
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, character in _ENTITIES.items():
        text = text.replace(entity, character)
    return _split_signs(f" {text} ")


def tokenize_zh(text: str) -> list[str]:
    """Splits a sentence into Chinese characters, and all else into tokens, like sacreBLEU's `zh`."""
    return _split_signs(_CHINESE.sub(r" \1 ", text.strip()))


def tokenize_char(text: str) -> list[str]:
    """Splits a sentence into its characters without spaces, like sacreBLEU's `char`."""
    return list("".join(text.split()))


def _split_signs(text: str) -> list[str]:
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text.split()


def ngram_statistics(hypothesis: list[str], references: list[list[str]], order: int = ORDER) -> list[int]:
    """Counts a sentence for BLEU: (2 + 2 * order) numbers.

    They are the hypothesis' length, the length of the reference nearest in length (of two, the shorter), the n-grams of
    each order that occur in a reference (clipped, Papineni et al. 2002), and the n-grams of each order.
    """
    orders = range(1, order + 1)
    matches = [bleu_score.modified_precision(references, hypothesis, n).numerator for n in orders]
    # NLTK's own denominators are at least 1, even for a hypothesis without n-grams
    totals = [max(0, len(hypothesis) - n + 1) for n in orders]
    return [len(hypothesis), bleu_score.closest_ref_length(references, len(hypothesis)), *matches, *totals]


class BLEU(CorpusMetricWithSignature):
    """Corpus BLEU (Papineni et al. 2002) in percent.

    The tokens are those of mteval-v13a, the n-grams go up to 4, zero counts are smoothed as in mteval ("exp": Chen and
    Cherry 2014, method 3), without effective order. The tests compare it with sacreBLEU (Post 2018) and its defaults:
    the values are equal. `signature` names the settings. A language that puts no spaces between words needs
    `ChineseBLEU` or `CharacterBLEU`; `bleu_for` chooses.

        bleu = BLEU.from_sentences(["the cat sat"], [["the cat sat", "a cat was sitting"]])
        print(f"{bleu.result():.2f}", bleu.signature)
    """

    sizes = (CorpusMetricWithSignature.header + 2 + 2 * ORDER,)
    tags = "eff:no|tok:13a|smooth:exp"
    tokenize = staticmethod(tokenize_13a)

    @classmethod
    def from_sentences(cls, hypotheses: Iterable[str], references: Iterable, lowercase: bool = False) -> "BLEU":
        """Counts the n-grams of some sentences.

        Args:
            hypotheses: Translations for readers: not tokenized, not lowercased.
            references: A list of any number of references for each hypothesis, or a single str.
            lowercase: Convert both to lower case.

        Raises:
            ValueError: No sentence, differing lengths, a sentence without references, or anything but strings.
        """
        pairs = check_corpus(hypotheses, references)

        def tokens(text):
            return cls.tokenize(text.lower() if lowercase else text)

        counts = np.sum([ngram_statistics(tokens(h), list(map(tokens, refs))) for h, refs in pairs], axis=0)
        return cls([*signed_header(pairs, lowercase), *counts])

    def _figure(self) -> float:
        length, reference_length, *counts = self.sums[self.header :].astype(int).tolist()
        matches, totals = counts[:ORDER], counts[ORDER:]
        if not any(matches) or not all(totals):
            return 0.0
        precisions = [bleu_score.Fraction(m, t, _normalize=False) for m, t in zip(matches, totals, strict=True)]
        smoothed = bleu_score.SmoothingFunction().method3(precisions)
        penalty = bleu_score.brevity_penalty(reference_length, length)
        return 100 * penalty * math.exp(math.fsum(math.log(p) for p in smoothed) / ORDER)


class ChineseBLEU(BLEU):
    """BLEU of Chinese: each character is a token, as in sacreBLEU's tokenization `zh`."""

    tags = "eff:no|tok:zh|smooth:exp"
    tokenize = staticmethod(tokenize_zh)


class CharacterBLEU(BLEU):
    """BLEU of characters, as in sacreBLEU's tokenization `char`: for Japanese, Thai and others without spaces."""

    tags = "eff:no|tok:char|smooth:exp"
    tokenize = staticmethod(tokenize_char)
