"""The scores of a vocabulary's tokens, by their embeddings or by separate weights."""

import keras
import tensorflow as tf


class TokenHead(keras.layers.Layer):
    """Scores tokens: a product with a vector for each token, plus a bias. Always computes in float32.

    Args:
        embedding: The embedding layer of the tokens, built before this layer.
        tied: Whether to use the embeddings as these vectors (Press and Wolf 2017) instead of separate weights.
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
        """Computes logits (..., tokens) from (..., embedding) in one product."""
        vectors = tf.convert_to_tensor(self.embedding.embeddings if self.tied else self.kernel)  # (tokens, embedding)
        flat = tf.reshape(inputs, (-1, vectors.shape[1]))  # (positions, embedding)
        logits = tf.nn.bias_add(tf.matmul(flat, vectors, transpose_b=True), self.bias)  # (positions, tokens)
        return tf.reshape(logits, tf.concat([tf.shape(inputs)[:-1], vectors.shape[:1]], 0))
