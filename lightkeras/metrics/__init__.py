"""Metrics as sums with weights: they merge by adding, over steps, micro-batches, replicas and workers."""

from lightkeras.metrics.sums import BitsPerCharacter, Mean, Perplexity

__all__ = ["BitsPerCharacter", "Mean", "Perplexity"]
