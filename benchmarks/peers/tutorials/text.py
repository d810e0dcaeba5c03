"""Text generation as the TensorFlow tutorial "Text generation with an RNN" wrote it (Apache 2.0).

Its model, its advanced training loop (a `tf.function` a batch), and its generation: eagerly, a character at a time.
"""

import keras
import tensorflow as tf

CELLS = {"gru": keras.layers.GRU, "lstm": keras.layers.LSTM}


class MyModel(keras.Model):
    """Embedding, recurrent layers, dense layer."""

    def __init__(self, vocabulary, embedding, units, layers, cell):
        super().__init__()
        self.embedding = keras.layers.Embedding(vocabulary, embedding)
        self.recurrent = [CELLS[cell](units, return_sequences=True, return_state=True) for _ in range(layers)]
        self.dense = keras.layers.Dense(vocabulary)

    def call(self, inputs, states=None, training=False):
        """Logits (batch, time, vocabulary), and a list of each layer's states."""
        x, after = self.embedding(inputs, training=training), []
        for number, layer in enumerate(self.recurrent):
            x, *new = layer(x, initial_state=states[number] if states else None, training=training)
            after.append(new)
        return self.dense(x, training=training), after


class Tutorial:
    """The tutorial's model, loss, optimizer and step."""

    def __init__(self, vocabulary, embedding, units, layers, cell):
        self.model = MyModel(vocabulary, embedding, units, layers, cell)
        self.model(tf.zeros((1, 1), tf.int32))
        self.loss, self.optimizer = (
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            keras.optimizers.Adam(),
        )
        self.optimizer.build(self.model.trainable_variables)
        self.train_step = tf.function(self._train_step)

    def _train_step(self, inputs, labels):
        with tf.GradientTape() as tape:
            predictions, _ = self.model(inputs, training=True)
            loss = self.loss(labels, predictions)
        gradients = tape.gradient(loss, self.model.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.model.trainable_variables, strict=True))
        return loss


def one_step(model: MyModel, ids, states, temperature: float = 1.0):
    """The next character of every text, ids (rows,), and the states; the tutorial's `generate_one_step`."""
    logits, states = model(ids[:, None], states)
    return tf.random.categorical(logits[:, -1] / temperature, 1, tf.int32)[:, 0], states


def generate(model: MyModel, ids, length: int, step=one_step) -> tf.Tensor:
    """`length` characters after `ids` (rows,): (rows, length); `step` may be compiled."""
    states, written = None, []
    for _ in range(length):
        ids, states = step(model, ids, states)
        written.append(ids)
    return tf.stack(written, 1)
