"""The figures of generated images, without a download: a small classifier of the data set stands for Inception.

The Fréchet distance and the classifier score use the formulas of FID and Inception Score, but the features and classes
of a small network that is trained on the data set itself. They rank models of one data set; they are not FID and cannot
be compared with published numbers. Both depend on the number of images N (fewer images, larger distances), so
`evaluate_gan` uses one N for all sets of images and returns it.
"""

import os

import keras
import numpy as np

from lightkeras.metrics.frechet import frechet_distance
from lightkeras.metrics.image_classifier import (
    VERSION,
    LabelledImages,
    check_images,
    check_labelled,
    classify,
    load_or_train,
    permutation,
)
from lightkeras.metrics.neighbours import find_nearest
from lightkeras.utils.checks import require, require_int

COVERED = 0.1  # a class with this share of an even share of the images is covered


def evaluate_gan(
    images: np.ndarray, train: LabelledImages, test: LabelledImages, *, neighbours: int = 1000,
    cache: str | os.PathLike | None = None,
) -> dict:  # fmt: skip
    """Evaluates generated images, beside real test images (the floor) and noise (the ceiling).

    Args:
        images: Generated images, uint8 (n, height, width, channels). The first N = min(n, test images) are used, and N
            test images and N images of uniform noise.
        train: The generator's training images: the classifier learns them, and distances are measured to them.
        test: Held-out images.
        neighbours: Images whose nearest training image is looked for: the slowest part.
        cache: Folder of the classifier's weights; see `image_classifier.load_or_train`.

    Returns:
        `{"images": N, "classifier_accuracy": ..., "generated": {...}, "real": {...}, "noise": {...}}`, where each of
        the three has `frechet_distance` (to the features of all training images), `classifier_score`,
        `classes_covered`, `class_entropy` (nats) and `nearest_distance` (mean distance of the first `neighbours`
        images to the nearest training image; a generator that copies has a much smaller one than real images).

    Raises:
        ValueError: Images of another shape or dtype, labels missing, or fewer than 2 images.
    """
    check_labelled("train", train)
    check_labelled("test", test, train.images.shape[1:])
    check_images("images", images, train.images.shape[1:])
    require_int("neighbours", neighbours)
    n = min(len(images), len(test.images))
    require(n >= 2, "images", "at least 2, and as many test images", n)
    model = load_or_train(train, cache)
    reference, _ = classify(model, train.images)
    accuracy = np.mean(classify(model, test.images)[1].argmax(axis=1) == test.labels)
    noise = np.random.Generator(np.random.Philox(key=VERSION)).integers(0, 256, (n, *images.shape[1:]), np.uint8)
    real = test.images[permutation(VERSION, len(test.images))[:n]]  # MNIST has the easy test images first
    sets = {"generated": images[:n], "real": real, "noise": noise}
    figures = {name: _evaluate(model, some, reference, train.images, neighbours) for name, some in sets.items()}
    return {"images": n, "classifier_accuracy": float(accuracy), **figures}


def _evaluate(model: keras.Model, images, reference, train_images, neighbours: int) -> dict[str, float]:
    features, probabilities = classify(model, images)
    histogram = class_histogram(probabilities)
    return {
        "frechet_distance": frechet_distance(features, reference),
        "classifier_score": classifier_score(probabilities),
        "classes_covered": classes_covered(histogram),
        "class_entropy": class_entropy(histogram),
        "nearest_distance": float(find_nearest(images[:neighbours], train_images)[1].mean()),
    }


def classifier_score(probabilities: np.ndarray) -> float:
    """`exp(mean KL(p(y|x) || p(y)))` (Salimans et al. 2016): from 1 to the number of classes; no splits.

    Args:
        probabilities: p(y|x), (n, classes).
    """
    p = np.asarray(probabilities, np.float64)
    marginal = p.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * (np.log(p) - np.log(marginal)), 0.0)
    return float(np.exp(terms.sum(axis=1).mean()))


def class_histogram(probabilities: np.ndarray) -> np.ndarray:
    """Number of images of every class, by the most probable one: (classes,)."""
    return np.bincount(np.argmax(probabilities, axis=1), minlength=probabilities.shape[1])


def classes_covered(histogram: np.ndarray) -> int:
    """Number of classes with at least a tenth of an even share of the images: 1 % of them for ten classes.

    A single image does not suffice: the classifier mistakes some images of other classes for a missing class.
    """
    return int(np.sum(histogram >= COVERED * histogram.sum() / len(histogram)))


def class_entropy(histogram: np.ndarray) -> float:
    """Entropy of the classes' shares, in nats: ln(classes) for equal shares."""
    shares = histogram[histogram > 0] / histogram.sum()
    return float(-np.sum(shares * np.log(shares)))
