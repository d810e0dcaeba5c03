"""The scores of a vocabulary's tokens, computed with their embeddings or with weights of their own."""

import keras
import tensorflow as tf


class TokenHead(keras.layers.Layer):
    """Products with a vector for each token, and a bias: logits, in float32 in mixed precision too.

    Args:
        embedding: The embedding layer of the tokens, built before this one.
        tied: Whether its vectors are the ones (Press and Wolf 2017), instead of vectors of the head's own.
    """

    def __init__(self, embedding, tied, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.embedding, self.tied = embedding, tied

    def build(self, inputs_shape):
        """Creates the variables; `inputs_shape` is (..., embedding)."""
        tokens = self.embedding.input_dim
        self.bias = self.add_weight(name="bias", shape=(tokens,), initializer="zeros")
        if not self.tied:
            self.kernel = self.add_weight(name="kernel", shape=(tokens, inputs_shape[-1]))

    def call(self, inputs):
        """Logits (..., tokens) from (..., embedding): one product."""
        vectors = tf.convert_to_tensor(self.embedding.embeddings if self.tied else self.kernel)  # (tokens, embedding)
        flat = tf.reshape(inputs, (-1, vectors.shape[1]))  # (positions, embedding)
        logits = tf.nn.bias_add(tf.matmul(flat, vectors, transpose_b=True), self.bias)  # (positions, tokens)
        return tf.reshape(logits, tf.concat([tf.shape(inputs)[:-1], vectors.shape[:1]], 0))
