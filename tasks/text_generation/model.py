"""A recurrent network over characters."""

import keras
import tensorflow as tf

import lightkeras as lk

CELLS = {"gru": lk.layers.GRU, "lstm": lk.layers.LSTM}


class CharacterRNN(keras.layers.Layer):
    """Embedding, recurrent layers with dropout, and a dense layer to the vocabulary.

    Args:
        vocabulary_size: Number of characters.
        embedding_dim: Width of an embedding.
        units: Width of every recurrent layer.
        num_layers: Number of recurrent layers.
        cell: "gru" or "lstm".
        dropout: Share of each recurrent layer's outputs that is dropped in training.
        embedding_dropout: Share of the embedding table's entries that is dropped in training: one mask per batch, as
            in variational dropout (Gal and Ghahramani 2016), so that the table can be projected as a whole.
    """

    def __init__(self, vocabulary_size, embedding_dim, units, num_layers, cell, dropout, embedding_dropout, **kwargs):
        super().__init__(**kwargs)
        self.embedding = keras.layers.Embedding(vocabulary_size, embedding_dim, name="embedding")
        self.embedding_dropout = keras.layers.Dropout(embedding_dropout)
        self.recurrent = [
            CELLS[cell](units, return_sequences=True, return_state=True, name=f"{cell}_{number}")
            for number in range(1, num_layers + 1)
        ]
        self.dropouts = [keras.layers.Dropout(dropout) for _ in self.recurrent]
        self.head = keras.layers.Dense(vocabulary_size, dtype="float32", name="head")  # float32 in mixed precision too

    def build(self, ids_shape):
        """Creates the variables; `ids_shape` is (batch, time)."""
        self.embedding.build(ids_shape)
        width = self.embedding.output_dim
        for layer in self.recurrent:
            layer.build((None, None, width))
            width = layer.units
        self.head.build((None, None, width))

    def call(self, ids, states=None, padding_mask=None, training=False):
        """Computes the logits of the next characters, and the states after the last character.

        Args:
            ids: int32 (batch, time).
            states: The states of each layer, as returned; None for zeros.
            padding_mask: None or booleans (batch, time): a step where it is False keeps the states.
            training: Whether to apply dropout.

        Returns:
            (float32 logits (batch, time, vocabulary), list of lists of states (batch, units)).
        """
        table = self.embedding_dropout(self.embedding.embeddings, training=training)  # (vocabulary, embedding)
        states = states or [None] * len(self.recurrent)
        first, *rest = self.recurrent
        x, *after = first.call_embedded(table, ids, initial_state=states[0], mask=padding_mask, training=training)
        new = [after]
        x = self.dropouts[0](x, training=training)  # (batch, time, units)
        for layer, dropout, state in zip(rest, self.dropouts[1:], states[1:], strict=True):
            x, *after = layer(x, initial_state=state, mask=padding_mask, training=training)
            new.append(after)
            x = dropout(x, training=training)
        return self.head(x), new

    def initial_states(self, rows: int) -> list[list[tf.Tensor]]:
        """Zero states of each layer, (rows, units) each."""
        return [[tf.convert_to_tensor(s) for s in layer.get_initial_state(rows)] for layer in self.recurrent]

    def make_next_function(self):
        """Projects the embeddings, and returns a function that computes one time step, without dropout.

        It takes ids (batch,) and states, and returns logits (batch, vocabulary) and states.
        """
        first, *rest = self.recurrent
        table = first.project(self.embedding.embeddings)  # (vocabulary, gates * units)

        def next_fn(ids, states):
            x, state = first.step_projected(tf.gather(table, ids), states[0])
            new = [state]
            for layer, state in zip(rest, states[1:], strict=True):
                x, state = layer.step(x, state)
                new.append(state)
            return self.head(x), new

        return next_fn
