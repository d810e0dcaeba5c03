"""The time loops of GRU and LSTM with their gradients; everything in them is time-major: (time, batch, ...)."""

import tensorflow as tf


def flat_matmul(inputs, kernel):
    """Multiplies `inputs` (..., features) by `kernel` (features, columns) in one product: (..., columns)."""
    flat = tf.matmul(tf.reshape(inputs, (-1, kernel.shape[0])), kernel)  # (positions, columns)
    return tf.reshape(flat, tf.concat([tf.shape(inputs)[:-1], kernel.shape[1:]], 0))


def stack(arrays):
    """Stacks every TensorArray of a list."""
    return [array.stack() for array in arrays]


def _forward_loop(cell, projected, states, weights, mask):
    """Runs `cell` over time.

    Returns:
        The states before and after every step, (time + 1, batch, units) each, and the inner values that the backward
        loop needs, (time, batch, units) each.
    """
    steps = projected.shape[0] or tf.shape(projected)[0]

    def array(size):
        return tf.TensorArray(states[0].dtype, size, element_shape=states[0].shape)

    def body(t, states, histories, kept):
        new_states, values = cell.forward(projected[t], states, weights)
        if mask is not None:
            new_states = [tf.where(mask[t], new, old) for new, old in zip(new_states, states, strict=True)]
        histories = [h.write(t + 1, state) for h, state in zip(histories, new_states, strict=True)]
        kept = [k.write(t, value) for k, value in zip(kept, values, strict=True)]
        return t + 1, new_states, histories, kept

    histories = [array(steps + 1).write(0, state) for state in states]
    kept = [array(steps) for _ in range(cell.kept)]
    loop = (tf.constant(0), states, histories, kept)
    _, _, histories, kept = tf.while_loop(lambda t, *_: t < steps, body, loop, maximum_iterations=steps)
    return stack(histories), stack(kept)


def _backward_loop(cell, histories, kept, weights, mask, d_outputs, d_states):
    """Runs `cell.backward` from the last step to the first.

    Returns:
        The gradients with respect to the projected inputs, (time, batch, gates * units), and to the initial states.
    """
    steps = d_outputs.shape[0] or tf.shape(d_outputs)[0]
    # Transposed once: inside the loop a product with `transpose_b=True` takes three times as long.
    transposed = tf.transpose(weights[0])  # (gates * units, units)
    d_projected = tf.TensorArray(d_outputs.dtype, steps, element_shape=(d_outputs.shape[1], weights[0].shape[1]))

    def body(t, d_states, d_projected):
        d_states = [d_states[0] + d_outputs[t], *d_states[1:]]
        passed = []
        if mask is not None:  # a masked step keeps its states, so their gradients skip it
            passed = [tf.where(mask[t], tf.zeros_like(d), d) for d in d_states]
            d_states = [tf.where(mask[t], d, tf.zeros_like(d)) for d in d_states]
        d_states, d_step = cell.backward([k[t] for k in kept], [h[t] for h in histories], d_states, transposed)
        if mask is not None:
            d_states = [d + p for d, p in zip(d_states, passed, strict=True)]
        return t - 1, d_states, d_projected.write(t, d_step)

    loop = (steps - 1, d_states, d_projected)
    _, d_states, d_projected = tf.while_loop(lambda t, *_: t >= 0, body, loop, maximum_iterations=steps)
    return d_projected.stack(), d_states


def recur_over_time(cell, projected, states, weights, mask):
    """Runs all steps of a recurrent layer, with a gradient of our own.

    Args:
        cell: `GRUSteps` or `LSTMSteps`.
        projected: Inputs times kernel plus bias, (time, batch, gates * units).
        states: Initial states, (batch, units) each.
        weights: The recurrent kernel, (units, gates * units); of a GRU also the recurrent bias, (gates * units,).
        mask: None or booleans (time, batch, 1); a step where it is False keeps the states.

    Returns:
        h after each step, (time, batch, units), and all states after the last, (batch, units) each.
    """

    @tf.custom_gradient
    def recur(projected, *tensors):
        states, weights = list(tensors[: cell.states]), tensors[cell.states :]
        histories, kept = _forward_loop(cell, projected, states, weights, mask)

        def gradient(d_outputs, *d_states):
            d_projected, d_initial = _backward_loop(cell, histories, kept, weights, mask, d_outputs, list(d_states))
            d_inner = cell.inner_gradient(d_projected, kept)
            before = tf.reshape(histories[0][:-1], (-1, weights[0].shape[0]))  # (time * batch, units)
            d_kernel = tf.matmul(before, tf.reshape(d_inner, (-1, weights[0].shape[1])), transpose_a=True)
            d_bias = [tf.reduce_sum(d_inner, (0, 1)) for _ in weights[1:]]
            return [d_projected, *d_initial, d_kernel, *d_bias]

        return [histories[0][1:], *[h[-1] for h in histories]], gradient

    outputs, *states = recur(projected, *states, *weights)
    return outputs, states


class GRUSteps:
    """One GRU step (`reset_after=True`), forward and backward. Order of gates: update, reset, candidate."""

    states = 1
    kept = 4  # inner values for the backward step

    @staticmethod
    def forward(projected, states, weights):
        """Returns the new states and the inner values, (batch, units) each, from `projected` (batch, gates * units)."""
        (h,), (kernel, bias) = states, weights
        x_z, x_r, x_candidate = tf.split(projected, 3, axis=-1)
        inner = tf.nn.bias_add(tf.matmul(h, kernel), bias)  # (batch, 3 * units)
        inner_z, inner_r, inner_candidate = tf.split(inner, 3, axis=-1)
        z, r = tf.sigmoid(x_z + inner_z), tf.sigmoid(x_r + inner_r)
        candidate = tf.tanh(x_candidate + r * inner_candidate)
        return [candidate + z * (h - candidate)], [z, r, candidate, inner_candidate]

    @staticmethod
    def backward(kept, states, d_states, transposed):
        """Returns the gradients of the states before the step, (batch, units) each, and of its projected input."""
        (z, r, candidate, inner_candidate), (h,), (d_h,) = kept, states, d_states
        d_candidate = d_h * (1 - z) * (1 - candidate * candidate)
        d_z = d_h * (h - candidate) * z * (1 - z)
        d_r = d_candidate * inner_candidate * r * (1 - r)
        d_inner = tf.concat([d_z, d_r, d_candidate * r], -1)  # (batch, 3 * units)
        d_h = d_h * z + tf.matmul(d_inner, transposed)
        return [d_h], tf.concat([d_z, d_r, d_candidate], -1)

    @staticmethod
    def inner_gradient(d_projected, kept):
        """Returns the gradient with respect to h @ recurrent_kernel; its candidate part passed the reset gate."""
        d_z, d_r, d_candidate = tf.split(d_projected, 3, axis=-1)
        return tf.concat([d_z, d_r, d_candidate * kept[1]], -1)


class LSTMSteps:
    """One LSTM step, forward and backward. Order of gates: input, forget, candidate, output."""

    states = 2
    kept = 5  # inner values for the backward step

    @staticmethod
    def forward(projected, states, weights):
        """Returns the new states and the inner values, (batch, units) each, from `projected` (batch, gates * units)."""
        h, c = states
        i, f, candidate, o = tf.split(projected + tf.matmul(h, weights[0]), 4, axis=-1)
        i, f, candidate, o = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(candidate), tf.sigmoid(o)
        c = f * c + i * candidate
        squashed = tf.tanh(c)
        return [o * squashed, c], [i, f, candidate, o, squashed]

    @staticmethod
    def backward(kept, states, d_states, transposed):
        """Returns the gradients of the states before the step, (batch, units) each, and of its projected input."""
        (i, f, candidate, o, squashed), (_, c), (d_h, d_c) = kept, states, d_states
        d_c += d_h * o * (1 - squashed * squashed)
        d_i = d_c * candidate * i * (1 - i)
        d_f = d_c * c * f * (1 - f)
        d_candidate = d_c * i * (1 - candidate * candidate)
        d_o = d_h * squashed * o * (1 - o)
        d_projected = tf.concat([d_i, d_f, d_candidate, d_o], -1)  # (batch, 4 * units)
        return [tf.matmul(d_projected, transposed), d_c * f], d_projected

    @staticmethod
    def inner_gradient(d_projected, kept):
        """Returns the gradient with respect to h @ recurrent_kernel: that of the projected inputs."""
        return d_projected


def after_first(mask):
    """Marks the steps from the first True of `mask` (time, batch, 1): before it, Keras outputs zeros."""
    first = tf.argmax(tf.cast(mask, tf.int8), 0, output_type=tf.int32)  # (batch, 1)
    steps = tf.range(tf.shape(mask)[0])[:, None, None]  # (time, 1, 1)
    return (steps >= first) & tf.reduce_any(mask, 0)
