"""GRU and LSTM in their fast formulation: the weights and results of the stock Keras layers in less time.

Three things make the stock layers slow on a CPU, and all three are matters of formulation:

1. They multiply every step's input by the kernel inside the time loop. Here one product serves all steps.
2. Their gradient is derived op by op, so the backward loop accumulates the recurrent kernel's gradient, a
   (units, gates * units) matrix, at every step. Here the backward loop carries only the states' gradients;
   the recurrent kernel's gradient is one product over all steps after the loop.
3. Looking up embeddings and multiplying them by the kernel repeats the same rows. Where the vocabulary is
   small, `call_embedded` multiplies the table once and looks up the products.

Inside the loops everything is time-major: (time, batch, ...).
"""

import math

import keras
import tensorflow as tf


def _flat_matmul(inputs, kernel):
    """`inputs` (..., features) times `kernel` (features, columns) -> (..., columns), as one product."""
    flat = tf.matmul(tf.reshape(inputs, (-1, kernel.shape[0])), kernel)  # (positions, columns)
    return tf.reshape(flat, tf.concat([tf.shape(inputs)[:-1], kernel.shape[1:]], 0))


def _stack(arrays):
    return [array.stack() for array in arrays]


def _forward_loop(cell, projected, states, weights, mask):
    """Runs `cell` over time.

    Returns the states before and after every step, (time + 1, batch, units) each, and what the backward loop
    needs of the steps' inner values, (time, batch, units) each.
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
    return _stack(histories), _stack(kept)


def _backward_loop(cell, histories, kept, weights, mask, d_outputs, d_states):
    """Runs `cell.backward` from the last step to the first.

    Returns the gradients with respect to the projected inputs, (time, batch, gates * units), and to the
    initial states.
    """
    steps = d_outputs.shape[0] or tf.shape(d_outputs)[0]
    # Transposed once: inside the loop a product with `transpose_b=True` takes three times as long.
    transposed = tf.transpose(weights[0])  # (gates * units, units)
    d_projected = tf.TensorArray(d_outputs.dtype, steps, element_shape=(d_outputs.shape[1], weights[0].shape[1]))

    def body(t, d_states, d_projected):
        d_states = [d_states[0] + d_outputs[t], *d_states[1:]]
        passed = None
        if mask is not None:  # a masked step hands its states on: their gradients pass it by
            passed = [tf.where(mask[t], tf.zeros_like(d), d) for d in d_states]
            d_states = [tf.where(mask[t], d, tf.zeros_like(d)) for d in d_states]
        d_states, d_step = cell.backward([k[t] for k in kept], [h[t] for h in histories], d_states, transposed)
        if mask is not None:
            d_states = [d + p for d, p in zip(d_states, passed, strict=True)]
        return t - 1, d_states, d_projected.write(t, d_step)

    loop = (steps - 1, d_states, d_projected)
    _, d_states, d_projected = tf.while_loop(lambda t, *_: t >= 0, body, loop, maximum_iterations=steps)
    return d_projected.stack(), d_states


def _recur(cell, projected, states, weights, mask):
    """All steps of a recurrent layer, with its own gradient.

    Args:
        cell: `_GRUSteps` or `_LSTMSteps`.
        projected: inputs times kernel plus bias, (time, batch, gates * units).
        states: initial states, (batch, units) each.
        weights: the recurrent kernel (units, gates * units); the GRU's recurrent bias (gates * units,) too.
        mask: None or booleans (time, batch, 1); where False, a step leaves the states as they are.

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


class _GRUSteps:
    """One GRU step (`reset_after=True`) forward and backward. Order of gates: update, reset, candidate."""

    states = 1
    kept = 4

    @staticmethod
    def forward(projected, states, weights):
        (h,), (kernel, bias) = states, weights
        x_z, x_r, x_candidate = tf.split(projected, 3, axis=-1)
        inner = tf.nn.bias_add(tf.matmul(h, kernel), bias)  # (batch, 3 * units)
        inner_z, inner_r, inner_candidate = tf.split(inner, 3, axis=-1)
        z, r = tf.sigmoid(x_z + inner_z), tf.sigmoid(x_r + inner_r)
        candidate = tf.tanh(x_candidate + r * inner_candidate)
        return [candidate + z * (h - candidate)], [z, r, candidate, inner_candidate]

    @staticmethod
    def backward(kept, states, d_states, transposed):
        (z, r, candidate, inner_candidate), (h,), (d_h,) = kept, states, d_states
        d_candidate = d_h * (1 - z) * (1 - candidate * candidate)
        d_z = d_h * (h - candidate) * z * (1 - z)
        d_r = d_candidate * inner_candidate * r * (1 - r)
        d_inner = tf.concat([d_z, d_r, d_candidate * r], -1)  # (batch, 3 * units)
        d_h = d_h * z + tf.matmul(d_inner, transposed)
        return [d_h], tf.concat([d_z, d_r, d_candidate], -1)

    @staticmethod
    def inner_gradient(d_projected, kept):
        """The gradient with respect to h @ recurrent_kernel: its candidate part passed the reset gate."""
        d_z, d_r, d_candidate = tf.split(d_projected, 3, axis=-1)
        return tf.concat([d_z, d_r, d_candidate * kept[1]], -1)


class _LSTMSteps:
    """One LSTM step forward and backward. Order of gates: input, forget, candidate, output."""

    states = 2
    kept = 5

    @staticmethod
    def forward(projected, states, weights):
        h, c = states
        i, f, candidate, o = tf.split(projected + tf.matmul(h, weights[0]), 4, axis=-1)
        i, f, candidate, o = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(candidate), tf.sigmoid(o)
        c = f * c + i * candidate
        squashed = tf.tanh(c)
        return [o * squashed, c], [i, f, candidate, o, squashed]

    @staticmethod
    def backward(kept, states, d_states, transposed):
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
        return d_projected


def _pays_to_fold(vocabulary, ids_shape):
    """Whether projecting a table of `vocabulary` rows beats projecting every looked-up row."""
    positions = math.prod(size or 32 for size in ids_shape)  # a dimension not known yet counts as 32
    return 2 * vocabulary <= positions


class _FastRecurrent:
    """What `GRU` and `LSTM` share; mixed in before the stock Keras layer.

    A subclass names its `_steps` and hands out its weights: `_input_bias`, `_recurrent_weights`.
    """

    @property
    def _fast(self):
        """Whether the fast formulation runs the time loop."""
        stock_is_faster = self.use_cudnn is not False and bool(tf.config.list_logical_devices("GPU"))
        covered = not (self.unroll or self.recurrent_dropout or self.cell.implementation == 1)
        return self._standard_step and covered and self.use_cudnn is not True and not stock_is_faster

    @property
    def _standard_step(self):
        """Whether `_steps` computes what the layer's cell computes."""
        cell = self.cell
        return cell.activation is keras.activations.tanh and (
            cell.recurrent_activation is keras.activations.sigmoid and getattr(cell, "reset_after", True)
        )

    def _weight(self, variable):
        return tf.cast(variable, self.compute_dtype)

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """What `keras.layers.RNN.call` calls for the time loop."""
        if not self._fast:
            return super().inner_loop(sequences, initial_state, mask, training)
        if training and self.dropout:
            sequences *= self.cell.get_dropout_mask(sequences[:, 0])[:, None]  # one mask for all steps
        projected = self.project(tf.transpose(sequences, (1, 0, 2)))  # (time, batch, gates * units)
        return self._over_time(projected, initial_state, mask)

    def _over_time(self, projected, states, mask):
        """Keras' last output, outputs and states from `projected` (time, batch, gates * units)."""
        if mask is not None:
            mask = tf.transpose(tf.cast(tf.nest.flatten(mask)[0], tf.bool))[:, :, None]  # (time, batch, 1)
        if self.go_backwards:
            projected, mask = projected[::-1], None if mask is None else mask[::-1]
        outputs, states = _recur(self._steps, projected, tf.nest.flatten(states), self._recurrent_weights(), mask)
        if mask is not None:
            shown = mask if self.zero_output_for_mask else _after_first(mask)
            outputs = tf.where(shown, outputs, tf.zeros_like(outputs))
        last = outputs[-1]
        outputs = tf.transpose(outputs if self.return_sequences else outputs[-1:], (1, 0, 2))
        return last, outputs, states

    def call_embedded(self, embeddings, ids, initial_state=None, mask=None, training=False):
        """Equals `self(tf.gather(embeddings, ids))`, in less time where the vocabulary is small.

        Multiplies the whole table by the kernel once and looks up the products instead of the embeddings, if
        twice the vocabulary is no more than batch * time (a dimension unknown when traced counts as 32).
        Otherwise it looks up and calls the layer; likewise wherever the layer runs the stock code (see the
        class), and where it is stateful, drops out inputs or has an activity regularizer.

        Args:
            embeddings: the table, a tensor or variable (vocabulary, features).
            ids: ints (batch, time), each in [0, vocabulary).
            initial_state: as in a call of the layer.
            mask: None or booleans (batch, time).
            training: as in a call of the layer.

        Returns:
            What a call of the layer returns.
        """
        embeddings = self._weight(embeddings)
        no_dropout = not (training and self.dropout)
        plain = self._fast and no_dropout and not self.stateful and self.activity_regularizer is None
        if not (plain and _pays_to_fold(embeddings.shape[0], ids.shape)):
            return self(tf.gather(embeddings, ids), initial_state=initial_state, mask=mask, training=training)
        if initial_state is None:
            initial_state = self.get_initial_state(tf.shape(ids)[0])
        projected = tf.gather(self.project(embeddings), tf.transpose(ids))  # (time, batch, gates * units)
        last, outputs, states = self._over_time(
            projected, [self._weight(s) for s in tf.nest.flatten(initial_state)], mask
        )
        output = outputs if self.return_sequences else last
        return (output, *states) if self.return_state else output

    def project(self, inputs):
        """Inputs (..., features) times the kernel, plus the input bias: (..., gates * units).

        What `step_projected` takes. For a decoding loop over ids, project the embedding table once, before
        the loop, and look up its rows inside::

            table = layer.project(embeddings)  # (vocabulary, gates * units)
            ...
            output, states = layer.step_projected(tf.gather(table, ids_t), states)

        Raises:
            ValueError: with activations other than tanh and sigmoid, or `reset_after=False`.
        """
        if not self._standard_step:
            raise ValueError(
                f"Expected `{self.name}` to have activation tanh, recurrent_activation sigmoid and, a GRU, "
                f"reset_after=True for single steps. Received: {self.get_config()}"
            )
        if not self.built:
            self.build((None, None, inputs.shape[-1]))
        projected = _flat_matmul(self._weight(inputs), self._weight(self.cell.kernel))
        return tf.nn.bias_add(projected, self._input_bias()) if self.use_bias else projected

    def step(self, inputs_t, states):
        """One time step, for loops that decide the next input: sampling, beam search, attention.

        Without dropout; differentiable as any operation. Raises as `project` does.

        Args:
            inputs_t: (batch, features).
            states: (batch, units) each: a list or tuple of them or, for the GRU, the tensor itself.

        Returns:
            The output, (batch, units), and the new states in the structure of `states`.
        """
        return self.step_projected(self.project(inputs_t), states)

    def step_projected(self, projected_t, states):
        """`step` for inputs that `project` has projected already, (batch, gates * units)."""
        old = [self._weight(state) for state in tf.nest.flatten(states)]
        new, _ = self._steps.forward(projected_t, old, self._recurrent_weights())
        return new[0], tf.nest.pack_sequence_as(states, new)


def _after_first(mask):
    """`mask` (time, batch, 1) -> True from the first True step on: before that, Keras outputs zeros."""
    first = tf.argmax(tf.cast(mask, tf.int8), 0, output_type=tf.int32)  # (batch, 1)
    steps = tf.range(tf.shape(mask)[0])[:, None, None]  # (time, 1, 1)
    return (steps >= first) & tf.reduce_any(mask, 0)


@keras.saving.register_keras_serializable(package="lightkeras")
class GRU(_FastRecurrent, keras.layers.GRU):
    """`keras.layers.GRU` in its fast formulation: same arguments, weights, results and gradients.

    The weights are interchangeable: `fast.set_weights(stock.get_weights())`, and files of weights too.
    Masks, `initial_state`, `return_sequences`, `return_state`, `go_backwards`, `stateful`,
    `zero_output_for_mask` and `dropout` run in the fast formulation. The stock layer's own code runs instead

    - on a GPU, where it uses cuDNN, unless `use_cudnn=False`, which asks for the fast formulation there too;
    - with `recurrent_dropout`, `unroll=True`, `implementation=1`, `use_cudnn=True`, `reset_after=False`, or
      activations other than "tanh" and "sigmoid".

    Beyond the stock layer's methods: `call_embedded` for ids instead of embeddings; `step`, `project` and
    `step_projected` for loops that go one step at a time. States, h: (batch, units).
    """

    _steps = _GRUSteps

    def _input_bias(self):
        return self._weight(self.cell.bias)[0]

    def _recurrent_weights(self):
        kernel = self._weight(self.cell.recurrent_kernel)  # (units, 3 * units)
        bias = self._weight(self.cell.bias)[1] if self.use_bias else tf.zeros((3 * self.units,), kernel.dtype)
        return kernel, bias


@keras.saving.register_keras_serializable(package="lightkeras")
class LSTM(_FastRecurrent, keras.layers.LSTM):
    """`keras.layers.LSTM` in its fast formulation: same arguments, weights, results and gradients.

    What `GRU` says of itself holds here too (an LSTM has no `reset_after`). States: h and c, (batch, units)
    each.
    """

    _steps = _LSTMSteps

    def _input_bias(self):
        return self._weight(self.cell.bias)

    def _recurrent_weights(self):
        return (self._weight(self.cell.recurrent_kernel),)
