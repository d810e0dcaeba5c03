"""An encoder and a decoder that attends to it (Bahdanau et al. 2015)."""

import keras
import tensorflow as tf

import lightkeras as lk

PADDING = 0
CELLS = {"gru": lk.layers.GRU, "lstm": lk.layers.LSTM}


def _embedding(words, width, name):
    # Keras' default is so small that tied scores begin nearly equal, and learn slowly.
    initializer = keras.initializers.RandomNormal(stddev=width**-0.5)
    return keras.layers.Embedding(words, width, initializer, name=name)


class Encoder(keras.layers.Layer):
    """Recurrent layers over the embedded source, in one direction or both.

    Args:
        units: Width of every layer in each direction.
        num_layers: Number of layers.
        bidirectional: Whether every layer reads from the end as well, so that its output is twice as wide.
        cell: "gru" or "lstm".
        dropout: Share of what goes from layer to layer that is dropped in training.
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

    def call(self, inputs, padding_mask, training=False):
        """Reads the source.

        Args:
            inputs: (rows, slots, features), padded at the right.
            padding_mask: Booleans (rows, slots), False for padding.
            training: Whether to drop.

        Returns:
            The last layer's outputs, (rows, slots, width), and its final states side by side, (rows, widths).
        """
        for number, layers in enumerate(self.recurrent):
            if number:
                inputs = self.dropouts[number - 1](inputs, training=training)
            outputs, final = [], []
            for layer in layers:
                # Backwards, the padding comes first: its masked steps leave the states at zero.
                output, *states = layer(inputs, mask=padding_mask)
                outputs.append(tf.reverse(output, [1]) if layer.go_backwards else output)
                final += states
            inputs = tf.concat(outputs, -1)  # (rows, slots, width)
        return inputs, tf.concat(final, -1)


class Translator(keras.layers.Layer):
    """Embeddings, encoder, attending decoder, and the scores of the next word.

    The decoder begins with a dense layer of the encoder's final states. Its state, its context and the newest word
    give a vector as wide as an embedding, from which the words are scored: the product with the vocabulary, which
    costs most, is no wider than it needs to be.

    Args:
        source_size: Number of words in the source's vocabulary; 0 is padding.
        target_size: Number of words in the target's vocabulary.
        embedding_dim: Width of an embedding.
        units: Width of the decoder, and of the projections that its attention compares.
        encoder_units: Width of every encoder layer in each direction.
        num_layers: Number of encoder layers.
        bidirectional: Whether the encoder reads in both directions.
        cell: "gru" or "lstm".
        dropout: Share of the embeddings, of what goes from one encoder layer to the next and of what the words are
            scored from that is dropped in training.
        tie_embeddings: Whether the words are scored by their embeddings; see `lk.layers.TokenHead`.
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
        self.target_dropout = keras.layers.Dropout(dropout)
        self.encoder = Encoder(encoder_units, num_layers, bidirectional, cell, dropout, name="encoder")
        self.decoder = lk.layers.AttentionDecoder(units, units, cell, name="decoder")
        self.bridges = [
            keras.layers.Dense(units, "tanh", name=f"bridge_{number}")
            for number, _ in enumerate(self.decoder.get_initial_state(1), 1)
        ]
        self.readout = keras.layers.Dense(embedding_dim, "tanh", name="readout")
        self.readout_dropout = keras.layers.Dropout(dropout)
        self.head = lk.layers.TokenHead(self.target_embedding, tie_embeddings, name="head")

    def build(self, source_shape, target_in_shape):
        """Creates the variables; the shapes are (rows, slots) and (rows, time)."""
        embedding, width = self.source_embedding.output_dim, self.encoder.width
        self.source_embedding.build(source_shape)
        self.target_embedding.build(target_in_shape)
        self.encoder.build((None, None, embedding))
        self.decoder.build((None, None, embedding), (None, None, width))
        for bridge in self.bridges:
            bridge.build((None, width * len(self.bridges)))
        self.readout.build((None, self.decoder.units + width + embedding))
        self.head.build((None, embedding))

    def call(self, source, target_in, training=False):
        """The scores of every next word, each given the words before it.

        Args:
            source: int32 (rows, slots), padded with 0 at the right.
            target_in: int32 (rows, time): the target's words from the start sign on.
            training: Whether to drop.

        Returns:
            (float32 logits (rows, time, target_size), attention (rows, time, slots)).
        """
        memory, padding_mask, states = self._read(source, training)
        embedded = self.target_dropout(self.target_embedding(target_in), training=training)
        outputs, contexts, attention, _ = self.decoder(embedded, memory, memory_mask=padding_mask, initial_state=states)
        return self._score(outputs, contexts, embedded, training), attention

    def encode(self, source):
        """Reads the source, int32 (rows, slots): the states that `next` begins with, a nest of (rows, ...) each."""
        memory, padding_mask, states = self._read(source, training=False)
        return states, self.decoder.prepare(memory, padding_mask)

    def next(self, ids, states):
        """One step of decoding, for `lightkeras.decoding`.

        Args:
            ids: int32 (rows,): the newest words, at first the start sign.
            states: As `encode` or this method returned them.

        Returns:
            (float32 logits (rows, target_size), states, attention (rows, slots)).
        """
        states, prepared = states
        embedded = self.target_embedding(ids)  # (rows, embedding)
        output, context, attention, states = self.decoder.step(embedded, states, prepared)
        return self._score(output, context, embedded), (states, prepared), attention

    def _read(self, source, training):
        """The memory (rows, slots, width), its mask, and the decoder's first states, a list of (rows, units)."""
        padding_mask = source != PADDING
        embedded = self.source_dropout(self.source_embedding(source), training=training)
        memory, final = self.encoder(embedded, padding_mask, training=training)
        return memory, padding_mask, [bridge(final) for bridge in self.bridges]

    def _score(self, outputs, contexts, embedded, training=False):
        """Logits (..., target_size) from the decoder's outputs, contexts and inputs, (..., features) each."""
        read = self.readout(tf.concat([outputs, contexts, embedded], -1))  # (..., embedding)
        return self.head(self.readout_dropout(read, training=training))
