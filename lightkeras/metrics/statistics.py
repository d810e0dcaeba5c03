"""Metrics of a corpus: sums over sentences (images) that merge by adding, and checks of the input."""

import math
from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np

from lightkeras.utils.checks import lightkeras_error, require
from lightkeras.version import __version__

GRID = 2.0**32  # scores, unlike counts, are rounded to multiples of 1 / GRID


class CorpusMetric:
    """Sums over sentences (images), from which `result` computes a figure of the whole corpus.

    A subclass has a constructor such as `from_sentences(hypotheses, references)`. The metrics of batches or workers are
    added (`a + b`), or their vectors are (`type(a).from_sums(a.sums + b.sums)`). However the corpus is cut, the result
    is the same to the last bit: the sums are counts, or scores rounded to multiples of 2^-32, so adding them is exact
    (up to 2^21 in all, 200,000 images).

    Args:
        sums: Vector (k,); the first is the number of sentences.

    Attributes:
        sums: The same, float64.
    """

    sizes: ClassVar[tuple[int, ...]]  # possible values of k; `zero()` has the last

    def __init__(self, sums: Sequence[float] | np.ndarray):
        self.sums = np.array(sums, np.float64)
        expected = f"a vector of {' or '.join(map(str, self.sizes))} sums"
        require(self.sums.ndim == 1 and len(self.sums) in self.sizes, "sums", expected, self.sums.shape)

    @classmethod
    def from_sums(cls, sums: Sequence[float] | np.ndarray) -> "CorpusMetric":
        """Makes the metric from added `sums` (k,)."""
        return cls(sums)

    @classmethod
    def zero(cls) -> "CorpusMetric":
        """Zero sums, for a worker without sentences."""
        return cls(np.zeros(cls.sizes[-1]))

    def __add__(self, other: "CorpusMetric") -> "CorpusMetric":
        if type(other) is not type(self):
            return NotImplemented
        require(self.sums.shape == other.sums.shape, "other", f"of {len(self.sums)} sums", len(other.sums))
        return type(self)(self.sums + other.sums)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.sums.tolist()})"

    def result(self) -> float:
        """The figure of the corpus; NaN where there was no sentence."""
        return float(self._figure()) if self.sums[0] else math.nan

    def _figure(self) -> float:
        raise lightkeras_error(NotImplementedError)(f"{type(self).__name__} has no `_figure()`.")


class CorpusMetricWithSignature(CorpusMetric):
    """A metric with a signature, which is computed from its first four sums.

    They are the number of sentences, of references, the sum of the squares of each sentence's number of references,
    and the number of sentences that were converted to lower case.
    """

    header = 4
    tags: ClassVar[str]

    def __init__(self, sums: Sequence[float] | np.ndarray):
        super().__init__(sums)
        sentences, lowercased = self.sums[0], self.sums[3]
        require(lowercased in (0, sentences), "lowercased sentences", f"none or all {sentences:g}", float(lowercased))

    @property
    def signature(self) -> str:
        """Settings of the computation in the form of sacreBLEU's signatures, and the implementation: lightkeras."""
        sentences, references, squares, lowercased = self.sums[:4].astype(int)
        same = sentences > 0 and sentences * squares == references**2
        count = references // sentences if same else "var"
        return f"nrefs:{count}|case:{'lc' if lowercased else 'mixed'}|{self.tags}|impl:lightkeras.{__version__}"


def signed_header(pairs: list[tuple[str, list[str]]], lowercase: bool) -> list[int]:
    """The first four sums of `CorpusMetricWithSignature`, of hypotheses with their references."""
    counts = [len(references) for _, references in pairs]
    return [len(counts), sum(counts), sum(count**2 for count in counts), lowercase * len(counts)]


def on_grid(score: float) -> float:
    """Rounds to a multiple of 2^-32 (to 1.2e-10), so that sums of scores are exact in any order."""
    return round(score * GRID) / GRID


def check_references(references: Iterable[str | Iterable[str]]) -> list[list[str]]:
    """Turns references into lists, a single one per sentence too.

    Raises:
        ValueError: No sentence, a sentence without references, or anything but strings.
    """
    require(not isinstance(references, str | bytes), "references", "a list of lists of str", references)
    lists = [[entry] if isinstance(entry, str | bytes) else list(entry) for entry in references]
    require(len(lists) > 0, "references", "those of at least one sentence", lists)
    for index, entry in enumerate(lists):
        require(len(entry) > 0, f"references[{index}]", "at least one reference", entry)
        for reference in entry:
            require(isinstance(reference, str), f"references[{index}]", "strings", reference)
    return lists


def check_corpus(hypotheses: Iterable[str], references: Iterable) -> list[tuple[str, list[str]]]:
    """Pairs every hypothesis with its references.

    Raises:
        ValueError: As `check_references`; or the lengths differ, or a hypothesis is not a str.
    """
    require(not isinstance(hypotheses, str | bytes), "hypotheses", "a list of str", hypotheses)
    hypotheses = list(hypotheses)
    require(len(hypotheses) > 0, "hypotheses", "at least one sentence", hypotheses)
    for index, hypothesis in enumerate(hypotheses):
        require(isinstance(hypothesis, str), f"hypotheses[{index}]", "a str", hypothesis)
    references = check_references(references)
    expected = f"{len(hypotheses)} lists of references, one for each hypothesis"
    require(len(references) == len(hypotheses), "references", expected, len(references))
    return list(zip(hypotheses, references, strict=True))
