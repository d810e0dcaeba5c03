"""What is wrong with generated texts and with the attention they were made by, in plain figures."""

from collections.abc import Iterable

import numpy as np

from lightkeras.metrics.sums import WeightedMean
from lightkeras.utils.checks import require, require_int


def empty_share(texts: Iterable[str]) -> float:
    """Share of the texts that hold nothing but whitespace; ValueError without any text."""
    return float(np.mean([not text.strip() for text in _checked(texts)]))


def repeating_share(texts: Iterable[str], times: int = 4) -> float:
    """Share of the texts that repeat themselves without end, as `is_repeating` tells; ValueError without any text."""
    return float(np.mean([is_repeating(text, times) for text in _checked(texts)]))


def distinct_share(texts: Iterable[str]) -> float:
    """Different texts among all: 1 where no two are equal; ValueError without any text. It does not add up."""
    texts = _checked(texts)
    return len(set(texts)) / len(texts)


def _checked(texts) -> list[str]:
    require(not isinstance(texts, str | bytes), "texts", "a list of str", texts)
    texts = list(texts)
    require(len(texts) > 0, "texts", "at least one text", texts)
    for index, text in enumerate(texts):
        require(isinstance(text, str), f"texts[{index}]", "a str", text)
    return texts


def is_repeating(text: str, times: int = 4) -> bool:
    """Whether words, or a sequence of words of any length, stand in `text` at least `times` times in a row."""
    require_int("times", times, minimum=2)
    words = text.split()
    return any(_longest_period(words, n) >= n * (times - 1) for n in range(1, len(words) // times + 1))


def _longest_period(words: list[str], period: int) -> int:
    """Most words in a row that are equal to the word `period` before them."""
    longest = run = 0
    for before, word in zip(words[:-period], words[period:], strict=True):
        run = run + 1 if before == word else 0
        longest = max(longest, run)
    return longest


def attention_entropy(
    attention: np.ndarray, target_mask: np.ndarray, source_mask: np.ndarray | None = None
) -> WeightedMean:
    """Entropy of where the decoder looks, in nats: 0 for a single slot, ln(slots) for all alike.

    Args:
        attention: Weights (batch, steps, slots), which sum to 1 over the real slots at each real step.
        target_mask: True (or 1) for the real target tokens, (batch, steps).
        source_mask: True (or 1) for the real source tokens, (batch, slots); None where all are.

    Returns:
        Sum over the real target tokens, and their number: `WeightedMean.result(*mean)` is the mean, batches add up.

    Raises:
        ValueError: Other shapes, or weights that are negative or do not sum to 1 (within 0.02, for half precision).
    """
    attention, target_mask, _ = _checked_attention(attention, target_mask, source_mask)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(attention > 0, -attention * np.log(attention), 0.0)  # (batch, steps, slots)
    return WeightedMean(float(terms.sum()), float(target_mask.sum()))


def attention_coverage(
    attention: np.ndarray, target_mask: np.ndarray, source_mask: np.ndarray | None = None
) -> WeightedMean:
    """How much of the source was looked at: mean over its tokens of min(1, attention on it, summed over the steps).

    Args, errors:
        As of `attention_entropy`.

    Returns:
        Sum over the real source tokens, and their number: `WeightedMean.result(*mean)` is the mean, batches add up.
    """
    attention, _, source_mask = _checked_attention(attention, target_mask, source_mask)
    covered = np.minimum(attention.sum(axis=1), 1.0)  # (batch, slots)
    return WeightedMean(float(covered.sum()), float(source_mask.sum()))


def _checked_attention(attention, target_mask, source_mask):
    """All three in float64; the attention of padding, on either side, 0."""
    attention = np.asarray(attention, np.float64)
    require(attention.ndim == 3, "attention", "of the shape (batch, steps, slots)", attention.shape)
    batch, steps, slots = attention.shape
    target_mask = _checked_mask("target_mask", target_mask, (batch, steps))
    source_mask = _checked_mask("source_mask", np.ones((batch, slots)) if source_mask is None else source_mask,
                                (batch, slots))  # fmt: skip
    real = (target_mask[:, :, None] * source_mask[:, None, :]).astype(bool)  # (batch, steps, slots)
    attention = np.where(real, attention, 0.0)
    require(bool((attention >= 0).all()), "attention", "at least 0", float(attention.min()))
    sums = attention.sum(axis=2)[target_mask > 0]
    off = sums[np.abs(sums - 1) > 0.02]
    require(len(off) == 0, "attention", "weights that sum to 1 over the real slots", off[:3].tolist())
    return attention, target_mask, source_mask


def _checked_mask(name: str, mask, shape: tuple[int, int]) -> np.ndarray:
    mask = np.asarray(mask, np.float64)
    require(mask.shape == shape, name, f"of the shape {shape}", mask.shape)
    require(bool(np.isin(mask, (0, 1)).all()), name, "of 0 and 1", np.unique(mask)[:5].tolist())
    return mask
