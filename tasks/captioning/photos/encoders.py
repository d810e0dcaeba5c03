"""Frozen networks that turn photos into grids of features; or none, which keeps the pixels."""

import dataclasses
import functools
import inspect
import pathlib
import sys
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

import lightkeras as lk

PIXELS = "small"
SIZES = {"InceptionV3": 299, "InceptionResNetV2": 299, "Xception": 299, "NASNetLarge": 331, PIXELS: 64}
SIZE = 224  # of all others
PREPROCESSING = ("tf", "torch", "caffe", "none")
ROWS = 32  # photos of one call; a fixed number, so that features do not depend on the number of photos


def names() -> list[str]:
    """Returns the names of the models in `keras.applications`."""
    models = inspect.getmembers(keras.applications, inspect.isfunction)
    return sorted(name for name, make in models if "include_top" in inspect.signature(make).parameters)


@dataclasses.dataclass(frozen=True)
class Encoder:
    """A frozen network; or with `name="small"` none, which keeps the pixels for a network trained with the task.

    Args:
        name: A model of `keras.applications`, such as "InceptionV3"; or a `.keras` file whose model takes (batch,
            height, width, 3) and gives (batch, rows, columns, channels); or "small".
        weights: "imagenet", or a `.weights.h5` file of that model without its top. A `.keras` file contains its own.
        image_size: Pixels per side; None for the model's usual size (299 for the Inception family and Xception, 331
            for NASNetLarge, 224 for all others, 64 for "small").
        preprocessing: Scaling of pixels from 0 to 255: "tf" (x / 127.5 - 1), "torch" (to [0, 1], then ImageNet's mean
            and deviation), "caffe" (BGR less ImageNet's mean), "none"; None for the model's own, "tf" for a `.keras`
            file.

    Raises:
        ValueError: An unknown model, or an argument that this model does not use.
    """

    name: str
    weights: str = "imagenet"
    image_size: int | None = None
    preprocessing: str | None = None

    def __post_init__(self) -> None:
        if not self.is_file:
            lk.utils.require_choice("encoder", self.name, (PIXELS, *names()))
        own = self.weights != "imagenet"
        with_weights = not self.is_file and not self.is_pixels
        lk.utils.require(
            not own or with_weights, "encoder_weights", f"left out with encoder={self.name!r}", self.weights
        )
        lk.utils.require_int("image_size", self.image_size, minimum=8, optional=True)
        lk.utils.require_choice("preprocessing", self.preprocessing, (None, *PREPROCESSING))
        unused = self.is_pixels and self.preprocessing is not None
        lk.utils.require(not unused, "preprocessing", 'left out with encoder="small"', self.preprocessing)

    @property
    def is_file(self) -> bool:
        """Whether the model comes from a file."""
        return self.name.endswith(".keras")

    @property
    def is_pixels(self) -> bool:
        """Whether the pixels themselves are kept."""
        return self.name == PIXELS

    @property
    def label(self) -> str:
        """The model's name without the folder of its file."""
        return pathlib.Path(self.name).stem if self.is_file else self.name

    @property
    def size(self) -> int:
        """Pixels per side."""
        return self.image_size or SIZES.get(self.name, SIZE)

    @property
    def dtype(self) -> np.dtype:
        """The stored type: uint8 for pixels, float16 for features (half the space; 11 significant bits are enough)."""
        return np.dtype(np.uint8 if self.is_pixels else np.float16)

    @functools.cached_property
    def settings(self) -> dict[str, str | int]:
        """Everything that determines a photo's features, besides the photo.

        Raises:
            ValueError: The file of the model or of its weights does not exist.
        """
        if self.is_pixels:
            return {"model": PIXELS, "image_size": self.size, "dtype": self.dtype.name}
        name, file = ("encoder", self.name) if self.is_file else ("encoder_weights", self.weights)
        lk.utils.require(file == "imagenet" or lk.utils.local_path(file).is_file(), name, "an existing file", file)
        weights = "imagenet" if file == "imagenet" else f"sha256:{lk.utils.sha256(file)}"
        own = "tf" if self.is_file else "its own"
        return {
            "model": self.label,
            "weights": weights,
            "image_size": self.size,
            "preprocessing": self.preprocessing or own,
            "dtype": self.dtype.name,
        }

    def build(self) -> "Network":
        """Loads and compiles the network; this takes seconds and may download ImageNet weights."""
        if self.is_pixels:
            return Network("pixels", (self.size, self.size, 3), lambda images: images, lambda images: images)
        before = keras.config.dtype_policy(), keras.config.image_data_format()
        keras.config.set_dtype_policy("float32")  # features must not depend on the precision of the training
        keras.config.set_image_data_format("channels_last")  # nor on a user's keras.json
        try:
            model = self._load()
        finally:
            keras.config.set_dtype_policy(before[0])
            keras.config.set_image_data_format(before[1])
        shape = _grid(model, self.size, self.label)

        def in_graph(images):
            features = model(self._preprocessed(tf.cast(images, tf.float32)), training=False)
            return tf.reshape(features, (-1, *shape))

        call = tf.function(in_graph, input_signature=[tf.TensorSpec((ROWS, self.size, self.size, 3), tf.uint8)])
        return Network(_layer(model), shape, lambda images: call(images).numpy(), in_graph)

    def _load(self) -> keras.Model:
        if self.is_file:
            return keras.saving.load_model(lk.utils.local_path(self.name), compile=False)
        make = getattr(keras.applications, self.name)
        weights = self.weights if self.weights == "imagenet" else str(lk.utils.local_path(self.weights))
        return make(include_top=False, weights=weights, input_shape=(self.size, self.size, 3))

    def _preprocessed(self, images: tf.Tensor) -> tf.Tensor:
        """Pixels from 0 to 255, scaled for the model."""
        if self.preprocessing == "none":
            return images
        if self.preprocessing is None and not self.is_file:
            home = sys.modules[getattr(keras.applications, self.name).__module__]
            return home.preprocess_input(images, data_format="channels_last")
        return keras.applications.imagenet_utils.preprocess_input(
            images, "channels_last", mode=self.preprocessing or "tf"
        )


@dataclasses.dataclass(frozen=True)
class Network:
    """A network that is ready to be called.

    Args:
        layer: The name of its last layer.
        shape: The shape of a photo's features: (slots, channels), or of pixels (size, size, 3).
        call: A function of uint8 (32, size, size, 3) that returns float32 (32, slots, channels).
        in_graph: The same of any number of photos, for a graph.
    """

    layer: str
    shape: tuple[int, ...]
    call: Callable[[np.ndarray], np.ndarray]
    in_graph: Callable[[tf.Tensor], tf.Tensor]


def _grid(model: keras.Model, size: int, label: str) -> tuple[int, int]:
    """(slots, channels) of a model's output, (batch, rows, columns, channels)."""
    if not isinstance(model, keras.Model) or len(model.inputs) != 1 or len(model.outputs) != 1:
        raise lk.utils.ArgumentError(f"Expected the model {label} to have one input and one output. Received: {model}")
    fits = len(model.input_shape) == 4 and all(
        own in (None, wanted) for own, wanted in zip(model.input_shape[1:], (size, size, 3), strict=True)
    )
    if not fits:
        raise lk.utils.ArgumentError(
            f"Expected the model {label} to take (batch, {size}, {size}, 3) with image_size={size}. Received: a model "
            f"that takes {model.input_shape}"
        )
    shape = model.compute_output_shape((ROWS, size, size, 3))
    if len(shape) != 4:
        raise lk.utils.ArgumentError(
            f"Expected the model {label} to give a grid of features, (batch, rows, columns, channels): a model without "
            f"its top. Received: an output of {shape}"
        )
    return shape[1] * shape[2], shape[3]


def _layer(model: keras.Model) -> str:
    """The name of the layer whose output the model gives."""
    return model.layers[-1].name if isinstance(model, keras.Sequential) else model.output_names[0]
