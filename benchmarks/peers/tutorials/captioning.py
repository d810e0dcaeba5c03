"""Captioning as the TensorFlow tutorial "Image captioning with visual attention" wrote it (Apache 2.0).

The recipe is kept with its weaknesses: a decoder that attends with its previous state but whose GRU starts from zeros
at every step; the words scored step by step through a dense layer as wide as the GRU; a Python loop over the steps,
unrolled into the graph; a loss that averages over padding.
"""

import keras
import tensorflow as tf


class CNNEncoder(keras.Model):
    """A dense layer over a frozen network's features."""

    def __init__(self, embedding_dim):
        super().__init__()
        self.fc = keras.layers.Dense(embedding_dim)

    def call(self, x):
        """(batch, slots, embedding)."""
        return tf.nn.relu(self.fc(x))


class BahdanauAttention(keras.Model):
    """Additive attention."""

    def __init__(self, units):
        super().__init__()
        self.W1, self.W2, self.V = keras.layers.Dense(units), keras.layers.Dense(units), keras.layers.Dense(1)

    def call(self, features, hidden):
        """The context (batch, features)."""
        attention_hidden_layer = tf.nn.tanh(self.W1(features) + self.W2(hidden[:, None]))
        attention_weights = tf.nn.softmax(self.V(attention_hidden_layer), axis=1)  # (batch, slots, 1)
        return tf.reduce_sum(attention_weights * features, axis=1)


class RNNDecoder(keras.Model):
    """One step: attention, GRU over [context; embedding], two dense layers."""

    def __init__(self, embedding_dim, units, vocabulary_size):
        super().__init__()
        self.embedding = keras.layers.Embedding(vocabulary_size, embedding_dim)
        self.gru = keras.layers.GRU(units, return_sequences=True, return_state=True)
        self.fc1, self.fc2 = keras.layers.Dense(units), keras.layers.Dense(vocabulary_size)
        self.attention = BahdanauAttention(units)

    def call(self, x, features, hidden):
        """Logits (batch, vocabulary) of ids (batch, 1), and the state."""
        context = self.attention(features, hidden)
        x = tf.concat([context[:, None], self.embedding(x)], axis=-1)
        output, state = self.gru(x)  # as in the tutorial: not from `hidden`
        return self.fc2(self.fc1(output)[:, 0]), state


class Tutorial:
    """The tutorial's model, optimizer and step."""

    def __init__(self, vocabulary, embedding, units, batch):
        self.encoder, self.decoder = CNNEncoder(embedding), RNNDecoder(embedding, units, vocabulary)
        self.optimizer = keras.optimizers.Adam()
        self.loss_object = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
        self.batch, self.units = batch, units

    def build(self, features, target) -> None:
        """Makes the variables, from a batch."""
        self.decoder(target[:, :1], self.encoder(features), tf.zeros((self.batch, self.units)))
        self.optimizer.build(self._variables())
        self.train_step = tf.function(self._train_step)

    def _variables(self):
        return self.encoder.trainable_variables + self.decoder.trainable_variables

    def _loss_function(self, real, predicted):
        return tf.reduce_mean(self.loss_object(real, predicted) * tf.cast(real != 0, tf.float32))

    def _train_step(self, features, target):
        loss, hidden, dec_input = 0.0, tf.zeros((self.batch, self.units)), target[:, :1]
        with tf.GradientTape() as tape:
            encoded = self.encoder(features)
            for i in range(1, target.shape[1]):
                predictions, hidden = self.decoder(dec_input, encoded, hidden)
                loss += self._loss_function(target[:, i], predictions)
                dec_input = target[:, i : i + 1]  # teacher forcing
        variables = self._variables()
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss / target.shape[1]
