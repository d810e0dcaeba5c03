"""The time loops of a decoder that attends before every step, with their gradients.

Such a decoder cannot run as an ordinary recurrent layer: its input at a step depends on its state before that step.
The loops contain only what depends on the state:

1. The memory's keys are projected once, and the inputs of all steps in one product.
2. The gradient is our own, as in `recurrent_loops.py`: the backward loop carries the gradients of the states and of the
   keys, and the gradient of every large matrix is one product over all steps after the loop.

Everything in the loops is time-major: (time, batch, ...).
"""

from typing import Any, NamedTuple

import tensorflow as tf

from lightkeras.layers.attention import align, align_gradient, weigh
from lightkeras.layers.recurrent_loops import flat_matmul, stack


class AttentionTensors(NamedTuple):
    """A memory and the weights that a decoder attends to it with."""

    keys: Any  # (batch, slots, attention_units)
    memory: Any  # (batch, slots, memory_features)
    query_kernel: Any  # (units, attention_units)
    scale: Any  # (attention_units, 1)
    context_kernel: Any  # (memory_features, gates * units)


class _Trace(NamedTuple):
    """The values of the forward loop that the backward loop needs."""

    histories: Any  # a list: every state before and after every step, (time + 1, batch, units)
    kept: Any  # a list: the cell's inner values, (time, batch, units)
    alignments: Any  # (time, batch, slots)
    activations: Any  # TensorArray of (batch, slots, attention_units): too large to be copied into one tensor


def _forward_loop(cell, projected, attention, mask, states, weights):
    """Runs attention and `cell` over time; returns a `_Trace`."""
    keys, memory, query_kernel, scale, context_kernel = attention
    steps = projected.shape[0] or tf.shape(projected)[0]

    def array(size, shape):
        return tf.TensorArray(projected.dtype, size, element_shape=shape, clear_after_read=False)

    def body(t, states, histories, kept, alignments, activations):
        alignment, activated = align(tf.matmul(states[0], query_kernel), keys, scale, mask)
        context = tf.matmul(weigh(alignment, memory), context_kernel)  # (batch, gates * units)
        states, values = cell.forward(projected[t] + context, states, weights)
        histories = [h.write(t + 1, state) for h, state in zip(histories, states, strict=True)]
        kept = [k.write(t, value) for k, value in zip(kept, values, strict=True)]
        return t + 1, states, histories, kept, alignments.write(t, alignment), activations.write(t, activated)

    histories = [array(steps + 1, state.shape).write(0, state) for state in states]
    kept = [array(steps, states[0].shape) for _ in range(cell.kept)]
    loop = (tf.constant(0), states, histories, kept, array(steps, keys.shape[:2]), array(steps, keys.shape))
    _, _, histories, kept, *attended = tf.while_loop(lambda t, *_: t < steps, body, loop, maximum_iterations=steps)
    return _Trace(stack(histories), stack(kept), attended[0].stack(), attended[1])


def _backward_loop(cell, trace, attention, weights, d_outputs, d_alignments, d_states):
    """Runs the gradient from the last step to the first.

    Returns:
        The gradients with respect to the projected inputs (the same as to the projected contexts), (time, batch, gates
        * units); to the projected queries, (time, batch, attention_units); to the keys; to the scale; and to the
        initial states.
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
        d_scores, d_sums = align_gradient(d_alignment, trace.alignments[t], activated, scale)
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
    """Computes the gradient of a kernel from its inputs and the gradients of its products, (..., columns) each."""
    flat = [tf.reshape(x, (-1, x.shape[-1])) for x in (inputs, d_products)]  # (positions, columns)
    return tf.matmul(*flat, transpose_a=True)


def attend_over_time(cell, projected, attention, mask, states, weights):
    """Runs all steps of an attention decoder, with a gradient of our own.

    Args:
        cell: `GRUSteps` or `LSTMSteps`.
        projected: Inputs times their part of the kernel plus bias, (time, batch, gates * units).
        attention: An `AttentionTensors`.
        mask: None or booleans (batch, slots).
        states: Initial states, (batch, units) each.
        weights: The recurrent kernel, (units, gates * units); of a GRU also the recurrent bias, (gates * units,).

    Returns:
        h after each step, (time, batch, units); the alignments, (time, batch, slots); and all states after the last
        step, (batch, units) each.
    """

    @tf.custom_gradient
    def recur(projected, *tensors):
        attention, tensors = AttentionTensors(*tensors[:5]), tensors[5:]
        states, weights = list(tensors[: cell.states]), tensors[cell.states :]
        trace = _forward_loop(cell, projected, attention, mask, states, weights)

        def gradient(d_outputs, d_alignments, *d_states):
            d_projected, d_queries, d_keys, d_scale, d_initial = _backward_loop(
                cell, trace, attention, weights, d_outputs, d_alignments, list(d_states)
            )
            d_inner, before = cell.inner_gradient(d_projected, trace.kept), trace.histories[0][:-1]
            d_contexts = tf.transpose(flat_matmul(d_projected, tf.transpose(attention.context_kernel)), (1, 0, 2))
            alignments = tf.transpose(trace.alignments, (1, 0, 2))  # (batch, time, slots)
            contexts = tf.transpose(tf.matmul(alignments, attention.memory), (1, 0, 2))  # (time, batch, features)
            d_attention = AttentionTensors(
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
