"""The endpoints `encode` and `step` of a network that is decoded token by token."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from lightkeras.export.endpoints import Endpoint
from lightkeras.text.ids import START


def decoding_steps(
    network: Any, inputs: Mapping[str, tf.TensorSpec], example: Mapping[str, Any]
) -> dict[str, Endpoint]:
    """Returns the endpoints of a network as `lk.decoding.CompiledSearch` takes it.

    `encode` turns the inputs into states `state_0`, `state_1`, ...; `step` takes the newest ids, (rows,), at first
    `START`, and the states, and returns `logits` (rows, tokens), `attention` (rows, slots)
    and the states that change: `next_state_0`, ...

    Args:
        network: It has `encode` and `next`.
        inputs: The spec of the only input, by its name.
        example: An example of it, by its name.
    """
    (name,) = inputs
    start = tf.function(network.encode, autograph=False).get_concrete_function(inputs[name]).structured_outputs
    states = tf.nest.flatten(start)
    names = [f"state_{number}" for number, _ in enumerate(states)]
    specs = {
        key: tf.TensorSpec((None, *state.shape[1:]), state.dtype) for key, state in zip(names, states, strict=True)
    }

    def encode(**given):
        return dict(zip(names, tf.nest.flatten(network.encode(given[name])), strict=True))

    def step(ids, **given):
        before = tf.nest.pack_sequence_as(start, [given[key] for key in names])
        logits, after, attention = network.next(ids, before)
        changed = {
            f"next_{key}": new for key, new in zip(names, tf.nest.flatten(after), strict=True) if new is not given[key]
        }
        return {"logits": logits, "attention": attention, **changed}

    read = encode(**{name: tf.constant(example[name], inputs[name].dtype)})
    rows = len(np.asarray(example[name]))
    return {
        "encode": Endpoint(encode, inputs, [example]),
        "step": Endpoint(step, {"ids": tf.TensorSpec((None,), tf.int32), **specs}, [{"ids": [START] * rows, **read}]),
    }
