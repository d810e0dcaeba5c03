"""How far generated images are from real ones by their coarse pixels: cheap enough for every validation."""

import numpy as np
import tensorflow as tf

from lightkeras.metrics.gan import frechet_distance_of_gaussians
from lightkeras.metrics.statistics import CorpusMetric
from lightkeras.utils.checks import require

SIDE = 8  # pixels that images are shrunk to
_COARSE = (SIDE**2, 3 * SIDE**2)  # numbers of a gray or a coloured image


class PixelFrechetDistance(CorpusMetric):
    """Fréchet distance (Heusel et al. 2017) of real and generated images that are shrunk to 8 x 8 pixels.

    FID without a network: the Gaussians are those of pixels from 0 to 1. It sees the images' large shapes, how these
    vary together and whether some are missing, no detail; it ranks the models and epochs of one data set, measured with
    one number of images.

        distance = PixelFrechetDistance.of(real, generated).result()

    Args:
        sums: The number of pairs, and of the real and of the generated images the sum of every pixel and of every
            product of two.
    """

    sizes = tuple(1 + 2 * (dim + dim**2) for dim in _COARSE)

    @classmethod
    def of(cls, real: np.ndarray, generated: np.ndarray, kept: np.ndarray | None = None) -> "PixelFrechetDistance":
        """Those of a batch of images.

        Args:
            real: float32 (n, height, width, 1 or 3) from 0 to 1.
            generated: As many of them.
            kept: Which pairs count, bool (n,), as those that pad a batch do not; None: all.

        Raises:
            ValueError: They are no such images, or not of one shape.
        """
        require(real.ndim == 4 and real.shape[-1] in (1, 3), "real", "(n, height, width, 1 or 3)", real.shape)
        require(generated.shape == real.shape, "generated", f"the real images' shape {real.shape}", generated.shape)
        kept = np.ones(len(real), bool) if kept is None else kept
        return cls(np.concatenate([[kept.sum()], *(_moments(images, kept) for images in (real, generated))]))

    def _figure(self) -> float:
        pairs, *_ = self.sums
        both = np.split(self.sums[1:], 2)
        return frechet_distance_of_gaussians(*_gaussian(both[0], pairs), *_gaussian(both[1], pairs))


def _moments(images, kept) -> np.ndarray:
    """Sums of pixels, which are rounded to multiples of 2^-16 so that they are exact, and of products of two.

    Returns:
        (dim + dim ** 2,) of images (n, height, width, channels).
    """
    shrunk = tf.image.resize(images, (SIDE, SIDE), method="area").numpy()
    pixels = np.round(shrunk.reshape(len(images), -1)[kept].astype(np.float64) * 2.0**16) / 2.0**16
    return np.concatenate([pixels.sum(axis=0), (pixels.T @ pixels).ravel()])


def _gaussian(sums: np.ndarray, n: float) -> tuple[np.ndarray, np.ndarray]:
    dim = next(dim for dim in _COARSE if len(sums) == dim + dim**2)
    mean, products = sums[:dim] / n, sums[dim:].reshape(dim, dim)
    return mean, (products - n * np.outer(mean, mean)) / max(n - 1, 1)
