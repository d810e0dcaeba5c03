"""A small image classifier, trained once per data set and cached: it stands for Inception where GANs are evaluated."""

import hashlib
import os
import pathlib
from typing import NamedTuple

import keras
import numpy as np

from lightkeras.data.npz import read_npz
from lightkeras.utils.checks import ArgumentError, require
from lightkeras.utils.files import write_atomically
from lightkeras.utils.paths import local_path

VERSION = 1  # increased with every change of architecture or training
EPOCHS = 3
MIN_UPDATES = 400  # a small data set is trained on for more epochs
BATCH = 128
FEATURES = 64
ROWS = 500  # images in one call


class LabelledImages(NamedTuple):
    """Images uint8 (n, height, width, channels) and their labels (n,), integers from 0 on."""

    images: np.ndarray
    labels: np.ndarray


def load_or_train(train: LabelledImages, cache: str | os.PathLike | None = None) -> keras.Model:
    """Reads a small convolutional network from the cache, or trains it on labelled images.

    On MNIST's 60,000 training images the training takes about a minute on 2 cores, and the network classifies 99.1 % of
    the test images correctly. The seeds are fixed.

    Args:
        train: Images to learn.
        cache: Folder of the weights; None: `~/.keras/lightkeras`, or `$KERAS_HOME/lightkeras` where that is set. The
            file's name is a digest of the images, the labels and this code's version.

    Returns:
        A model of images uint8 (n, height, width, channels) with the outputs features (n, 64) and logits (n, classes).

    Raises:
        ValueError: The images or labels have another shape or type, or the cached file is damaged.
    """
    check_labelled("train", train)
    path = _cache_folder(cache) / f"classifier-{_digest(train)}.npz"
    model = _network(train.images.shape[1:], int(train.labels.max()) + 1)
    if path.exists():
        _load(model, path)
    else:
        _train(model, train)
        _save(model, path)
    return model


def classify(model: keras.Model, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, 64) and class probabilities (n, classes) of images uint8 (n, height, width, channels)."""
    features, logits = model.predict(images, batch_size=ROWS, verbose=0)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return features, shifted / shifted.sum(axis=1, keepdims=True)


def permutation(key: int | list[int], size: int) -> np.ndarray:
    """A permutation of `range(size)`, keyed by `key` alone."""
    return np.random.Generator(np.random.Philox(key=key)).permutation(size)


def check_images(name: str, images, shape: tuple[int, ...] | None = None) -> None:
    """Raises ValueError unless `images` is uint8 (n, height, width, channels), each of the given `shape`."""
    is_uint8 = getattr(images, "dtype", None) == np.uint8 and images.ndim == 4
    expected = "uint8 (n, height, width, channels)" + (f" of the shape {shape}" if shape else "")
    received = f"{images.dtype} {images.shape}" if hasattr(images, "dtype") else type(images).__name__
    require(is_uint8 and (shape is None or images.shape[1:] == shape), name, expected, received)


def check_labelled(name: str, data: LabelledImages, shape: tuple[int, ...] | None = None) -> None:
    """`check_images`, and raises ValueError unless there is a label for each image."""
    images, labels = data
    check_images(f"{name}.images", images, shape)
    count = None if labels is None else np.shape(labels)
    require(count == (len(images),), f"{name}.labels", f"a label for each of {len(images)} images", count)


def _load(model: keras.Model, path: pathlib.Path) -> None:
    names = [f"{number}" for number in range(len(model.weights))]
    try:
        arrays = read_npz(path, names)
        model.set_weights([arrays[name] for name in names])
    except (OSError, ValueError, KeyError) as error:
        raise ArgumentError(f"Expected {path} to hold a classifier. Delete it to train it again. {error}") from error


def _save(model: keras.Model, path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as partial:
        arrays = {f"{number}": np.asarray(weight) for number, weight in enumerate(model.weights)}
        np.savez(partial, allow_pickle=False, **arrays)


def _cache_folder(cache: str | os.PathLike | None) -> pathlib.Path:
    if cache is not None:
        return local_path(cache)
    return local_path(os.environ.get("KERAS_HOME") or "~/.keras") / "lightkeras"


def _digest(train: LabelledImages) -> str:
    digest = hashlib.sha256(f"{VERSION} {train.images.shape}".encode())
    digest.update(np.ascontiguousarray(train.images).data)
    digest.update(np.ascontiguousarray(train.labels, np.int64).data)
    return digest.hexdigest()[:16]


def _network(shape: tuple[int, int, int], classes: int) -> keras.Model:
    def seeded(number):
        return keras.initializers.GlorotUniform(seed=number)

    images = keras.Input(shape, dtype="uint8")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, dtype="float32")(images)
    for number, filters in enumerate((16, 32)):
        x = keras.layers.Conv2D(
            filters, 5, padding="same", data_format="channels_last", activation="relu",
            kernel_initializer=seeded(number), dtype="float32",
        )(x)  # fmt: skip
        x = keras.layers.MaxPooling2D(padding="same", data_format="channels_last", dtype="float32")(x)
    x = keras.layers.Flatten(data_format="channels_last", dtype="float32")(x)
    features = keras.layers.Dense(FEATURES, "relu", kernel_initializer=seeded(2), dtype="float32", name="features")(x)
    dropped = keras.layers.Dropout(0.3, seed=3, dtype="float32")(features)
    logits = keras.layers.Dense(classes, kernel_initializer=seeded(4), dtype="float32", name="logits")(dropped)
    return keras.Model(images, [features, logits])


def _train(model: keras.Model, train: LabelledImages) -> None:
    """Trains with Adam, whose learning rate falls to 0 by a cosine."""
    epochs = max(EPOCHS, -(-MIN_UPDATES * BATCH // len(train.images)))
    updates = -(-epochs * len(train.images) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, updates)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss=[None, loss], jit_compile=False)
    order = np.concatenate([permutation([VERSION, epoch], len(train.images)) for epoch in range(epochs)])
    model.fit(train.images[order], train.labels[order], BATCH, shuffle=False, verbose=0)
