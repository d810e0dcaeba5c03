"""Additive attention (Bahdanau et al. 2015), and the recurrent decoder that attends before every step.

Such a decoder cannot run as an ordinary recurrent layer: what it reads at a step depends on its state before that
step. What does not depend on the state is taken out of the time loop all the same:

1. The memory's keys are projected once, and the inputs of all steps in one product.
2. The gradient is our own, as in `recurrent.py`: the backward loop carries the gradients of the states and of the
   keys, and the gradient of every large matrix is one product over all steps after the loop.

Inside the loops everything is time-major: (time, batch, ...).
"""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from lightkeras.layers.recurrent import GRU, LSTM, _flat_matmul, _stack
from lightkeras.utils.checks import require_choice, require_int

_CELLS = {"gru": GRU, "lstm": LSTM}


def _align(query, keys, scale, mask):
    """How much a query attends to each slot.

    Args:
        query: (batch, attention_units), projected.
        keys: (batch, slots, attention_units).
        scale: (attention_units, 1).
        mask: None or booleans (batch, slots); a slot where it is False gets exactly 0, in a row without any slot too.

    Returns:
        Weights (batch, slots), and the tanh that they come from, (batch, slots, attention_units).
    """
    activated = tf.tanh(keys + query[:, None])
    scores = _flat_matmul(activated, scale)[:, :, 0]  # (batch, slots)
    if mask is None:
        return tf.nn.softmax(scores), activated
    weights = tf.nn.softmax(tf.where(mask, scores, scores.dtype.min))
    return tf.where(mask, weights, tf.zeros_like(weights)), activated


def _align_gradient(d_weights, weights, activated, scale):
    """Gradients with respect to the scores, (batch, slots), and to keys + query, (batch, slots, attention_units)."""
    d_scores = weights * (d_weights - tf.reduce_sum(weights * d_weights, -1, keepdims=True))
    d_activated = d_scores[:, :, None] * scale[:, 0]
    return d_scores, tf.raw_ops.TanhGrad(y=activated, dy=d_activated)  # one pass over the largest tensor, not three


def _weigh(weights, memory):
    """The sum of the slots of `memory` (batch, slots, features) by their weights -> (batch, features)."""
    return tf.matmul(weights[:, None], memory)[:, 0]


class _Attention(NamedTuple):
    """What a decoder attends to, and the weights that it attends with."""

    keys: Any  # (batch, slots, attention_units)
    memory: Any  # (batch, slots, memory_features)
    query_kernel: Any  # (units, attention_units)
    scale: Any  # (attention_units, 1)
    context_kernel: Any  # (memory_features, gates * units)


class _Trace(NamedTuple):
    """What the forward loop leaves for the backward loop."""

    histories: Any  # a list: each state before and after every step, (time + 1, batch, units)
    kept: Any  # a list: the cell's inner values, (time, batch, units)
    alignments: Any  # (time, batch, slots)
    activations: Any  # TensorArray of (batch, slots, attention_units): too large to be copied into one tensor


def _forward_loop(cell, projected, attention, mask, states, weights):
    """Runs attention and `cell` over time."""
    keys, memory, query_kernel, scale, context_kernel = attention
    steps = projected.shape[0] or tf.shape(projected)[0]

    def array(size, shape):
        return tf.TensorArray(projected.dtype, size, element_shape=shape, clear_after_read=False)

    def body(t, states, histories, kept, alignments, activations):
        alignment, activated = _align(tf.matmul(states[0], query_kernel), keys, scale, mask)
        context = tf.matmul(_weigh(alignment, memory), context_kernel)  # (batch, gates * units)
        states, values = cell.forward(projected[t] + context, states, weights)
        histories = [h.write(t + 1, state) for h, state in zip(histories, states, strict=True)]
        kept = [k.write(t, value) for k, value in zip(kept, values, strict=True)]
        return t + 1, states, histories, kept, alignments.write(t, alignment), activations.write(t, activated)

    histories = [array(steps + 1, state.shape).write(0, state) for state in states]
    kept = [array(steps, states[0].shape) for _ in range(cell.kept)]
    loop = (tf.constant(0), states, histories, kept, array(steps, keys.shape[:2]), array(steps, keys.shape))
    _, _, histories, kept, *attended = tf.while_loop(lambda t, *_: t < steps, body, loop, maximum_iterations=steps)
    return _Trace(_stack(histories), _stack(kept), attended[0].stack(), attended[1])


def _backward_loop(cell, trace, attention, weights, d_outputs, d_alignments, d_states):
    """Runs the gradient from the last step to the first.

    Returns the gradients with respect to the projected inputs, which are those of the contexts' products too, (time,
    batch, gates * units); to the projected queries, (time, batch, attention_units); to the keys; to the scale; and
    to the initial states.
    """
    keys, memory, query_kernel, scale, context_kernel = attention
    steps = d_outputs.shape[0] or tf.shape(d_outputs)[0]
    transposed, query_transposed, context_transposed = map(tf.transpose, (weights[0], query_kernel, context_kernel))

    def array(columns):
        return tf.TensorArray(d_outputs.dtype, steps, element_shape=(d_outputs.shape[1], columns))

    def body(t, d_states, d_keys, d_scale, d_projected, d_queries):
        d_states = [d_states[0] + d_outputs[t], *d_states[1:]]
        before, kept = [h[t] for h in trace.histories], [k[t] for k in trace.kept]
        (d_h, *others), d_step = cell.backward(kept, before, d_states, transposed)
        d_context = tf.matmul(d_step, context_transposed)  # (batch, memory_features)
        d_alignment = d_alignments[t] + tf.matmul(memory, d_context[:, :, None])[:, :, 0]  # (batch, slots)
        activated = trace.activations.read(t)
        d_scores, d_sums = _align_gradient(d_alignment, trace.alignments[t], activated, scale)
        flat = tf.reshape(activated, (-1, scale.shape[0]))  # (batch * slots, attention_units)
        d_scale += tf.matmul(flat, tf.reshape(d_scores, (-1, 1)), transpose_a=True)
        d_query = tf.reduce_sum(d_sums, 1)  # (batch, attention_units)
        d_states = [d_h + tf.matmul(d_query, query_transposed), *others]
        return t - 1, d_states, d_keys + d_sums, d_scale, d_projected.write(t, d_step), d_queries.write(t, d_query)

    arrays = array(weights[0].shape[1]), array(scale.shape[0])
    loop = (steps - 1, d_states, tf.zeros_like(keys), tf.zeros_like(scale), *arrays)
    _, d_states, d_keys, d_scale, d_projected, d_queries = tf.while_loop(
        lambda t, *_: t >= 0, body, loop, maximum_iterations=steps
    )
    return d_projected.stack(), d_queries.stack(), d_keys, d_scale, d_states


def _weight_gradient(inputs, d_products):
    """The gradient of a kernel, from its inputs and the gradients of its products, (..., columns) each."""
    flat = [tf.reshape(x, (-1, x.shape[-1])) for x in (inputs, d_products)]  # (positions, columns)
    return tf.matmul(*flat, transpose_a=True)


def _recur(cell, projected, attention, mask, states, weights):
    """All steps of an attending decoder, with its own gradient.

    Args:
        cell: as `recurrent.py` has them.
        projected: inputs times their part of the kernel plus bias, (time, batch, gates * units).
        attention: an `_Attention`.
        mask: None or booleans (batch, slots).
        states: initial states, (batch, units) each.
        weights: the recurrent kernel (units, gates * units); the GRU's recurrent bias (gates * units,) too.

    Returns:
        h after each step, (time, batch, units); the alignments, (time, batch, slots); and all states after the last
        step, (batch, units) each.
    """

    @tf.custom_gradient
    def recur(projected, *tensors):
        attention, tensors = _Attention(*tensors[:5]), tensors[5:]
        states, weights = list(tensors[: cell.states]), tensors[cell.states :]
        trace = _forward_loop(cell, projected, attention, mask, states, weights)

        def gradient(d_outputs, d_alignments, *d_states):
            d_projected, d_queries, d_keys, d_scale, d_initial = _backward_loop(
                cell, trace, attention, weights, d_outputs, d_alignments, list(d_states)
            )
            d_inner, before = cell.inner_gradient(d_projected, trace.kept), trace.histories[0][:-1]
            d_contexts = tf.transpose(_flat_matmul(d_projected, tf.transpose(attention.context_kernel)), (1, 0, 2))
            alignments = tf.transpose(trace.alignments, (1, 0, 2))  # (batch, time, slots)
            contexts = tf.transpose(tf.matmul(alignments, attention.memory), (1, 0, 2))  # (time, batch, features)
            d_attention = _Attention(
                keys=d_keys,
                memory=tf.matmul(alignments, d_contexts, transpose_a=True),
                query_kernel=_weight_gradient(before, d_queries),
                scale=d_scale,
                context_kernel=_weight_gradient(contexts, d_projected),
            )
            d_bias = [tf.reduce_sum(d_inner, (0, 1)) for _ in weights[1:]]
            return [d_projected, *d_attention, *d_initial, _weight_gradient(before, d_inner), *d_bias]

        histories = trace.histories
        return [histories[0][1:], trace.alignments, *[h[-1] for h in histories]], gradient

    outputs, alignments, *states = recur(projected, *attention, *states, *weights)
    return outputs, alignments, states


@keras.saving.register_keras_serializable(package="lightkeras")
class AdditiveAttention(keras.layers.Layer):
    """Additive attention: softmax of v^T tanh(W q + U k + b) over the slots k (Bahdanau, Cho and Bengio 2015).

    Unlike `keras.layers.AdditiveAttention` it has the projections W and U, a query a row, and a mask that gives
    a weight of exactly 0, a row without any slot included. Where many queries meet one memory, project its keys once::

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
        """The slots of `memory`, (batch, slots, memory_features), projected: (batch, slots, units)."""
        key_kernel, bias = tf.cast(self.key_kernel, self.compute_dtype), tf.cast(self.bias, self.compute_dtype)
        return _flat_matmul(tf.cast(memory, self.compute_dtype), key_kernel) + bias

    def query_weights(self):
        """The query's kernel, (query_features, units), and v, (units, 1)."""
        return tf.cast(self.query_kernel, self.compute_dtype), tf.cast(self.scale, self.compute_dtype)

    def attend(self, query, keys, memory, memory_mask=None):
        """A call of the layer for a memory whose `keys` are known."""
        query_kernel, scale = self.query_weights()
        weights, _ = _align(tf.matmul(query, query_kernel), keys, scale, memory_mask)
        return _weigh(weights, memory), weights

    def call(self, query, memory, memory_mask=None):
        """What each query reads from its memory.

        Args:
            query: (batch, query_features).
            memory: (batch, slots, memory_features).
            memory_mask: None or booleans (batch, slots), False for padding; Keras' own mask of `memory` by default.

        Returns:
            The context, (batch, memory_features), and the weights, (batch, slots).
        """
        return self.attend(query, self.keys(memory), memory, memory_mask)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable(package="lightkeras")
class AttentionDecoder(keras.layers.Layer):
    """A GRU or LSTM that attends to a memory before every step (Bahdanau, Cho and Bengio 2015).

    s_t = cell([y_t; c_t], s_{t-1}), where the context c_t is what `AdditiveAttention` reads from the memory with the
    query s_{t-1} (an LSTM's h). The cell's weights are those of a stock `keras.layers.GRUCell` or `LSTMCell` called
    on [y_t; c_t]: `decoder.recurrent.cell`.

    All steps at once, in training (the states of a row whose targets end early are those after its padding)::

        outputs, contexts, weights, states = decoder(inputs, memory, memory_mask=mask, initial_state=states)

    One step at a time, in decoding; the rows of `prepared` may be repeated or reordered between steps::

        prepared = decoder.prepare(memory, mask)
        output, context, weights, states = decoder.step(inputs_t, states, prepared)

    In training it keeps (time, batch, slots, attention_units) numbers for the gradient.

    Args:
        units: Width of the states and outputs.
        attention_units: Width of the projected queries and keys.
        cell: "gru" or "lstm".
    """

    def __init__(self, units: int, attention_units: int, cell: str = "gru", **kwargs):
        super().__init__(**kwargs)
        require_int("units", units)
        require_choice("cell", cell, _CELLS)
        self.units, self.attention_units, self.cell = units, attention_units, cell
        self.attention = AdditiveAttention(attention_units, dtype=self.dtype_policy, name="attention")
        self.recurrent = _CELLS[cell](units, dtype=self.dtype_policy, name=cell)
        self.supports_masking = True

    def build(self, inputs_shape, memory_shape):
        """Creates the variables; the shapes are (batch, time, features) and (batch, slots, memory_features)."""
        self.attention.build((None, self.units), memory_shape)
        self.recurrent.build((None, None, inputs_shape[-1] + memory_shape[-1]))

    def compute_mask(self, inputs, previous_mask):
        """No mask: the mask of the inputs is not one of the contexts and states."""
        return

    def get_initial_state(self, batch_size):
        """Zeros, a list of (batch, units)."""
        return self.recurrent.get_initial_state(batch_size)

    def call(self, inputs, memory, memory_mask=None, initial_state=None):
        """All steps.

        Args:
            inputs: (batch, time, features).
            memory: (batch, slots, memory_features).
            memory_mask: None or booleans (batch, slots), False for padding; Keras' own mask of `memory` by default.
            initial_state: None for zeros, or (batch, units) each: a list of them or, for a GRU, the tensor itself.

        Returns:
            outputs (batch, time, units), contexts (batch, time, memory_features), the attention's weights (batch,
            time, slots), and a list of the states after the last step, (batch, units) each.
        """
        if initial_state is None:
            initial_state = self.get_initial_state(tf.shape(inputs)[0])
        kernel = tf.cast(self.recurrent.cell.kernel, self.compute_dtype)
        input_kernel, context_kernel = tf.split(kernel, (inputs.shape[-1], memory.shape[-1]))
        projected = _flat_matmul(tf.transpose(inputs, (1, 0, 2)), input_kernel)  # (time, batch, gates * units)
        projected = tf.nn.bias_add(projected, self.recurrent._input_bias())
        attention = _Attention(self.attention.keys(memory), memory, *self.attention.query_weights(), context_kernel)
        outputs, alignments, states = _recur(
            self.recurrent._steps,
            projected,
            attention,
            memory_mask,
            tf.nest.flatten(initial_state),
            self.recurrent._recurrent_weights(),
        )
        alignments = tf.transpose(alignments, (1, 0, 2))  # (batch, time, slots)
        return tf.transpose(outputs, (1, 0, 2)), tf.matmul(alignments, memory), alignments, states

    def prepare(self, memory, memory_mask=None):
        """What `step` needs of a memory, computed once: a tuple of tensors with the batch axis first.

        Args:
            memory: (batch, slots, memory_features).
            memory_mask: None or booleans (batch, slots), False for padding.
        """
        memory = tf.cast(memory, self.compute_dtype)
        if memory_mask is None:
            memory_mask = tf.ones(tf.shape(memory)[:2], tf.bool)
        return self.attention.keys(memory), memory, memory_mask

    def step(self, inputs_t, states, prepared):
        """One step, for loops that decide the next input: sampling, greedy and beam search.

        Args:
            inputs_t: (batch, features).
            states: (batch, units) each: a list or tuple of them or, for a GRU, the tensor itself.
            prepared: what `prepare` returned.

        Returns:
            The output, (batch, units); the context, (batch, memory_features); the attention's weights, (batch,
            slots); and the new states in the structure of `states`.
        """
        query = tf.cast(tf.nest.flatten(states)[0], self.compute_dtype)
        context, weights = self.attention.attend(query, *prepared)
        inputs_t = tf.concat([tf.cast(inputs_t, self.compute_dtype), context], -1)
        output, states = self.recurrent.step(inputs_t, states)
        return output, context, weights, states

    def get_config(self):
        config = {"units": self.units, "attention_units": self.attention_units, "cell": self.cell}
        return {**super().get_config(), **config}
