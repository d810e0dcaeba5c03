"""The Fréchet distance of coarse pixels: cheap enough for every validation."""

import numpy as np
import tensorflow as tf

from lightkeras.metrics.frechet import gaussian_frechet_distance
from lightkeras.metrics.statistics import CorpusMetric
from lightkeras.utils.checks import require

SIDE = 8  # pixels of a shrunk image's side
_COARSE = (SIDE**2, 3 * SIDE**2)  # values of a gray or a coloured image


class PixelFrechetDistance(CorpusMetric):
    """Fréchet distance (Heusel et al. 2017) of real and generated images that are shrunk to 8 x 8 pixels.

    This is FID without a network: the Gaussians are those of pixels from 0 to 1. It sees large shapes, how they vary
    together and whether some are missing, but no detail. It ranks the models and epochs of one data set, measured with
    one number of images.

        distance = PixelFrechetDistance.from_images(real, generated).result()

    Args:
        sums: The number of pairs; then, for the real and for the generated images, the sum of every pixel and of every
            product of two pixels.
    """

    sizes = tuple(1 + 2 * (dim + dim**2) for dim in _COARSE)

    @classmethod
    def from_images(
        cls, real: np.ndarray, generated: np.ndarray, kept: np.ndarray | None = None
    ) -> "PixelFrechetDistance":
        """Adds up the pixels of a batch of images.

        Args:
            real: float32 (n, height, width, 1 or 3) from 0 to 1.
            generated: Images of the same shape.
            kept: The pairs that count, bool (n,): False for rows that pad a batch. None: all.

        Raises:
            ValueError: `real` has another shape, or `generated` has not the same.
        """
        require(real.ndim == 4 and real.shape[-1] in (1, 3), "real", "(n, height, width, 1 or 3)", real.shape)
        require(generated.shape == real.shape, "generated", f"the real images' shape {real.shape}", generated.shape)
        kept = np.ones(len(real), bool) if kept is None else kept
        return cls(np.concatenate([[kept.sum()], *(_add_up(images, kept) for images in (real, generated))]))

    def _figure(self) -> float:
        pairs, *_ = self.sums
        both = np.split(self.sums[1:], 2)
        return gaussian_frechet_distance(*_gaussian(both[0], pairs), *_gaussian(both[1], pairs))


def _add_up(images: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Sums of the pixels and of the products of two pixels of images (n, height, width, channels): (dim + dim ** 2,).

    Pixels are rounded to multiples of 2^-16, so that the sums are exact.
    """
    shrunk = tf.image.resize(images, (SIDE, SIDE), method="area").numpy()
    pixels = np.round(shrunk.reshape(len(images), -1)[kept].astype(np.float64) * 2.0**16) / 2.0**16
    return np.concatenate([pixels.sum(axis=0), (pixels.T @ pixels).ravel()])


def _gaussian(sums: np.ndarray, n: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean (dim,) and covariance (dim, dim)."""
    dim = next(dim for dim in _COARSE if len(sums) == dim + dim**2)
    mean, products = sums[:dim] / n, sums[dim:].reshape(dim, dim)
    return mean, (products - n * np.outer(mean, mean)) / max(n - 1, 1)
