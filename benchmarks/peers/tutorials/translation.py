"""Translation as the TensorFlow tutorial "Neural machine translation with attention" wrote it (Apache 2.0), to compare.

The recipe is kept with its weaknesses: a GRU read in one direction; padding attended to; a decoder that attends with
its previous state but whose GRU starts from zeros at every step; the words scored step by step; a loss that averages
over padding; a Python loop over the steps, unrolled into the graph; and, to translate, one sentence at a time, eagerly.
Ids: 0 padding, `start` and `end` as given to `build`.
"""

import keras
import numpy as np
import tensorflow as tf


class Encoder(keras.Model):
    """Embedding and GRU."""

    def __init__(self, vocabulary_size, embedding_dim, units):
        super().__init__()
        self.embedding = keras.layers.Embedding(vocabulary_size, embedding_dim)
        self.gru = keras.layers.GRU(
            units, return_sequences=True, return_state=True, recurrent_initializer="glorot_uniform"
        )

    def call(self, ids, hidden):
        """Outputs (batch, slots, units) and the last state (batch, units)."""
        return self.gru(self.embedding(ids), initial_state=hidden)


class BahdanauAttention(keras.layers.Layer):
    """Additive attention, without a mask."""

    def __init__(self, units):
        super().__init__()
        self.W1 = keras.layers.Dense(units)
        self.W2 = keras.layers.Dense(units)
        self.V = keras.layers.Dense(1)

    def call(self, query, values):
        """The context (batch, units) and the weights (batch, slots, 1)."""
        score = self.V(tf.nn.tanh(self.W1(query[:, None]) + self.W2(values)))  # (batch, slots, 1)
        attention_weights = tf.nn.softmax(score, axis=1)
        return tf.reduce_sum(attention_weights * values, axis=1), attention_weights


class Decoder(keras.Model):
    """One step: attention, GRU over [context; embedding], dense layer to the vocabulary."""

    def __init__(self, vocabulary_size, embedding_dim, units):
        super().__init__()
        self.embedding = keras.layers.Embedding(vocabulary_size, embedding_dim)
        self.gru = keras.layers.GRU(
            units, return_sequences=True, return_state=True, recurrent_initializer="glorot_uniform"
        )
        self.fc = keras.layers.Dense(vocabulary_size)
        self.attention = BahdanauAttention(units)

    def call(self, ids, hidden, enc_output):
        """Logits (batch, vocabulary), the state (batch, units), the attention's weights (batch, slots, 1)."""
        context, attention_weights = self.attention(hidden, enc_output)
        x = tf.concat([context[:, None], self.embedding(ids)], axis=-1)  # (batch, 1, units + embedding)
        output, state = self.gru(x)  # as in the tutorial: not from `hidden`
        return self.fc(output[:, 0]), state, attention_weights


class Tutorial:
    """The tutorial's model, optimizer, and ids of the signs. `build` makes one."""

    def __init__(self, source_vocab, target_vocab, batch, units, embedding_dim, start, end):
        self.encoder = Encoder(source_vocab, embedding_dim, units)
        self.decoder = Decoder(target_vocab, embedding_dim, units)
        self.optimizer = keras.optimizers.Adam()
        self.loss_object = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
        self.batch, self.units, self.start, self.end = batch, units, start, end
        self.compiled_step = tf.function(self._step)

    @property
    def trainable_variables(self):
        """The encoder's and the decoder's."""
        return self.encoder.trainable_variables + self.decoder.trainable_variables

    def loss_function(self, real, predicted):
        """A step's mean loss over the batch, in which padding counts as 0."""
        mask = tf.cast(real != 0, tf.float32)
        return tf.reduce_mean(self.loss_object(real, predicted) * mask)

    def loss(self, source, target):
        """The sum of the steps' losses, for `target` with the start sign."""
        enc_output, hidden = self.encoder(source, tf.zeros((self.batch, self.units)))
        loss, dec_input = 0.0, tf.fill((self.batch, 1), self.start)
        for t in range(1, target.shape[1]):
            predictions, hidden, _ = self.decoder(dec_input, hidden, enc_output)
            loss += self.loss_function(target[:, t], predictions)
            dec_input = target[:, t : t + 1]  # teacher forcing
        return loss

    def _step(self, source, target):
        with tf.GradientTape() as tape:
            loss = self.loss(source, target)
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss / target.shape[1]


def build(source_vocab, target_vocab, batch, units=1024, embedding_dim=256, start=2, end=3) -> Tutorial:
    """The tutorial's model with its sizes.

    Args:
        source_vocab: Number of the source's words; 0 is padding.
        target_vocab: Number of the target's words.
        batch: Rows of every batch.
        units: Width of encoder, decoder and attention.
        embedding_dim: Width of an embedding.
        start: Id of the sign that a target begins with.
        end: Id of the sign that it ends with.
    """
    model = Tutorial(source_vocab, target_vocab, batch, units, embedding_dim, start, end)
    # One step makes the variables, which must exist before a `tf.function` is traced.
    ids = tf.zeros((batch, 2), tf.int32)
    model.loss(ids, ids)
    model.optimizer.build(model.trainable_variables)
    return model


def train_step(model: Tutorial, source, target):
    """One update.

    Args:
        model: What `build` made.
        source: int32 (batch, slots), padded with 0.
        target: int32 (batch, time), with the start and end signs, padded with 0. Every width is traced once.

    Returns:
        The tutorial's loss: the sum of the steps' losses over `time`.
    """
    return model.compiled_step(source, target)


def translate(model: Tutorial, source, max_length):
    """The tutorial's `evaluate`: one sentence, greedily, eagerly.

    Args:
        model: What `build` made.
        source: ids (slots,), padded with 0 to the length of the longest sentence, as the tutorial does.
        max_length: The most words to write.

    Returns:
        The list of ids, without the end sign, and the attention's weights, (words, slots).
    """
    enc_output, hidden = model.encoder(tf.constant(source, tf.int32)[None], tf.zeros((1, model.units)))
    words, attention, dec_input = [], [], tf.constant([[model.start]])
    for _ in range(max_length):
        predictions, hidden, attention_weights = model.decoder(dec_input, hidden, enc_output)
        attention.append(tf.reshape(attention_weights, (-1,)).numpy())
        word = int(tf.argmax(predictions[0]).numpy())
        if word == model.end:
            break
        words.append(word)
        dec_input = tf.constant([[word]])
    return words, np.array(attention[: len(words)]).reshape(len(words), len(source))
