"""Figures that show faults of generated texts and of the attention behind them."""

from collections.abc import Iterable

import numpy as np

from lightkeras.metrics.sums import WeightedMean
from lightkeras.utils.checks import require, require_int


def empty_share(texts: Iterable[str]) -> float:
    """Share of the texts without anything but whitespace; raises ValueError without any text."""
    return float(np.mean([not text.strip() for text in _check_texts(texts)]))


def repeating_share(texts: Iterable[str], times: int = 4) -> float:
    """Share of the texts for which `is_repeating` is True; raises ValueError without any text."""
    return float(np.mean([is_repeating(text, times) for text in _check_texts(texts)]))


def distinct_share(texts: Iterable[str]) -> float:
    """Number of different texts by number of texts: 1 where no two are equal. Shares of batches cannot be added.

    Raises:
        ValueError: There is no text.
    """
    texts = _check_texts(texts)
    return len(set(texts)) / len(texts)


def _check_texts(texts) -> list[str]:
    require(not isinstance(texts, str | bytes), "texts", "a list of str", texts)
    texts = list(texts)
    require(len(texts) > 0, "texts", "at least one text", texts)
    for index, text in enumerate(texts):
        require(isinstance(text, str), f"texts[{index}]", "a str", text)
    return texts


def is_repeating(text: str, times: int = 4) -> bool:
    """Whether `text` has a word, or a sequence of words of any length, at least `times` times in a row."""
    require_int("times", times, minimum=2)
    words = text.split()
    return any(_longest_period(words, n) >= n * (times - 1) for n in range(1, len(words) // times + 1))


def _longest_period(words: list[str], period: int) -> int:
    """The longest run of words that equal the word `period` places before."""
    longest = run = 0
    for before, word in zip(words[:-period], words[period:], strict=True):
        run = run + 1 if before == word else 0
        longest = max(longest, run)
    return longest


def attention_entropy(
    attention: np.ndarray, target_mask: np.ndarray, source_mask: np.ndarray | None = None
) -> WeightedMean:
    """Mean entropy of the attention, in nats: 0 on a single slot, ln(slots) for equal weights.

    Args:
        attention: Weights (batch, steps, slots), which sum to 1 over the real slots at each real step.
        target_mask: True (or 1) for real target tokens, (batch, steps).
        source_mask: True (or 1) for real source tokens, (batch, slots); None: all are real.

    Returns:
        The sum over the real target tokens, and their number. Batches can be added.

    Raises:
        ValueError: Shapes do not match, or weights are negative or do not sum to 1 (within 0.02, for half precision).
    """
    attention, target_mask, _ = _check_attention(attention, target_mask, source_mask)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(attention > 0, -attention * np.log(attention), 0.0)  # (batch, steps, slots)
    return WeightedMean(float(terms.sum()), float(target_mask.sum()))


def attention_coverage(
    attention: np.ndarray, target_mask: np.ndarray, source_mask: np.ndarray | None = None
) -> WeightedMean:
    """Mean over the source tokens of min(1, attention on the token, summed over the steps): 1 if all was attended to.

    Arguments and errors as of `attention_entropy`.

    Returns:
        The sum over the real source tokens, and their number. Batches can be added.
    """
    attention, _, source_mask = _check_attention(attention, target_mask, source_mask)
    covered = np.minimum(attention.sum(axis=1), 1.0)  # (batch, slots)
    return WeightedMean(float(covered.sum()), float(source_mask.sum()))


def _check_attention(attention, target_mask, source_mask):
    """Converts all three to float64, and sets the attention from and to padding to 0."""
    attention = np.asarray(attention, np.float64)
    require(attention.ndim == 3, "attention", "of the shape (batch, steps, slots)", attention.shape)
    batch, steps, slots = attention.shape
    target_mask = _check_mask("target_mask", target_mask, (batch, steps))
    source_mask = _check_mask("source_mask", np.ones((batch, slots)) if source_mask is None else source_mask,
                                (batch, slots))  # fmt: skip
    real = (target_mask[:, :, None] * source_mask[:, None, :]).astype(bool)  # (batch, steps, slots)
    attention = np.where(real, attention, 0.0)
    require(bool((attention >= 0).all()), "attention", "at least 0", float(attention.min()))
    sums = attention.sum(axis=2)[target_mask > 0]
    off = sums[np.abs(sums - 1) > 0.02]
    require(len(off) == 0, "attention", "weights that sum to 1 over the real slots", off[:3].tolist())
    return attention, target_mask, source_mask


def _check_mask(name: str, mask, shape: tuple[int, int]) -> np.ndarray:
    mask = np.asarray(mask, np.float64)
    require(mask.shape == shape, name, f"of the shape {shape}", mask.shape)
    require(bool(np.isin(mask, (0, 1)).all()), name, "of 0 and 1", np.unique(mask)[:5].tolist())
    return mask
