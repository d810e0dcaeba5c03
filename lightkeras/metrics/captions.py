"""BLEU, ROUGE-L and CIDEr-D of image captions, as the COCO caption evaluation (pycocoevalcap) computes them.

All take tokens joined by single spaces, as `tokenize_caption` returns them. The values lie between 0 and 1, those of
CIDEr-D between 0 and 10; papers print a hundred times as much.
"""

import math
from collections import Counter
from collections.abc import Iterable

import numpy as np
from nltk.util import everygrams

from lightkeras.metrics.bleu import ngram_statistics
from lightkeras.metrics.statistics import CorpusMetric, check_corpus, check_references, on_grid
from lightkeras.utils.checks import require, require_int

ORDER = 4
TINY, SMALL = 1e-15, 1e-9  # the COCO evaluation's constants against divisions by 0
BETA = 1.2  # weight of recall in ROUGE-L
SIGMA = 6.0  # standard deviation of CIDEr-D's length penalty, in words


class CaptionBLEU(CorpusMetric):
    """Corpus BLEU-4 of captions; `up_to` gives BLEU-1, -2 and -3."""

    sizes = tuple(3 + 2 * order for order in range(1, ORDER + 1))

    @classmethod
    def from_sentences(cls, hypotheses: Iterable[str], references: Iterable) -> "CaptionBLEU":
        """Counts the n-grams of some captions.

        Args:
            hypotheses: A tokenized caption for each image.
            references: A list of tokenized captions for each image.

        Raises:
            ValueError: No image, differing lengths, an image without references, or anything but strings.
        """
        pairs = check_corpus(hypotheses, references)
        counts = np.sum([ngram_statistics(h.split(), [r.split() for r in refs], ORDER) for h, refs in pairs], axis=0)
        return cls([len(pairs), *counts])

    @property
    def order(self) -> int:
        """Words in the longest n-grams."""
        return (len(self.sums) - 3) // 2

    def up_to(self, order: int) -> "CaptionBLEU":
        """BLEU of the n-grams up to `order`."""
        require_int("order", order)
        require(order <= self.order, "order", f"at most {self.order}", order)
        matches, totals = self._counts()
        return CaptionBLEU([*self.sums[:3], *matches[:order], *totals[:order]])

    def _counts(self) -> np.ndarray:
        return self.sums[3:].reshape(2, self.order)  # matches and totals

    def _figure(self) -> float:
        length, reference_length = self.sums[1:3]
        matches, totals = self._counts()
        precision = np.prod((matches + TINY) / (totals + SMALL)) ** (1 / self.order)
        ratio = (length + TINY) / (reference_length + SMALL)
        return precision * (math.exp(1 - 1 / ratio) if ratio < 1 else 1.0)


class ROUGEL(CorpusMetric):
    """Mean of the images' ROUGE-L (Lin 2004): the F-score, beta 1.2, of longest common subsequences.

    The best precision and the best recall of an image count, each over all references.
    """

    sizes = (2,)

    @classmethod
    def from_sentences(cls, hypotheses: Iterable[str], references: Iterable) -> "ROUGEL":
        """Scores some captions; arguments and errors as of `CaptionBLEU.from_sentences`."""
        scores = [on_grid(_rouge_l(*pair)) for pair in check_corpus(hypotheses, references)]
        return cls([len(scores), sum(scores)])

    def _figure(self) -> float:
        return self.sums[1] / self.sums[0]


def _rouge_l(hypothesis: str, references: list[str]) -> float:
    words = hypothesis.split(" ")  # as in the COCO evaluation, an empty text is one empty word
    others = [reference.split(" ") for reference in references]
    common = [longest_common_subsequence(words, other) for other in others]
    precision = max(common) / len(words)
    recall = max(length / len(other) for length, other in zip(common, others, strict=True))
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision) if precision else 0.0


def longest_common_subsequence(first: list[str], second: list[str]) -> int:
    """The length of the longest common subsequence, by bit-parallel dynamic programming (Hyyrö 2004)."""
    places = {word: sum(1 << i for i, other in enumerate(first) if other == word) for word in set(first)}
    row = full = (1 << len(first)) - 1  # a bit for each word of `first`, 0 where the table's row grows by 1
    for word in second:
        matches = row & places.get(word, 0)
        row = (row + matches | row - matches) & full
    return len(first) - row.bit_count()


class DocumentFrequencies:
    """Counts, for every n-gram, the images whose references contain it: CIDEr-D weights n-grams by this.

    Args:
        references: A list of tokenized references for each image of the whole evaluation, of every batch and worker.
            With a single image, all weights are 0, and so is CIDEr-D.

    Raises:
        ValueError: No image, an image without references, or anything but strings.
    """

    def __init__(self, references: Iterable):
        references = check_references(references)
        self.images = len(references)
        self._counts = Counter(ngram for refs in references for ngram in set().union(*map(_ngrams, refs)))

    def weight(self, ngram: tuple[str, ...]) -> float:
        """log(images / images with the n-gram); an unknown n-gram counts as one with a single image."""
        return math.log(self.images) - math.log(max(1, self._counts[ngram]))


def _ngrams(text: str) -> Counter:
    return Counter(everygrams(text.split(), max_len=ORDER))


class CIDErD(CorpusMetric):
    """Mean of the images' CIDEr-D (Vedantam et al. 2015), from 0 to 10.

    The cosine of TF-IDF vectors of n-grams up to 4, counts clipped to the reference's, with a Gaussian penalty (sigma
    6) on the difference of lengths; a mean over the orders and the references.
    """

    sizes = (2,)

    @classmethod
    def from_sentences(
        cls, hypotheses: Iterable[str], references: Iterable, frequencies: DocumentFrequencies
    ) -> "CIDErD":
        """Scores some captions.

        Args:
            hypotheses: A tokenized caption for each image.
            references: A list of tokenized captions for each image.
            frequencies: `DocumentFrequencies` of the whole evaluation's references, not of these images' alone.

        Raises:
            ValueError: No image, differing lengths, an image without references, or anything but strings.
        """
        known = isinstance(frequencies, DocumentFrequencies)
        require(known, "frequencies", "DocumentFrequencies of all references", frequencies)
        scores = [on_grid(_cider(*pair, frequencies)) for pair in check_corpus(hypotheses, references)]
        return cls([len(scores), sum(scores)])

    def _figure(self) -> float:
        return self.sums[1] / self.sums[0]


def _cider(hypothesis: str, references: list[str], frequencies: DocumentFrequencies) -> float:
    ours = _vectors(hypothesis, frequencies)
    scores = []
    for reference in references:
        penalty = math.exp(-((len(hypothesis.split()) - len(reference.split())) ** 2) / (2 * SIGMA**2))
        scores += [penalty * cosine for cosine in map(_cosine, ours, _vectors(reference, frequencies))]
    return 10 * math.fsum(scores) / len(scores)


def _vectors(text: str, frequencies: DocumentFrequencies) -> list[dict[tuple[str, ...], float]]:
    """TF-IDF vectors of the n-grams, one for each order."""
    vectors = [{} for _ in range(ORDER)]
    for ngram, count in _ngrams(text).items():
        vectors[len(ngram) - 1][ngram] = count * frequencies.weight(ngram)
    return vectors


def _cosine(ours: dict, theirs: dict) -> float:
    """Cosine similarity, with entries of `ours` clipped to `theirs`; 0 where a vector is 0."""
    norms = math.hypot(*ours.values()) * math.hypot(*theirs.values())
    return sum(min(value, theirs[key]) * theirs[key] for key, value in ours.items() if key in theirs) / (norms or 1.0)
