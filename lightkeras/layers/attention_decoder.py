"""The recurrent decoder that attends to a memory before every step (Bahdanau et al. 2015)."""

import keras
import tensorflow as tf

from lightkeras.layers.attention import AdditiveAttention
from lightkeras.layers.attention_loops import AttentionTensors, attend_over_time
from lightkeras.layers.recurrent import GRU, LSTM
from lightkeras.layers.recurrent_loops import flat_matmul
from lightkeras.utils.checks import require_choice, require_int

CELLS = {"gru": GRU, "lstm": LSTM}


@keras.saving.register_keras_serializable(package="lightkeras")
class AttentionDecoder(keras.layers.Layer):
    """A GRU or LSTM that attends to a memory before every step (Bahdanau, Cho and Bengio 2015).

    s_t = cell([y_t; c_t], s_{t-1}), where `AdditiveAttention` reads the context c_t from the memory with the query
    s_{t-1} (of an LSTM: h). `decoder.recurrent.cell` has the weights of a stock `keras.layers.GRUCell` or `LSTMCell`
    that is called on [y_t; c_t].

    All steps at once, in training (the final states of a row include the steps of its padding)::

        outputs, contexts, weights, states = decoder(inputs, memory, memory_mask=mask, initial_state=states)

    One step at a time, in decoding; the rows of `prepared` may be repeated or reordered between steps::

        prepared = decoder.prepare(memory, mask)
        output, context, weights, states = decoder.step(inputs_t, states, prepared)

    In training, it stores (time, batch, slots, attention_units) numbers for the gradient.

    Args:
        units: Width of the states and outputs.
        attention_units: Width of the projected queries and keys.
        cell: "gru" or "lstm".
    """

    def __init__(self, units: int, attention_units: int, cell: str = "gru", **kwargs):
        super().__init__(**kwargs)
        require_int("units", units)
        require_choice("cell", cell, CELLS)
        self.units, self.attention_units, self.cell = units, attention_units, cell
        self.attention = AdditiveAttention(attention_units, dtype=self.dtype_policy, name="attention")
        self.recurrent = CELLS[cell](units, dtype=self.dtype_policy, name=cell)
        self.supports_masking = True

    def build(self, inputs_shape, memory_shape):
        """Creates the variables; the shapes are (batch, time, features) and (batch, slots, memory_features)."""
        self.attention.build((None, self.units), memory_shape)
        self.recurrent.build((None, None, inputs_shape[-1] + memory_shape[-1]))

    def compute_mask(self, inputs, previous_mask):
        """Returns None: the mask of the inputs does not apply to contexts and states."""
        return

    def get_initial_state(self, batch_size):
        """Returns zeros: a list of (batch, units)."""
        return self.recurrent.get_initial_state(batch_size)

    def call(self, inputs, memory, memory_mask=None, initial_state=None):
        """Runs all steps.

        Args:
            inputs: (batch, time, features).
            memory: (batch, slots, memory_features).
            memory_mask: None or booleans (batch, slots), False for padding; Keras' own mask of `memory` by default.
            initial_state: None for zeros; a list of (batch, units) or, of a GRU, the tensor itself.

        Returns:
            Outputs (batch, time, units), contexts (batch, time, memory_features), attention weights (batch, time,
            slots), and a list of the states after the last step, (batch, units) each.
        """
        if initial_state is None:
            initial_state = self.get_initial_state(tf.shape(inputs)[0])
        kernel = tf.cast(self.recurrent.cell.kernel, self.compute_dtype)
        input_kernel, context_kernel = tf.split(kernel, (inputs.shape[-1], memory.shape[-1]))
        projected = flat_matmul(tf.transpose(inputs, (1, 0, 2)), input_kernel)  # (time, batch, gates * units)
        projected = tf.nn.bias_add(projected, self.recurrent.input_bias())
        attention = AttentionTensors(
            self.attention.keys(memory), memory, *self.attention.query_weights(), context_kernel
        )
        outputs, alignments, states = attend_over_time(
            self.recurrent.steps,
            projected,
            attention,
            memory_mask,
            tf.nest.flatten(initial_state),
            self.recurrent.recurrent_weights(),
        )
        alignments = tf.transpose(alignments, (1, 0, 2))  # (batch, time, slots)
        return tf.transpose(outputs, (1, 0, 2)), tf.matmul(alignments, memory), alignments, states

    def prepare(self, memory, memory_mask=None):
        """Computes what `step` needs of a memory, once: a tuple of tensors with the batch axis first.

        Args:
            memory: (batch, slots, memory_features).
            memory_mask: None or booleans (batch, slots), False for padding.
        """
        memory = tf.cast(memory, self.compute_dtype)
        if memory_mask is None:
            memory_mask = tf.ones(tf.shape(memory)[:2], tf.bool)
        return self.attention.keys(memory), memory, memory_mask

    def step(self, inputs_t, states, prepared):
        """Makes one step, for loops that choose the next input: sampling, greedy and beam search.

        Args:
            inputs_t: (batch, features).
            states: A list or tuple of (batch, units) or, of a GRU, the tensor itself.
            prepared: The result of `prepare`.

        Returns:
            The output, (batch, units); the context, (batch, memory_features); the attention weights, (batch, slots);
            and the new states in the structure of `states`.
        """
        query = tf.cast(tf.nest.flatten(states)[0], self.compute_dtype)
        context, weights = self.attention.attend(query, *prepared)
        inputs_t = tf.concat([tf.cast(inputs_t, self.compute_dtype), context], -1)
        output, states = self.recurrent.step(inputs_t, states)
        return output, context, weights, states

    def get_config(self):
        """Returns the arguments of the layer."""
        config = {"units": self.units, "attention_units": self.attention_units, "cell": self.cell}
        return {**super().get_config(), **config}
