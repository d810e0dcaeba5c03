"""A grid of a picture's places, and a decoder that attends to it (Xu et al. 2015, soft attention)."""

import keras
import tensorflow as tf

import lightkeras as lk

FILTERS = (32, 64, 128)  # of the convolutions; each of them halves the sides
# Even kernels get the same padding on all sides. Small ones see little beyond their place, so that the decoder must
# attend to another place to know what lies there.
KERNELS = (4, 2, 2)
SCALE = 4.0  # of a place's row and column; with smaller values, places are learned long after their contents


class PixelGrid(keras.layers.Layer):
    """Convolutions over a picture: a vector for every place of a grid with an eighth of the picture's sides.

    Two additional channels are the place's row and column, which convolutions alone cannot tell (CoordConv, Liu et al.
    2018).
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        common = {"strides": 2, "padding": "same", "activation": "relu", "kernel_initializer": "he_normal"}
        common |= {"data_format": "channels_last"}  # whatever a user's keras.json says
        self.convolutions = [
            keras.layers.Conv2D(filters, kernel, name=f"convolution_{number}", **common)
            for number, (filters, kernel) in enumerate(zip(FILTERS, KERNELS, strict=True), 1)
        ]

    def build(self, images_shape):
        """Creates the variables; `images_shape` is (rows, size, size, 3)."""
        shape = images_shape
        for layer in self.convolutions:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(self, images):
        """Computes (rows, slots, channels) from images (rows, size, size, 3) in [-1, 1].

        The channels are those of the last convolution, then the place's row and column, from -4 to 4.
        """
        for layer in self.convolutions:
            images = layer(images)
        side, channels = images.shape[2:]
        along = tf.linspace(-SCALE, SCALE, side)
        coordinates = tf.stack(tf.meshgrid(along, along, indexing="ij"), axis=-1)  # (side, side, 2)
        slots = tf.reshape(images, (-1, side * side, channels))
        coordinates = tf.cast(tf.reshape(coordinates, (1, side * side, 2)), slots.dtype)
        return tf.concat([slots, tf.repeat(coordinates, tf.shape(slots)[0], axis=0)], axis=-1)


class Captioner(keras.layers.Layer):
    """Projected features of a picture's places, and a decoder that attends to them and starts from their mean.

    Args:
        words: Number of ids in the vocabulary; 0 is padding.
        pixels: Whether the inputs are pictures, for a `PixelGrid`, instead of the features of a frozen network.
        embedding_dim: Width of a word's embedding.
        units: Width of the decoder, of its projected queries and keys, and of the projected features.
        cell: "gru" or "lstm".
        initial_state: "mean" of the features, through a dense layer, or "zeros".
        dropout: Share of the projected features, of the embeddings and of the readout to drop in training.
        tie_embeddings: Whether the embeddings score the words; see `lk.layers.TokenHead`.
    """

    def __init__(self, words, pixels, embedding_dim, units, cell, initial_state, dropout, tie_embeddings, **kwargs):
        super().__init__(**kwargs)
        self.grid = PixelGrid(name="grid") if pixels else None
        self.projection = keras.layers.Dense(units, "relu", name="projection")
        # With Keras' default initializer, tied scores start nearly equal, and learn slowly.
        initializer = keras.initializers.RandomNormal(stddev=embedding_dim**-0.5)
        self.embedding = keras.layers.Embedding(words, embedding_dim, initializer, name="embedding")
        self.decoder = lk.layers.TokenDecoder(
            self.embedding, units, cell, dropout, tie_embeddings, initial_state == "mean", name="decoder"
        )
        self.feature_dropout = keras.layers.Dropout(dropout)

    def build(self, inputs_shape, caption_in_shape):
        """Creates the variables; the shapes are those of `inputs` and `caption_in` of `call`."""
        channels = inputs_shape[-1]
        if self.grid is not None:
            self.grid.build(inputs_shape)
            channels = FILTERS[-1] + 2
        self.projection.build((None, None, channels))
        self.embedding.build(caption_in_shape)
        units = self.projection.units
        self.decoder.build(caption_in_shape, (None, None, units), (None, units))

    def call(self, inputs, caption_in, training=False):
        """Scores every next word, each from the words before it.

        Args:
            inputs: Features (rows, slots, channels), or images (rows, size, size, 3).
            caption_in: int32 (rows, time): the caption's words from the start mark on.
            training: Whether to drop.

        Returns:
            Float32 logits (rows, time, words), and attention weights (rows, time, slots).
        """
        return self.decoder(caption_in, *self._look(inputs, training), training=training)

    def encode(self, inputs):
        """Reads pictures, the `inputs` of a call: the states for the first `next`, a nest of (rows, ...)."""
        return self.decoder.start(*self._look(inputs, training=False))

    def next(self, ids, states):
        """Makes one step of decoding; see `lk.layers.TokenDecoder.next`."""
        return self.decoder.next(ids, states)

    def _look(self, inputs, training):
        """The memory (rows, slots, units), and the mean of its slots (rows, units)."""
        features = inputs if self.grid is None else self.grid(inputs)  # (rows, slots, channels)
        memory = self.feature_dropout(self.projection(features), training=training)
        return memory, tf.reduce_mean(memory, axis=1)


def uncovered(attention, steps):
    """Measures how unevenly a caption's attention covers the places, as (1 - attention over all steps)^2, summed.

    The regularizer of doubly stochastic attention (Xu et al. 2015, equation 14).

    Args:
        attention: (rows, time, slots).
        steps: (rows, time), 1 for the caption's steps, its end included, and 0 for padding.

    Returns:
        float32 (rows,).
    """
    covered = tf.einsum("bt,bts->bs", steps, tf.cast(attention, steps.dtype))  # (rows, slots)
    return tf.reduce_sum(tf.square(1.0 - covered), axis=1)
