"""Additive attention (Bahdanau et al. 2015)."""

import keras
import tensorflow as tf

from lightkeras.layers.recurrent_loops import flat_matmul
from lightkeras.utils.checks import require_int


def align(query, keys, scale, mask):
    """Computes the weights of a query over the slots.

    Args:
        query: (batch, attention_units), projected.
        keys: (batch, slots, attention_units).
        scale: (attention_units, 1).
        mask: None or booleans (batch, slots); a slot where it is False gets exactly 0, even in a row without any slot.

    Returns:
        Weights (batch, slots), and the tanh that they are computed from, (batch, slots, attention_units).
    """
    activated = tf.tanh(keys + query[:, None])
    scores = flat_matmul(activated, scale)[:, :, 0]  # (batch, slots)
    if mask is None:
        return tf.nn.softmax(scores), activated
    weights = tf.nn.softmax(tf.where(mask, scores, scores.dtype.min))
    return tf.where(mask, weights, tf.zeros_like(weights)), activated


def align_gradient(d_weights, weights, activated, scale):
    """Returns the gradients of the scores, (batch, slots), and of keys + query, (batch, slots, attention_units)."""
    d_scores = weights * (d_weights - tf.reduce_sum(weights * d_weights, -1, keepdims=True))
    d_activated = d_scores[:, :, None] * scale[:, 0]
    return d_scores, tf.raw_ops.TanhGrad(y=activated, dy=d_activated)  # one pass over the largest tensor, not three


def weigh(weights, memory):
    """Adds up the slots of `memory` (batch, slots, features), weighted: (batch, features)."""
    return tf.matmul(weights[:, None], memory)[:, 0]


@keras.saving.register_keras_serializable(package="lightkeras")
class AdditiveAttention(keras.layers.Layer):
    """Additive attention: softmax of v^T tanh(W q + U k + b) over the slots k (Bahdanau, Cho and Bengio 2015).

    Unlike `keras.layers.AdditiveAttention` it has the projections W and U, one query per row, and a mask that gives a
    weight of exactly 0, even in a row without any slot. For many queries to one memory, project its keys once::

        keys = layer.keys(memory)
        context, weights = layer.attend(query, keys, memory, mask)

    Args:
        units: Width of the projected queries and keys.
    """

    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        require_int("units", units)
        self.units = units

    def build(self, query_shape, memory_shape):
        """Creates the variables; the shapes are (batch, query_features) and (batch, slots, memory_features)."""
        self.query_kernel = self.add_weight(name="query_kernel", shape=(query_shape[-1], self.units))
        self.key_kernel = self.add_weight(name="key_kernel", shape=(memory_shape[-1], self.units))
        self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")
        self.scale = self.add_weight(name="scale", shape=(self.units, 1))

    def keys(self, memory):
        """Projects the slots of `memory`, (batch, slots, memory_features): (batch, slots, units)."""
        key_kernel, bias = tf.cast(self.key_kernel, self.compute_dtype), tf.cast(self.bias, self.compute_dtype)
        return flat_matmul(tf.cast(memory, self.compute_dtype), key_kernel) + bias

    def query_weights(self):
        """Returns the query's kernel, (query_features, units), and v, (units, 1), in compute precision."""
        return tf.cast(self.query_kernel, self.compute_dtype), tf.cast(self.scale, self.compute_dtype)

    def attend(self, query, keys, memory, memory_mask=None):
        """Calls the layer with `keys` that are already projected."""
        query_kernel, scale = self.query_weights()
        weights, _ = align(tf.matmul(query, query_kernel), keys, scale, memory_mask)
        return weigh(weights, memory), weights

    def call(self, query, memory, memory_mask=None):
        """Reads the memory of each row with its query.

        Args:
            query: (batch, query_features).
            memory: (batch, slots, memory_features).
            memory_mask: None or booleans (batch, slots), False for padding; Keras' own mask of `memory` by default.

        Returns:
            The context, (batch, memory_features), and the weights, (batch, slots).
        """
        return self.attend(query, self.keys(memory), memory, memory_mask)

    def get_config(self):
        """Returns the arguments of the layer."""
        return {**super().get_config(), "units": self.units}
