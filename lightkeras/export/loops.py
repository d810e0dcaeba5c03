"""Loops that ONNX and LiteRT have too: they write to tensors of a known length, not to lists of tensors."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf


def put(target: tf.Tensor, place: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """Returns `target`, (rows, places, ...), with `value`, (rows, ...), at one of the places."""
    here = tf.range(tf.shape(target)[1]) == place
    return tf.where(tf.reshape(here, (1, -1, *[1] * (target.shape.rank - 2))), value[:, None], target)


def run_recurrent(layer: Any, inputs: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Runs a recurrent layer of Keras' or of ours (GRU, LSTM) by steps of its cell.

    Args:
        layer: The layer; with `go_backwards` it reads from the end.
        inputs: (rows, slots, features).
        mask: Booleans (rows, slots): False leaves states and output as they are.

    Returns:
        The outputs (rows, slots, units), in the order of the inputs in both directions, and the final states.
    """
    shape = tf.shape(inputs)
    states = [tf.fill((shape[0], size), tf.zeros((), inputs.dtype)) for size in tf.nest.flatten(layer.cell.state_size)]
    outputs = tf.fill((shape[0], shape[1], layer.cell.output_size), tf.zeros((), inputs.dtype))

    def step(number, outputs, *states):
        place = shape[1] - 1 - number if layer.go_backwards else number
        after = tf.nest.flatten(layer.cell(tf.gather(inputs, place, axis=1), [*states])[1])
        kept = tf.gather(mask, place, axis=1)[:, None]  # (rows, 1)
        after = [tf.where(kept, new, old) for new, old in zip(after, states, strict=True)]
        return number + 1, put(outputs, place, after[0]), *after

    _, outputs, *states = tf.while_loop(
        lambda number, *_: number < shape[1], step, (tf.constant(0), outputs, *states),
    )  # fmt: skip
    return outputs, states


def search_greedily(
    next_fn: Callable, states: Any, rows: tf.Tensor, max_length: tf.Tensor, start_id: int, end_id: int,
    forbidden: tuple[int, ...],
) -> tf.Tensor:  # fmt: skip
    """Does `lk.decoding.greedy_search`: ids (rows, steps), `end_id` after the end.

    Args:
        next_fn: Takes ids (rows,) and states, and returns logits (rows, tokens), the new states and attention.
        states: The first states, a nest of tensors (rows, ...).
        rows: Their number.
        max_length: The most tokens of each row, its end included: (rows,).
        start_id, end_id, forbidden: As `lk.decoding.CompiledSearch` has them.
    """
    steps = tf.reduce_max(max_length)
    flat = tf.nest.flatten(states)

    def step(t, last, found, *flat):
        logits, after, _ = next_fn(last, tf.nest.pack_sequence_as(states, flat))
        allowed = np.ones(logits.shape[-1], bool)
        allowed[[*forbidden]] = False
        best = tf.argmax(tf.where(allowed, tf.cast(logits, tf.float32), -np.inf), -1, output_type=tf.int32)
        ended = (last == end_id) | (t >= max_length)
        best = tf.where(ended, end_id, best)
        return t + 1, best, put(found, t, best), *tf.nest.flatten(after)

    first = (tf.constant(0), tf.fill([rows], start_id), tf.fill([rows, steps], end_id), *flat)
    shapes = (tf.TensorShape(()), tf.TensorShape((None,)), tf.TensorShape((None, None)), *(one.shape for one in flat))

    def goes_on(t, last, *_):  # what is not reached is `end_id` already
        return (t < steps) & tf.reduce_any((last != end_id) & (t < max_length))

    return tf.while_loop(goes_on, step, first, shapes)[2]
