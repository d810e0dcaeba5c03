"""chrF: the F-score of character n-grams."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from lightkeras.metrics.statistics import CorpusMetricWithSignature, check_corpus, signed_header

ORDER = 6
BETA = 2


class ChrF(CorpusMetricWithSignature):
    """chrF2 (Popović 2015) in percent.

    Character n-grams up to 6 without whitespace, recall weighted twice as much as precision (beta 2), the mean over
    the orders that both sides have. Of several references, the one with the best sentence score counts. The tests
    compare it with sacreBLEU's `CHRF` and its defaults: the values are equal.
    """

    sizes = (CorpusMetricWithSignature.header + 3 * ORDER,)
    tags = f"eff:yes|nc:{ORDER}|nw:0|space:no"

    @classmethod
    def from_sentences(cls, hypotheses: Iterable[str], references: Iterable, lowercase: bool = False) -> "ChrF":
        """Counts the n-grams of some sentences; arguments and errors as of `BLEU.from_sentences`."""
        pairs = check_corpus(hypotheses, references)

        def ngrams(text):
            return _character_ngrams(text.lower() if lowercase else text)

        counts = np.sum([_sentence_counts(ngrams(h), map(ngrams, refs)) for h, refs in pairs], axis=0)
        return cls([*signed_header(pairs, lowercase), *counts.ravel()])

    def _figure(self) -> float:
        return 100 * _f_score(self.sums[self.header :].reshape(ORDER, 3).tolist())


def _character_ngrams(text: str) -> list[Counter]:
    text = "".join(text.split())
    return [Counter([text[i : i + n] for i in range(len(text) - n + 1)]) for n in range(1, ORDER + 1)]


def _sentence_counts(hypothesis: list[Counter], references: Iterable[list[Counter]]) -> list[list[int]]:
    """Counts (order, 3) of the hypothesis, the reference and both, for the first reference with the best score."""
    return max(([*map(_counts, hypothesis, reference)] for reference in references), key=_f_score)


def _counts(hypothesis: Counter, reference: Counter) -> list[int]:
    common = sum([min(count, reference[ngram]) for ngram, count in hypothesis.items() if ngram in reference])
    # as in sacreBLEU: n-grams longer than the whole reference do not count against the hypothesis
    return [hypothesis.total() if reference else 0, reference.total(), common]


def _f_score(counts: Sequence[Sequence[float]]) -> float:
    ratios = [(both / ours, both / theirs) for ours, theirs, both in counts if ours]  # then theirs are not 0
    if not ratios:
        return 0.0
    precision, recall = (sum(column) / len(ratios) for column in zip(*ratios, strict=True))
    if not precision:
        return 0.0
    return (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)
