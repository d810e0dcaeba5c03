"""The endpoints `encode` and `step` of a network that is decoded token by token."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from lightkeras.decoding import CompiledSearch
from lightkeras.export.endpoints import Endpoint
from lightkeras.export.loops import search_greedily
from lightkeras.text.ids import START


def decoding_steps(
    network: Any, inputs: Mapping[str, tf.TensorSpec], example: Mapping[str, Any], encode_fn: Callable | None = None
) -> dict[str, Endpoint]:
    """Returns the endpoints of a network as `lk.decoding.CompiledSearch` takes it.

    `encode` turns the inputs into states `state_0`, `state_1`, ...; `step` takes the newest ids, (rows,), at first
    `START`, and the states, and returns `logits` (rows, tokens), `attention` (rows, slots)
    and the states that change: `next_state_0`, ...

    Args:
        network: It has `encode` and `next`.
        inputs: The spec of the only input, by its name.
        example: An example of it, by its name.
        encode_fn: The network's `encode` in operations that ONNX and LiteRT have too, if it has others itself.
    """
    (name,) = inputs
    read_fn = encode_fn or network.encode
    start = tf.function(read_fn, autograph=False).get_concrete_function(inputs[name]).structured_outputs
    states = tf.nest.flatten(start)
    names = [f"state_{number}" for number, _ in enumerate(states)]
    specs = {
        key: tf.TensorSpec((None, *state.shape[1:]), state.dtype) for key, state in zip(names, states, strict=True)
    }

    def encode(**given):
        return dict(zip(names, tf.nest.flatten(read_fn(given[name])), strict=True))

    def encode_by_task(**given):
        states = network.encode(tf.constant(given[name], inputs[name].dtype))
        return dict(zip(names, tf.nest.flatten(states), strict=True))

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
        "encode": Endpoint(encode, inputs, [example], encode_by_task),
        "step": Endpoint(step, {"ids": tf.TensorSpec((None,), tf.int32), **specs}, [{"ids": [START] * rows, **read}]),
    }


def greedy_search(searcher: CompiledSearch, name: str, example: Any, encode_fn: Callable | None = None) -> Endpoint:
    """Returns the endpoint of a greedy search: its input in, `ids` (rows, steps) out, `END` after the end.

    Args:
        searcher: The task's search.
        name: The name of its input.
        example: An example of it.
        encode_fn: As `decoding_steps` takes it.
    """
    read_fn = encode_fn or searcher.network.encode

    def greedy(**given):
        inputs = given[name]
        rows = tf.shape(inputs)[0]
        lengths = searcher.max_lengths(inputs)
        return {
            "ids": search_greedily(
                searcher.network.next, read_fn(inputs), rows, lengths, searcher.start_id, searcher.end_id,
                tuple(searcher.forbidden),
            )
        }  # fmt: skip

    def by_task(**given):
        return {"ids": searcher(tf.constant(given[name], searcher.inputs.dtype)).ids[:, 0]}

    return Endpoint(greedy, {name: searcher.inputs}, [{name: example}], by_task)
