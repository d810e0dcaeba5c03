"""A decoder of tokens that attends to a memory: from a token to the scores of the next one."""

import keras
import tensorflow as tf

from lightkeras.layers.attention_decoder import AttentionDecoder
from lightkeras.layers.token_head import TokenHead


class TokenDecoder(keras.layers.Layer):
    """Scores the next token from the tokens before it and from a memory (Bahdanau, Cho and Bengio 2015).

    An `AttentionDecoder` reads the embedded tokens and attends to the memory. A readout reduces its output, its context
    and the embedded token to a vector as wide as an embedding, from which a `TokenHead` scores the vocabulary: so the
    largest product is no wider than necessary. The decoder starts from a dense layer of a summary of the memory, or
    from zeros and so with nothing but its attention.

    All steps at once, in training::

        logits, attention = decoder(ids, memory, summary, memory_mask=mask, training=True)

    One step at a time, in decoding; `lightkeras.decoding` calls `next` as its `next_fn`::

        states = decoder.start(memory, summary, mask)
        logits, states, attention = decoder.next(ids_t, states)

    Args:
        embedding: The embedding layer of the tokens, built before this layer.
        units: Width of the decoder and of its projected queries and keys.
        cell: "gru" or "lstm".
        dropout: Share of the embeddings and of the readout to drop in training.
        tie_embeddings: Whether the embeddings score the tokens (Press and Wolf 2017); see `TokenHead`.
        start_from_summary: Whether the first states are dense layers of the summary; else they are zeros.
    """

    def __init__(self, embedding, units, cell, dropout, tie_embeddings, start_from_summary=True, **kwargs):
        super().__init__(**kwargs)
        self.embedding = embedding
        self.word_dropout = keras.layers.Dropout(dropout)
        self.attention_decoder = AttentionDecoder(units, units, cell, name="attention_decoder")
        self.bridges = [
            keras.layers.Dense(units, "tanh", name=f"bridge_{number}")
            for number, _ in enumerate(self.attention_decoder.get_initial_state(1), 1)
            if start_from_summary
        ]
        self.readout = keras.layers.Dense(embedding.output_dim, "tanh", name="readout")
        self.readout_dropout = keras.layers.Dropout(dropout)
        self.head = TokenHead(embedding, tie_embeddings, name="head")

    def build(self, ids_shape, memory_shape, summary_shape):
        """Creates the variables; the shapes are (rows, time), (rows, slots, memory_features) and (rows, features)."""
        width = self.embedding.output_dim
        self.attention_decoder.build((None, None, width), memory_shape)
        for bridge in self.bridges:
            bridge.build(summary_shape)
        self.readout.build((None, self.attention_decoder.units + memory_shape[-1] + width))
        self.head.build((None, width))

    def call(self, ids, memory, summary, memory_mask=None, training=False):
        """Scores every next token, each from the tokens before it.

        Args:
            ids: int32 (rows, time): the tokens from the start mark on.
            memory: (rows, slots, memory_features).
            summary: (rows, features), the input of the first states.
            memory_mask: None or booleans (rows, slots), False for padding.
            training: Whether to drop.

        Returns:
            Float32 logits (rows, time, tokens), and attention weights (rows, time, slots).
        """
        embedded = self.word_dropout(self.embedding(ids), training=training)  # (rows, time, embedding)
        outputs, contexts, attention, _ = self.attention_decoder(
            embedded, memory, memory_mask=memory_mask, initial_state=self._initial_states(summary)
        )
        return self._score(outputs, contexts, embedded, training), attention

    def start(self, memory, summary, memory_mask=None):
        """Computes the states for the first `next`, a nest of (rows, ...); the arguments are those of a call."""
        return self._initial_states(summary), self.attention_decoder.prepare(memory, memory_mask)

    def next(self, ids, states):
        """Makes one step of decoding.

        Args:
            ids: int32 (rows,): the newest tokens, at first the start mark.
            states: The result of `start` or of the step before.

        Returns:
            Float32 logits (rows, tokens), the new states, and attention weights (rows, slots).
        """
        states, prepared = states
        embedded = self.embedding(ids)  # (rows, embedding)
        output, context, attention, states = self.attention_decoder.step(embedded, states, prepared)
        return self._score(output, context, embedded), (states, prepared), attention

    def _initial_states(self, summary):
        """The decoder's first states, a list of (rows, units)."""
        if self.bridges:
            return [bridge(summary) for bridge in self.bridges]
        return self.attention_decoder.get_initial_state(tf.shape(summary)[0])

    def _score(self, outputs, contexts, embedded, training=False):
        """Logits (..., tokens) from the decoder's outputs, contexts and inputs, (..., features) each."""
        read = self.readout(tf.concat([outputs, contexts, embedded], -1))  # (..., embedding)
        return self.head(self.readout_dropout(read, training=training))
