"""A decoder that attends to the places of a picture (Xu et al. 2015, soft attention)."""

import keras
import tensorflow as tf

import lightkeras as lk

FILTERS = (32, 64, 128)  # of the convolutions, each of which halves the sides
KERNELS = (4, 2, 2)  # even, so that padding is the same on all sides; small, so that a place's features are of what
# lies there, and to know what is elsewhere the decoder must look elsewhere
SCALE = 4.0  # of a place's row and column: with smaller ones they are learned long after what lies there


class PixelGrid(keras.layers.Layer):
    """Convolutions over a picture: a vector for every place of a grid with an eighth of its sides.

    Two more channels tell where the place is, as convolutions alone do not (CoordConv, Liu et al. 2018).
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        common = {"strides": 2, "padding": "same", "activation": "relu", "kernel_initializer": "he_normal"}
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
        """(rows, slots, channels) from images (rows, size, size, 3) in [-1, 1].

        The channels are those of the last convolution, and the place's row and column, from -4 to 4.
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
    """What a picture's places hold, an attending decoder, and the scores of the next word.

    The places' features are projected once; the decoder begins with a dense layer of their mean, or with zeros and so
    with nothing but what it looks at. Its state, its context and the newest word give a vector as wide as an embedding,
    from which the words are scored: the product with the vocabulary, which costs most, is no wider than it needs to be.

    Args:
        words: Number of ids in the vocabulary; 0 is padding.
        pixels: Whether the inputs are pictures, for a `PixelGrid`, and not the features of a frozen network.
        embedding_dim: Width of a word's embedding.
        units: Width of the decoder, of the projected features, and of the projections that the attention compares.
        cell: "gru" or "lstm".
        initial_state: "mean" of the features, or "zeros".
        dropout: Share of the projected features, of the embeddings and of what the words are scored from that is
            dropped in training.
        tie_embeddings: Whether the words are scored by their embeddings; see `lk.layers.TokenHead`.
    """

    def __init__(self, words, pixels, embedding_dim, units, cell, initial_state, dropout, tie_embeddings, **kwargs):
        super().__init__(**kwargs)
        self.grid = PixelGrid(name="grid") if pixels else None
        self.projection = keras.layers.Dense(units, "relu", name="projection")
        # Keras' default is so small that tied scores begin nearly equal, and learn slowly.
        initializer = keras.initializers.RandomNormal(stddev=embedding_dim**-0.5)
        self.embedding = keras.layers.Embedding(words, embedding_dim, initializer, name="embedding")
        self.decoder = lk.layers.AttentionDecoder(units, units, cell, name="decoder")
        self.bridges = [
            keras.layers.Dense(units, "tanh", name=f"bridge_{number}")
            for number, _ in enumerate(self.decoder.get_initial_state(1), 1)
            if initial_state == "mean"
        ]
        self.readout = keras.layers.Dense(embedding_dim, "tanh", name="readout")
        self.head = lk.layers.TokenHead(self.embedding, tie_embeddings, name="head")
        self.feature_dropout, self.word_dropout, self.readout_dropout = (keras.layers.Dropout(dropout) for _ in "123")

    def build(self, inputs_shape, caption_in_shape):
        """Creates the variables; the shapes are those of `inputs` and `caption_in` of `call`."""
        embedding, units = self.embedding.output_dim, self.decoder.units
        channels = inputs_shape[-1]
        if self.grid is not None:
            self.grid.build(inputs_shape)
            channels = FILTERS[-1] + 2
        self.projection.build((None, None, channels))
        self.embedding.build(caption_in_shape)
        self.decoder.build((None, None, embedding), (None, None, units))
        for bridge in self.bridges:
            bridge.build((None, units))
        self.readout.build((None, 2 * units + embedding))
        self.head.build((None, embedding))

    def call(self, inputs, caption_in, training=False):
        """The scores of every next word, each given the words before it.

        Args:
            inputs: Features (rows, slots, channels), or images (rows, size, size, 3).
            caption_in: int32 (rows, time): the caption's words from the start sign on.
            training: Whether to drop.

        Returns:
            (float32 logits (rows, time, words), attention (rows, time, slots)).
        """
        memory, states = self._look(inputs, training)
        embedded = self.word_dropout(self.embedding(caption_in), training=training)
        outputs, contexts, attention, _ = self.decoder(embedded, memory, initial_state=states)
        return self._score(outputs, contexts, embedded, training), attention

    def encode(self, inputs):
        """Looks at pictures, as of `call`: the states that `next` begins with, a nest of (rows, ...) each."""
        memory, states = self._look(inputs, training=False)
        return states, self.decoder.prepare(memory)

    def next(self, ids, states):
        """One step of decoding, for `lightkeras.decoding`.

        Args:
            ids: int32 (rows,): the newest words, at first the start sign.
            states: As `encode` or this method returned them.

        Returns:
            (float32 logits (rows, words), states, attention (rows, slots)).
        """
        states, prepared = states
        embedded = self.embedding(ids)  # (rows, embedding)
        output, context, attention, states = self.decoder.step(embedded, states, prepared)
        return self._score(output, context, embedded), (states, prepared), attention

    def _look(self, inputs, training):
        """The memory (rows, slots, units), and the decoder's first states, a list of (rows, units)."""
        features = inputs if self.grid is None else self.grid(inputs)  # (rows, slots, channels)
        memory = self.feature_dropout(self.projection(features), training=training)
        if not self.bridges:
            return memory, self.decoder.get_initial_state(tf.shape(memory)[0])
        mean = tf.reduce_mean(memory, axis=1)  # (rows, units)
        return memory, [bridge(mean) for bridge in self.bridges]

    def _score(self, outputs, contexts, embedded, training=False):
        """Logits (..., words) from the decoder's outputs, contexts and inputs, (..., features) each."""
        read = self.readout(tf.concat([outputs, contexts, embedded], -1))  # (..., embedding)
        return self.head(self.readout_dropout(read, training=training))


def uncovered(attention, steps):
    """How unevenly a caption's attention covers the places: sum over them of (1 - attention over all steps)^2.

    The doubly stochastic attention of Xu et al. (2015), equation 14.

    Args:
        attention: (rows, time, slots).
        steps: (rows, time), 1 for the caption's steps, its end included, and 0 for padding.

    Returns:
        float32 (rows,).
    """
    covered = tf.einsum("bt,bts->bs", steps, tf.cast(attention, steps.dtype))  # (rows, slots)
    return tf.reduce_sum(tf.square(1.0 - covered), axis=1)
