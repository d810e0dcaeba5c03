"""Metrics as sums with weights: they merge by adding, over steps, micro-batches, replicas and workers.

Metrics of a model's outputs are sums too (`CorpusMetric`): `BLEU` and `ChrF` of translations, `CaptionBLEU`, `ROUGEL`
and `CIDErD` of captions, `PixelFrechetDistance` of images. `evaluate_gan` evaluates generated images. Everything is
imported on first use: NLTK takes a second, and a training without texts does not wait for it.
"""

import importlib

_HOMES = {
    "bleu": ("BLEU", "CharacterBLEU", "ChineseBLEU", "tokenize_13a"),
    "caption_tokens": ("tokenize_caption",),
    "captions": ("CIDErD", "CaptionBLEU", "DocumentFrequencies", "ROUGEL"),
    "chrf": ("ChrF",),
    "diagnostics": (
        "attention_coverage", "attention_entropy", "distinct_share", "empty_share", "is_repeating", "repeating_share",
    ),
    "frechet": ("frechet_distance",),
    "gan_evaluation": ("classifier_score", "evaluate_gan"),
    "image_classifier": ("LabelledImages",),
    "neighbours": ("coverage", "find_nearest"),
    "pixels": ("PixelFrechetDistance",),
    "scripts": ("bleu_for", "lacks_spaces"),
    "statistics": ("CorpusMetric",),
    "sums": ("BitsPerCharacter", "WeightedMean", "Perplexity"),
}  # fmt: skip
_WHERE = {name: home for home, names in _HOMES.items() for name in names}

__all__ = list(_WHERE)


def __getattr__(name: str):
    if name in _HOMES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _WHERE:
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])
