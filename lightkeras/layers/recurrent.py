"""GRU and LSTM in their fast formulation: the weights and results of the stock Keras layers in less time.

Three properties of their formulation make the stock layers slow on a CPU:

1. They multiply every step's input by the kernel inside the time loop. Here one product serves all steps.
2. Their gradient is derived op by op, so the backward loop accumulates the recurrent kernel's gradient, a
   (units, gates * units) matrix, at every step. Here the backward loop carries only the states' gradients;
   the recurrent kernel's gradient is one product over all steps after the loop (`recurrent_loops.py`).
3. Looking up embeddings and multiplying them by the kernel repeats the same rows. For a small vocabulary,
   `call_embedded` multiplies the table once and looks up the products.
"""

import math
from typing import Any

import keras
import tensorflow as tf

from lightkeras.layers.recurrent_loops import GRUSteps, LSTMSteps, after_first, flat_matmul, recur_over_time
from lightkeras.utils.checks import ArgumentError


def _is_worth_projecting(vocabulary, ids_shape):
    """Whether it is faster to project a table of `vocabulary` rows than every looked-up row."""
    positions = math.prod(size or 32 for size in ids_shape)  # an unknown dimension counts as 32
    return 2 * vocabulary <= positions


_Base: Any = object  # for type checkers: the class is mixed into layers


class _FastRecurrent(_Base):
    """The shared part of `GRU` and `LSTM`; mixed in before the stock Keras layer.

    A subclass defines `steps` and gives its weights in compute precision: `input_bias`, `recurrent_weights`.
    """

    @property
    def _fast(self):
        """Whether the fast formulation, not the stock code, runs the time loop."""
        stock_is_faster = self.use_cudnn is not False and bool(tf.config.list_logical_devices("GPU"))
        covered = not (self.unroll or self.recurrent_dropout or self.cell.implementation == 1)
        return self._standard_step and covered and self.use_cudnn is not True and not stock_is_faster

    @property
    def _standard_step(self):
        """Whether `steps` computes the same function as the layer's cell."""
        cell = self.cell
        return cell.activation is keras.activations.tanh and (
            cell.recurrent_activation is keras.activations.sigmoid and getattr(cell, "reset_after", True)
        )

    def _weight(self, variable):
        return tf.cast(variable, self.compute_dtype)

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """Runs the time loop; `keras.layers.RNN.call` calls it."""
        if not self._fast:
            return super().inner_loop(sequences, initial_state, mask, training)
        if training and self.dropout:
            sequences *= self.cell.get_dropout_mask(sequences[:, 0])[:, None]  # one mask for all steps
        projected = self.project(tf.transpose(sequences, (1, 0, 2)))  # (time, batch, gates * units)
        return self._over_time(projected, initial_state, mask)

    def _over_time(self, projected, states, mask):
        """Returns Keras' last output, outputs and states from `projected` (time, batch, gates * units)."""
        if mask is not None:
            mask = tf.transpose(tf.cast(tf.nest.flatten(mask)[0], tf.bool))[:, :, None]  # (time, batch, 1)
        if self.go_backwards:
            projected, mask = projected[::-1], None if mask is None else mask[::-1]
        outputs, states = recur_over_time(
            self.steps, projected, tf.nest.flatten(states), self.recurrent_weights(), mask
        )
        if mask is not None:
            shown = mask if self.zero_output_for_mask else after_first(mask)
            outputs = tf.where(shown, outputs, tf.zeros_like(outputs))
        last = outputs[-1]
        outputs = tf.transpose(outputs if self.return_sequences else outputs[-1:], (1, 0, 2))
        return last, outputs, states

    def call_embedded(self, embeddings, ids, initial_state=None, mask=None, training=False):
        """Equals `self(tf.gather(embeddings, ids))`, and is faster for a small vocabulary.

        Multiplies the whole table by the kernel once and looks up the products instead of the embeddings, if twice the
        vocabulary is no more than batch * time (a dimension unknown when traced counts as 32). Otherwise it looks up
        the embeddings and calls the layer; likewise if the layer runs the stock code (see the class), is stateful,
        drops out inputs or has an activity regularizer.

        Args:
            embeddings: The table, a tensor or variable (vocabulary, features).
            ids: Ints (batch, time), each in [0, vocabulary).
            initial_state: As in a call of the layer.
            mask: None or booleans (batch, time).
            training: As in a call of the layer.

        Returns:
            The same as a call of the layer.
        """
        embeddings = self._weight(embeddings)
        no_dropout = not (training and self.dropout)
        plain = self._fast and no_dropout and not self.stateful and self.activity_regularizer is None
        if not (plain and _is_worth_projecting(embeddings.shape[0], ids.shape)):
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
        """Multiplies inputs (..., features) by the kernel and adds the input bias: (..., gates * units).

        `step_projected` takes the result. In a decoding loop over ids, project the embedding table once, before the
        loop, and look up its rows inside::

            table = layer.project(embeddings)  # (vocabulary, gates * units)
            ...
            output, states = layer.step_projected(tf.gather(table, ids_t), states)

        Raises:
            ValueError: The layer has activations other than tanh and sigmoid, or `reset_after=False`.
        """
        if not self._standard_step:
            raise ArgumentError(
                f"Expected `{self.name}` to have activation tanh, recurrent_activation sigmoid and, a GRU, "
                f"reset_after=True for single steps. Received: {self.get_config()}"
            )
        if not self.built:
            self.build((None, None, inputs.shape[-1]))
        projected = flat_matmul(self._weight(inputs), self._weight(self.cell.kernel))
        return tf.nn.bias_add(projected, self.input_bias()) if self.use_bias else projected

    def step(self, inputs_t, states):
        """Makes one time step, for loops that choose the next input: sampling, beam search, attention.

        Without dropout; differentiable like any operation. Raises the errors of `project`.

        Args:
            inputs_t: (batch, features).
            states: A list or tuple of (batch, units) or, of a GRU, the tensor itself.

        Returns:
            The output, (batch, units), and the new states in the structure of `states`.
        """
        return self.step_projected(self.project(inputs_t), states)

    def step_projected(self, projected_t, states):
        """Makes a `step` with inputs that `project` has projected, (batch, gates * units)."""
        old = [self._weight(state) for state in tf.nest.flatten(states)]
        new, _ = self.steps.forward(projected_t, old, self.recurrent_weights())
        return new[0], tf.nest.pack_sequence_as(states, new)


@keras.saving.register_keras_serializable(package="lightkeras")
class GRU(_FastRecurrent, keras.layers.GRU):
    """`keras.layers.GRU` in a fast formulation: same arguments, weights, results and gradients.

    The weights are interchangeable: `fast.set_weights(stock.get_weights())` works, and so do files of weights.
    Masks, `initial_state`, `return_sequences`, `return_state`, `go_backwards`, `stateful`, `zero_output_for_mask` and
    `dropout` run in the fast formulation. The stock layer's own code runs instead

    - on a GPU, where it uses cuDNN, unless `use_cudnn=False` requests the fast formulation there too;
    - with `recurrent_dropout`, `unroll=True`, `implementation=1`, `use_cudnn=True`, `reset_after=False`, or
      activations other than "tanh" and "sigmoid".

    Additional methods: `call_embedded` takes ids instead of embeddings; `step`, `project` and `step_projected` make
    single steps. The state is h: (batch, units).
    """

    steps = GRUSteps

    def input_bias(self):
        """Returns the bias of the projected inputs, (gates * units,), in compute precision."""
        return self._weight(self.cell.bias)[0]

    def recurrent_weights(self):
        """Returns the weights that `steps` takes, in compute precision."""
        kernel = self._weight(self.cell.recurrent_kernel)  # (units, 3 * units)
        bias = self._weight(self.cell.bias)[1] if self.use_bias else tf.zeros((3 * self.units,), kernel.dtype)
        return kernel, bias


@keras.saving.register_keras_serializable(package="lightkeras")
class LSTM(_FastRecurrent, keras.layers.LSTM):
    """`keras.layers.LSTM` in a fast formulation: same arguments, weights, results and gradients.

    The description of `GRU` applies (an LSTM has no `reset_after`). The states are h and c: (batch, units) each.
    """

    steps = LSTMSteps

    def input_bias(self):
        """Returns the bias of the projected inputs, (gates * units,), in compute precision."""
        return self._weight(self.cell.bias)

    def recurrent_weights(self):
        """Returns the weights that `steps` takes, in compute precision."""
        return (self._weight(self.cell.recurrent_kernel),)
