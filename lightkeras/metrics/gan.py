"""What generated images are worth, without a download: a small classifier of the data set stands for Inception.

The Fréchet distance and the classifier score have the formulas of FID and Inception Score, but the features and
classes of a small network that is trained on the data set itself. They rank models of one data set, measured with
one number of images N; they are no FID and cannot be compared with published ones. Both depend on N (fewer images,
larger distances), so every row of `evaluate_gan` is of the same N, and N stands in the result.
"""

import hashlib
import os
import pathlib
import zipfile
from typing import NamedTuple

import keras
import numpy as np

from lightkeras.utils.checks import require, require_int

VERSION = 1  # of the classifier: another one for another architecture or training
EPOCHS = 3
MIN_UPDATES = 400  # of a small data set, in more epochs
BATCH = 128
FEATURES = 64
ROWS = 500  # images at once
BLOCK = 4096  # training images whose distances are computed at once
COVERED = 0.1  # of its even share of the images makes a class covered


class Labelled(NamedTuple):
    """Images uint8 (n, height, width, channels) and their labels (n,), integers from 0 on."""

    images: np.ndarray
    labels: np.ndarray


# ---- the figures, from features and probabilities


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Fréchet distance of the Gaussians of two sets of features (Heusel et al. 2017).

    `|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))` with means m and covariances C.

    Args:
        first: Features (n, dim).
        second: Features (m, dim).
    """
    return frechet_distance_of_gaussians(*_moments(first), *_moments(second))


def _moments(features):
    features = np.asarray(features, np.float64)
    return features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False))


def frechet_distance_of_gaussians(mean1, covariance1, mean2, covariance2) -> float:
    """The distance of N(mean1, covariance1) and N(mean2, covariance2): means (dim,), covariances (dim, dim).

    The square root's trace is the sum of the square roots of the eigenvalues of `C1^(1/2) C2 C1^(1/2)`, which are real
    and not negative, so singular covariances (fewer images than features) do no harm.
    """
    values, vectors = np.linalg.eigh(covariance1)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    eigenvalues = np.linalg.eigvalsh(root @ covariance2 @ root)
    cross = np.sqrt(np.maximum(eigenvalues, 0)).sum()
    squared = np.square(np.subtract(mean1, mean2)).sum()
    return float(max(squared + np.trace(covariance1) + np.trace(covariance2) - 2 * cross, 0.0))


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
    """Classes with at least a tenth of their even share of the images: 1 % of them, of ten classes.

    A single image would not do: the classifier takes some images of other classes for one of a missing class.
    """
    return int(np.sum(histogram >= COVERED * histogram.sum() / len(histogram)))


def class_entropy(histogram: np.ndarray) -> float:
    """Entropy of the classes' shares, in nats: ln(classes) where all have the same."""
    shares = histogram[histogram > 0] / histogram.sum()
    return float(-np.sum(shares * np.log(shares)))


def nearest_distances(images: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Euclidean distance of every image to the nearest reference, pixels from 0 to 1: float32 (n,).

    Args:
        images: uint8 (n, height, width, channels).
        references: uint8 (m, height, width, channels).
    """
    queries, nearest = _flat(images), np.zeros(len(images), np.int64)
    best = np.full(len(images), np.inf, np.float32)
    for start in range(0, len(references), BLOCK):
        block = _flat(references[start : start + BLOCK])
        distances = np.square(block).sum(axis=1) - 2 * (queries @ block.T)  # (n, block), but for a constant of the row
        nearest = np.where(distances.min(axis=1) < best, start + distances.argmin(axis=1), nearest)
        best = np.minimum(best, distances.min(axis=1))
    return np.linalg.norm(queries - _flat(references[nearest]), axis=1)


def _flat(images):
    return images.reshape(len(images), -1).astype(np.float32) / 255  # (n, pixels)


# ---- the classifier


def image_classifier(train: Labelled, cache: str | os.PathLike | None = None) -> keras.Model:
    """A small convolutional network, trained on labelled images or read from the cache.

    On MNIST's 60,000 training images it takes about a minute on 2 cores, once, and tells 99.1 % of the test images
    right. The seeds are fixed.

    Args:
        train: What to learn.
        cache: Folder of the weights, `~/.keras/lightkeras` (or `$KERAS_HOME/lightkeras`) by default. The file's name
            is a digest of the images, the labels and this code's version.

    Returns:
        A model of images uint8 (n, height, width, channels) with the outputs features (n, 64) and logits (n, classes).
    """
    _check_labelled("train", train)
    path = _cache_folder(cache) / f"classifier-{_digest(train)}.npz"
    model = _network(train.images.shape[1:], int(train.labels.max()) + 1)
    if path.exists():
        _load(model, path)
    else:
        _train(model, train)
        _save(model, path)
    return model


def _load(model: keras.Model, path: pathlib.Path) -> None:
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            model.set_weights([file[f"{number}"] for number in range(len(model.weights))])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"Expected {path} to hold a classifier. Delete it to train it again. {error}") from error


def _save(model: keras.Model, path: pathlib.Path) -> None:
    """Writes to another name and renames, so that a partial file is never taken for a whole one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    with partial.open("wb") as file:
        np.savez(file, **{f"{number}": np.asarray(weight) for number, weight in enumerate(model.weights)})
    partial.replace(path)


def _cache_folder(cache) -> pathlib.Path:
    if cache is not None:
        return pathlib.Path(cache).expanduser()
    return pathlib.Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "lightkeras"


def _digest(train: Labelled) -> str:
    digest = hashlib.sha256(f"{VERSION} {train.images.shape}".encode())
    digest.update(np.ascontiguousarray(train.images).data)
    digest.update(np.ascontiguousarray(train.labels, np.int64).data)
    return digest.hexdigest()[:16]


def _network(shape, classes: int) -> keras.Model:
    def seeded(number):
        return keras.initializers.GlorotUniform(seed=number)

    images = keras.Input(shape, dtype="uint8")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, dtype="float32")(images)
    for number, filters in enumerate((16, 32)):
        x = keras.layers.Conv2D(
            filters, 5, padding="same", activation="relu", kernel_initializer=seeded(number), dtype="float32"
        )(x)
        x = keras.layers.MaxPooling2D(padding="same", dtype="float32")(x)
    x = keras.layers.Flatten(dtype="float32")(x)
    features = keras.layers.Dense(FEATURES, "relu", kernel_initializer=seeded(2), dtype="float32", name="features")(x)
    dropped = keras.layers.Dropout(0.3, seed=3, dtype="float32")(features)
    logits = keras.layers.Dense(classes, kernel_initializer=seeded(4), dtype="float32", name="logits")(dropped)
    return keras.Model(images, [features, logits])


def _train(model: keras.Model, train: Labelled) -> None:
    """Adam, its learning rate falling to 0 by a cosine."""
    epochs = max(EPOCHS, -(-MIN_UPDATES * BATCH // len(train.images)))
    updates = -(-epochs * len(train.images) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, updates)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss=[None, loss], jit_compile=False)
    epoch_keys = [[VERSION, epoch] for epoch in range(epochs)]
    order = np.concatenate([_permutation(key, len(train.images)) for key in epoch_keys])
    model.fit(train.images[order], train.labels[order], BATCH, shuffle=False, verbose=0)


def _look(model: keras.Model, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, 64) and probabilities (n, classes)."""
    features, logits = model.predict(images, batch_size=ROWS, verbose=0)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return features, shifted / shifted.sum(axis=1, keepdims=True)


# ---- all of it


def evaluate_gan(
    images: np.ndarray, train: Labelled, test: Labelled, *, neighbours: int = 1000,
    cache: str | os.PathLike | None = None,
) -> dict:  # fmt: skip
    """The figures of generated images, between those of real test images (the floor) and of noise (the ceiling).

    Args:
        images: Generated images, uint8 (n, height, width, channels). The first N count, N = min(n, test images), and
            as many test images and images of uniform noise.
        train: What the generator was trained on, to train the classifier, and to measure distances to.
        test: Images that it was not trained on.
        neighbours: Images whose nearest training image is looked for: the slowest part.
        cache: Where the classifier's weights are kept; see `image_classifier`.

    Returns:
        `{"images": N, "classifier_accuracy": ..., "generated": {...}, "real": {...}, "noise": {...}}`, where each of
        the three has `frechet_distance` (to the features of all training images), `classifier_score`,
        `classes_covered`, `class_entropy` (nats) and `nearest_distance` (mean distance of the first `neighbours`
        images to the nearest training image; far below that of real ones, the generator copies).

    Raises:
        ValueError: Images of another shape or dtype, labels missing, or fewer than 2 images.
    """
    _check_labelled("train", train)
    _check_labelled("test", test, train.images.shape[1:])
    _check_images("images", images, train.images.shape[1:])
    require_int("neighbours", neighbours)
    n = min(len(images), len(test.images))
    require(n >= 2, "images", "at least 2, and as many test images", n)
    model = image_classifier(train, cache)
    reference, _ = _look(model, train.images)
    accuracy = np.mean(_look(model, test.images)[1].argmax(axis=1) == test.labels)
    noise = np.random.Generator(np.random.Philox(key=VERSION)).integers(0, 256, (n, *images.shape[1:]), np.uint8)
    sets = {"generated": images[:n], "real": _spread(test.images, n), "noise": noise}
    figures = {name: _figures(model, of_set, reference, train.images, neighbours) for name, of_set in sets.items()}
    return {"images": n, "classifier_accuracy": float(accuracy), **figures}


def _permutation(key, size: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=key)).permutation(size)


def _spread(images: np.ndarray, n: int) -> np.ndarray:
    """`n` images drawn from all of them: a file may have the easy ones first, as MNIST's test images."""
    return images[_permutation(VERSION, len(images))[:n]]


def _figures(model, images, reference, train_images, neighbours) -> dict[str, float]:
    features, probabilities = _look(model, images)
    histogram = class_histogram(probabilities)
    return {
        "frechet_distance": frechet_distance(features, reference),
        "classifier_score": classifier_score(probabilities),
        "classes_covered": classes_covered(histogram),
        "class_entropy": class_entropy(histogram),
        "nearest_distance": float(nearest_distances(images[:neighbours], train_images).mean()),
    }


def _check_images(name: str, images, shape=None) -> None:
    array = getattr(images, "dtype", None) == np.uint8 and images.ndim == 4
    expected = "uint8 (n, height, width, channels)" + (f" of the shape {shape}" if shape else "")
    received = f"{images.dtype} {images.shape}" if hasattr(images, "dtype") else type(images).__name__
    require(array and (shape is None or images.shape[1:] == shape), name, expected, received)


def _check_labelled(name: str, data: Labelled, shape=None) -> None:
    images, labels = data
    _check_images(f"{name}.images", images, shape)
    count = None if labels is None else np.shape(labels)
    require(count == (len(images),), f"{name}.labels", f"a label for each of {len(images)} images", count)
