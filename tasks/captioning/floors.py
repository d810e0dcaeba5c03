"""Captions made without a model that describes: what a trained one has to be better than."""

import collections

import numpy as np

import lightkeras as lk
from tasks.captioning.data import CaptionData


def most_frequent(data: CaptionData, split: str = "test") -> list[str]:
    """The most frequent training caption, tokenized, for every photo of a split."""
    captions = (lk.metrics.tokenize_caption(text) for of_photo in data.references("train") for text in of_photo)
    ((caption, _),) = collections.Counter(captions).most_common(1)
    return [caption] * len(data.references(split))


def nearest(data: CaptionData, split: str = "test") -> list[str]:
    """The first caption, tokenized, of the training photo that is most like each photo of a split.

    Photos are alike by the cosine of their features' means over the places; drawn scenes by that of their pixels.
    """
    known, captions = pooled(data, "train"), data.references("train")
    similar = pooled(data, split) @ known.T  # (photos, training photos)
    return [lk.metrics.tokenize_caption(captions[place][0]) for place in similar.argmax(axis=1)]


def pooled(data: CaptionData, split: str) -> np.ndarray:
    """A vector of length 1 for each photo of a split, float32 (photos, features)."""
    from_pixels = data.input_name == "image"
    parts = [part.reshape(len(part), -1) if from_pixels else part.mean(axis=1) for part in data.inputs(split)]
    vectors = np.concatenate(parts)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
