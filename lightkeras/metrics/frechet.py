"""The Fréchet distance of two Gaussians, or of two sets of features."""

import numpy as np


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Fréchet distance of the Gaussians of two sets of features (Heusel et al. 2017).

    `|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))` with means m and covariances C.

    Args:
        first: Features (n, dim).
        second: Features (m, dim).
    """
    return gaussian_frechet_distance(*_moments(first), *_moments(second))


def _moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    features = np.asarray(features, np.float64)
    return features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False))


def gaussian_frechet_distance(mean1, covariance1, mean2, covariance2) -> float:
    """The distance of N(mean1, covariance1) and N(mean2, covariance2): means (dim,), covariances (dim, dim).

    The square root's trace is the sum of the square roots of the eigenvalues of `C1^(1/2) C2 C1^(1/2)`. These are real
    and not negative even where covariances are singular, as with fewer images than features.
    """
    values, vectors = np.linalg.eigh(covariance1)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    eigenvalues = np.linalg.eigvalsh(root @ covariance2 @ root)
    cross = np.sqrt(np.maximum(eigenvalues, 0)).sum()
    squared = np.square(np.subtract(mean1, mean2)).sum()
    return float(max(squared + np.trace(covariance1) + np.trace(covariance2) - 2 * cross, 0.0))
