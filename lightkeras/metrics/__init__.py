"""Metrics as sums with weights: they merge by adding, over steps, micro-batches, replicas and workers.

Beside them, what is computed from a model's outputs: `evaluate_gan`.
"""

from lightkeras.metrics.gan import Labelled, classifier_score, evaluate_gan, frechet_distance
from lightkeras.metrics.sums import BitsPerCharacter, Mean, Perplexity

__all__ = [
    "BitsPerCharacter", "Labelled", "Mean", "Perplexity", "classifier_score", "evaluate_gan", "frechet_distance",
]  # fmt: skip
