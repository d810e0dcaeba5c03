"""The COCO caption evaluation's figures of captions."""

from collections.abc import Iterable

import lightkeras as lk

NAMES = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "cider", "rouge_l")


def tokenized(captions: Iterable[Iterable[str]]) -> list[list[str]]:
    """The captions of each photo as the evaluation compares them."""
    return [[lk.metrics.tokenize_caption(caption) for caption in of_photo] for of_photo in captions]


def figures(
    texts: list[str], references: list[list[str]], frequencies: lk.metrics.DocumentFrequencies | None
) -> dict[str, lk.metrics.CorpusMetric]:
    """BLEU-1 to -4 and ROUGE-L, from 0 to 1, and CIDEr-D, from 0 to 10, as statistics that add up.

    Args:
        texts: A caption of each photo, tokenized; there may be none.
        references: The tokenized captions of each photo.
        frequencies: Of the references of the whole split; None where there are no texts.
    """
    if not texts:  # of a worker that has only padding
        bleu, cider, rouge = (kind.zero() for kind in (lk.metrics.CaptionBLEU, lk.metrics.CIDErD, lk.metrics.ROUGEL))
    else:
        bleu, rouge = (
            lk.metrics.CaptionBLEU.from_sentences(texts, references),
            lk.metrics.ROUGEL.from_sentences(texts, references),
        )
        cider = lk.metrics.CIDErD.from_sentences(texts, references, frequencies)
    orders = {f"bleu_{order}": bleu.up_to(order) for order in range(1, bleu.order + 1)}
    return {**orders, "cider": cider, "rouge_l": rouge}
