"""Nearest neighbours of images in pixel space: copies of training images, and how much of the real ones is covered."""

import numpy as np

from lightkeras.utils.checks import require

BLOCK = 4096  # references whose distances are computed at once


def find_nearest(images: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds the reference nearest to every image: numbers int64 (n,) and Euclidean distances float32 (n,).

    Args:
        images: uint8 (n, height, width, channels).
        references: uint8 (m, height, width, channels). Distances are those of pixels from 0 to 1.
    """
    queries, nearest = flatten(images), np.zeros(len(images), np.int64)
    best = np.full(len(images), np.inf, np.float32)
    for start in range(0, len(references), BLOCK):
        block = flatten(references[start : start + BLOCK])
        distances = np.square(block).sum(axis=1) - 2 * (queries @ block.T)  # (n, block), without |query|^2
        nearest = np.where(distances.min(axis=1) < best, start + distances.argmin(axis=1), nearest)
        best = np.minimum(best, distances.min(axis=1))
    return nearest, np.linalg.norm(queries - flatten(references[nearest]), axis=1)


def coverage(real: np.ndarray, generated: np.ndarray, neighbours: int = 5) -> float:
    """Share of the real images that have a generated image nearer than their `neighbours`-th nearest real image.

    Coverage of Naeem et al. 2020, in pixel space. It is 0 if the generated images are far from all real ones, and low
    if they show few kinds of them.

    Args:
        real: uint8 (n, height, width, channels).
        generated: uint8 (m, height, width, channels).
        neighbours: Rank of the real neighbour whose distance is the radius; at most n - 1 counts.

    Raises:
        ValueError: Fewer than 2 real images, or no generated one.
    """
    require(len(real) > 1, "real", "at least 2 images", len(real))
    require(len(generated) > 0, "generated", "at least one image", len(generated))
    own, others = flatten(real), flatten(generated)
    within = np.sort(_distances(own, own), axis=1)[:, min(neighbours, len(real) - 1)]  # the first is the image itself
    return float(np.mean(_distances(own, others).min(axis=1) < within))


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances (n, m) of rows (n, pixels) and (m, pixels)."""
    return np.maximum(np.square(a).sum(axis=1)[:, None] - 2 * (a @ b.T) + np.square(b).sum(axis=1), 0.0)


def flatten(images: np.ndarray) -> np.ndarray:
    """Returns images as rows of pixels from 0 to 1: float32 (n, pixels)."""
    return images.reshape(len(images), -1).astype(np.float32) / 255
