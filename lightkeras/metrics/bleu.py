"""BLEU of translations, built on NLTK, with sacreBLEU's tokens, smoothing and signature."""

import math
import re
from collections.abc import Iterable

import numpy as np
from nltk.translate import bleu_score

from lightkeras.metrics.statistics import CorpusMetricWithSignature, check_corpus, signed_header

ORDER = 4
_ENTITIES = {"&quot;": '"', "&amp;": "&", "&lt;": "<", "&gt;": ">"}  # in mteval-v13a's order
_RULES = (
    (re.compile(r"([!-&(-+/:-@\[-`{-~])"), r" \1 "),  # ASCII punctuation but ' , - and .
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)


def tokenize_13a(text: str) -> list[str]:
    """Tokens of a sentence as of NIST's mteval-v13a and sacreBLEU's `13a`."""
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, character in _ENTITIES.items():
        text = text.replace(entity, character)
    text = f" {text} "
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text.split()


def ngram_statistics(hypothesis: list[str], references: list[list[str]], order: int = ORDER) -> list[int]:
    """A sentence's counts for BLEU: (2 + 2 * order) of them.

    Its length, that of the reference nearest to it (of two, the shorter), the n-grams of each order that are in a
    reference (clipped, Papineni et al. 2002), and the n-grams of each order.
    """
    orders = range(1, order + 1)
    matches = [bleu_score.modified_precision(references, hypothesis, n).numerator for n in orders]
    # NLTK's own denominators are at least 1, even where the hypothesis has no n-gram
    totals = [max(0, len(hypothesis) - n + 1) for n in orders]
    return [len(hypothesis), bleu_score.closest_ref_length(references, len(hypothesis)), *matches, *totals]


class BLEU(CorpusMetricWithSignature):
    """Corpus BLEU (Papineni et al. 2002) in percent: the figure of sacreBLEU (Post 2018) with its defaults.

    Tokens as of mteval-v13a, n-grams up to 4, zero counts smoothed as of mteval ("exp": Chen and Cherry 2014, method
    3), no effective order. `signature` says so.

        bleu = BLEU.of(["the cat sat"], [["the cat sat", "a cat was sitting"]])
        print(f"{bleu.result():.2f}", bleu.signature)
    """

    sizes = (CorpusMetricWithSignature.header + 2 + 2 * ORDER,)
    tags = "eff:no|tok:13a|smooth:exp"

    @classmethod
    def of(cls, hypotheses: Iterable[str], references: Iterable, lowercase: bool = False) -> "BLEU":
        """The statistics of some sentences.

        Args:
            hypotheses: Translations as they are to be read: not tokenized, not lowercased.
            references: For each a list of them, of any number; or a str, where there is one.
            lowercase: Take both in lower case.

        Raises:
            ValueError: No sentence, other lengths, a sentence without references, or anything but strings.
        """
        pairs = check_corpus(hypotheses, references)

        def tokens(text):
            return tokenize_13a(text.lower() if lowercase else text)

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
