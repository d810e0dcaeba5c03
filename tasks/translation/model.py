"""An encoder and a decoder that attends to it (Bahdanau et al. 2015)."""

import keras
import tensorflow as tf

import lightkeras as lk

CELLS = {"gru": lk.layers.GRU, "lstm": lk.layers.LSTM}


def _embedding(words, width, name):
    # With Keras' default initializer, tied scores start nearly equal, and learn slowly.
    initializer = keras.initializers.RandomNormal(stddev=width**-0.5)
    return keras.layers.Embedding(words, width, initializer, name=name)


class Encoder(keras.layers.Layer):
    """Recurrent layers over the embedded source, in one direction or both.

    Args:
        units: Width of every layer in each direction.
        num_layers: Number of layers.
        bidirectional: Whether every layer also reads from the end; its output is then twice as wide.
        cell: "gru" or "lstm".
        dropout: Share of the values between layers to drop in training.
    """

    def __init__(self, units, num_layers, bidirectional, cell, dropout, **kwargs):
        super().__init__(**kwargs)
        self.width = 2 * units if bidirectional else units
        directions = {"forwards": False, "backwards": True} if bidirectional else {"forwards": False}
        self.recurrent = [
            [
                CELLS[cell](
                    units,
                    return_sequences=True,
                    return_state=True,
                    go_backwards=backwards,
                    name=f"{cell}_{number}_{direction}",
                )
                for direction, backwards in directions.items()
            ]
            for number in range(1, num_layers + 1)
        ]
        self.dropouts = [keras.layers.Dropout(dropout) for _ in self.recurrent[1:]]

    def build(self, inputs_shape):
        """Creates the variables; `inputs_shape` is (rows, slots, features)."""
        features = inputs_shape[-1]
        for layers in self.recurrent:
            for layer in layers:
                layer.build((None, None, features))
            features = self.width

    def call(self, inputs, padding_mask, training=False, in_steps=False):
        """Reads the source.

        Args:
            inputs: (rows, slots, features), padded at the right.
            padding_mask: Booleans (rows, slots), False for padding.
            training: Whether to drop.
            in_steps: Whether to run the layers by loops that ONNX and LiteRT have too.

        Returns:
            The last layer's outputs, (rows, slots, width), and its final states side by side, (rows, widths).
        """
        for number, layers in enumerate(self.recurrent):
            if number:
                inputs = self.dropouts[number - 1](inputs, training=training)
            outputs, final = [], []
            for layer in layers:
                # Backwards, the padding comes first: its masked steps keep the states at zero.
                if in_steps:
                    output, states = lk.export.run_recurrent(layer, inputs, padding_mask)
                else:
                    output, *states = layer(inputs, mask=padding_mask)
                    output = tf.reverse(output, [1]) if layer.go_backwards else output
                outputs.append(output)
                final += states
            inputs = tf.concat(outputs, -1)  # (rows, slots, width)
        return inputs, tf.concat(final, -1)


class Translator(keras.layers.Layer):
    """Embeddings, an encoder, and a decoder that attends to its outputs and starts from its final states.

    Args:
        source_size: Number of tokens in the source's vocabulary; 0 is padding.
        target_size: Number of tokens in the target's vocabulary.
        embedding_dim: Width of an embedding.
        units: Width of the decoder and of its projected queries and keys.
        encoder_units: Width of every encoder layer in each direction.
        num_layers: Number of encoder layers.
        bidirectional: Whether the encoder reads in both directions.
        cell: "gru" or "lstm".
        dropout: Share of the embeddings, of the values between encoder layers and of the readout to drop in training.
        tie_embeddings: Whether the embeddings score the tokens; see `lk.layers.TokenHead`.
    """

    def __init__(
        self,
        source_size,
        target_size,
        embedding_dim,
        units,
        encoder_units,
        num_layers,
        bidirectional,
        cell,
        dropout,
        tie_embeddings,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.source_embedding = _embedding(source_size, embedding_dim, "source_embedding")
        self.target_embedding = _embedding(target_size, embedding_dim, "target_embedding")
        self.source_dropout = keras.layers.Dropout(dropout)
        self.encoder = Encoder(encoder_units, num_layers, bidirectional, cell, dropout, name="encoder")
        self.decoder = lk.layers.TokenDecoder(
            self.target_embedding, units, cell, dropout, tie_embeddings, name="decoder"
        )

    def build(self, source_shape, target_in_shape):
        """Creates the variables; the shapes are (rows, slots) and (rows, time)."""
        embedding, width = self.source_embedding.output_dim, self.encoder.width
        self.source_embedding.build(source_shape)
        self.target_embedding.build(target_in_shape)
        self.encoder.build((None, None, embedding))
        states = len(self.decoder.bridges)  # of each direction: 1 of a GRU, 2 of an LSTM
        self.decoder.build(target_in_shape, (None, None, width), (None, width * states))

    def call(self, source, target_in, training=False):
        """Scores every next token, each from the tokens before it.

        Args:
            source: int32 (rows, slots), padded with 0 at the right.
            target_in: int32 (rows, time): the target's tokens from the start mark on.
            training: Whether to drop.

        Returns:
            Float32 logits (rows, time, target_size), and attention weights (rows, time, slots).
        """
        return self.decoder(target_in, *self._read(source, training), training=training)

    def encode(self, source, in_steps=False):
        """Reads the source, int32 (rows, slots): the states for the first `next`, a nest of (rows, ...).

        `in_steps`: by loops that ONNX and LiteRT have too.
        """
        return self.decoder.start(*self._read(source, training=False, in_steps=in_steps))

    def next(self, ids, states):
        """Makes one step of decoding; see `lk.layers.TokenDecoder.next`."""
        return self.decoder.next(ids, states)

    def _read(self, source, training, in_steps=False):
        """The memory (rows, slots, width), the final states side by side (rows, widths), and the memory's mask."""
        padding_mask = source != lk.text.PAD
        embedded = self.source_dropout(self.source_embedding(source), training=training)
        return *self.encoder(embedded, padding_mask, training=training, in_steps=in_steps), padding_mask
