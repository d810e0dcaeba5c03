"""The endpoints of an export: text in, text out; and the steps of the network over ids."""

import numpy as np
import tensorflow as tf

import lightkeras as lk

PROMPTS = (5, 12)  # characters of the example's texts
PART = 512  # characters that are compiled as one loop
SCALAR = {dtype: tf.TensorSpec((), dtype) for dtype in (tf.int32, tf.int64, tf.float32)}


def endpoints(task) -> dict[str, lk.export.Endpoint]:
    """Returns `generate` (texts), `generate_greedy` (ids) and `step` (one character)."""
    codec = lk.export.CharacterCodec(task.vocabulary)
    return {
        "generate": lk.export.Endpoint(
            lambda **given: _generate(task.network, codec, **given),
            {"prompt": lk.export.TEXTS, "length": SCALAR[tf.int32], "temperature": SCALAR[tf.float32],
             "seed": SCALAR[tf.int64]},
            _generate_examples(task), lambda **given: _generate_by_task(task, **given),
        ),
        "generate_greedy": lk.export.Endpoint(
            lambda **given: _generate_greedy(task.network, **given),
            {"ids": tf.TensorSpec((None, None), tf.int32), "length": SCALAR[tf.int32]},
            [{"ids": [[0, 1], [1, 0]], "length": 8}],
            lambda ids, length: _generate_greedy_by_task(task, ids, length),
        ),
        "step": _step(task.network),
    }  # fmt: skip


def _generate_examples(task) -> list[dict]:
    """Prompts from the validation text, where the data is at hand; else of the first and the last character."""
    tokens = task.vocabulary.tokens
    first, last = tokens[0], tokens[0] + tokens[-1]
    if text := task.data.splits.get("validation"):
        first, last = (task.vocabulary.decode(text.windows(np.array([0]), length)[0]) for length in PROMPTS)
    common = {"temperature": 0.8, "seed": 7}
    return [
        {"prompt": [first, last], "length": PART + 8, **common},
        {"prompt": [last, first], "length": 5, "temperature": 0.0, "seed": 2**33},
    ]


def _generate_by_task(task, prompt, length, temperature, seed) -> dict:
    options = {"length": length, "temperature": temperature, "seed": seed}
    rows = len(prompt)  # the draws of a row depend on its number
    texts = [task.generate(one, **options, num_samples=rows)[row] for row, one in enumerate(prompt)]
    return {"text": lk.export.texts_of(texts)}


def _generate(network, codec, prompt, length, temperature, seed):
    """Continues texts (rows,) of any lengths: `TextGeneration.generate` in a graph."""
    length = lk.export.checked_between("length", length, 1)
    temperature = lk.export.checked_between("temperature", temperature, 0.0)
    seed = lk.export.checked_between("seed", seed, 0)
    ids, lengths = codec.encode(prompt)  # (rows, time), (rows,)
    before = tf.range(tf.shape(ids)[1]) < lengths[:, None] - 1  # all but the last character
    states = network(ids, padding_mask=before)[1]
    last = tf.gather(ids, lengths - 1, batch_dims=1)  # (rows,)
    pair = tf.cast(tf.stack([seed & 0x7FFFFFFF, seed // 2**31]), tf.int32)
    written = _write_in_parts(network, last, states, length, temperature, pair)  # (rows, length)
    return {"text": tf.strings.join([prompt, codec.decode(written)])}


def _write_in_parts(network, last, states, length, temperature, seed):
    """Draws ids (rows, length), a compiled loop (XLA) of `PART` characters after the other."""

    @tf.function(jit_compile=True, autograph=False)
    def write(last, states, first, count, temperature, seed):
        draw = {"temperature": temperature, "seed": seed, "capacity": PART}
        return lk.decoding.continue_text(network.make_next_function(), states, last, first, count, **draw)

    def part(number, last, states, parts):
        first = number * PART
        ids, last, states = write(last, states, first, tf.minimum(PART, length - first), temperature, seed)
        return number + 1, last, states, parts.write(number, ids)

    number = (length + PART - 1) // PART
    parts = tf.TensorArray(tf.int32, number, element_shape=(None, PART))
    *_, parts = tf.while_loop(lambda i, *_: i < number, part, (tf.constant(0), last, states, parts))
    rows = tf.shape(last)[0]
    written = tf.transpose(parts.stack(), (1, 0, 2))  # (rows, parts, PART)
    return tf.reshape(written, (rows, number * PART))[:, :length]


def _generate_greedy(network, ids, length):
    """Continues ids (rows, time) by the most probable characters: (rows, length)."""
    next_fn, given = network.make_next_function(), tf.shape(ids)[1]

    def step(t, last, states, written):
        logits, states = next_fn(last, states)
        best = tf.argmax(logits, -1, output_type=tf.int32)
        reading = t + 1 < given
        last = tf.where(reading, ids[:, tf.minimum(t + 1, given - 1)], best)
        return t + 1, last, states, lk.export.put(written, t, best)

    steps = given + length - 1
    written = tf.zeros([tf.shape(ids)[0], steps], tf.int32)
    start = (tf.constant(0), ids[:, 0], network.initial_states(tf.shape(ids)[0]), written)
    *_, written = tf.while_loop(lambda t, *_: t < steps, step, start)
    return {"tokens": written[:, given - 1 :]}


def _generate_greedy_by_task(task, ids, length) -> dict:
    tokens = task.vocabulary.tokens
    prompts = ["".join(tokens[i] for i in row) for row in ids]
    texts = [task.generate(prompt, length, temperature=0.0)[0][len(prompt) :] for prompt in prompts]
    return {"tokens": [task.vocabulary.encode(text) for text in texts]}


def _step(network) -> lk.export.Endpoint:
    """One character: ids (rows,) and states to logits (rows, vocabulary) and the new states."""
    initial = network.initial_states(1)
    names = [f"state_{number}" for number, _ in enumerate(tf.nest.flatten(initial))]
    specs = [tf.TensorSpec((None, state.shape[1]), state.dtype) for state in tf.nest.flatten(initial)]

    def step(ids, **states):
        packed = tf.nest.pack_sequence_as(initial, [states[name] for name in names])
        logits, after = network.make_next_function()(ids, packed)
        following = {f"next_{name}": new for name, new in zip(names, tf.nest.flatten(after), strict=True)}
        return {"logits": logits, **following}

    return lk.export.Endpoint(step, {"ids": tf.TensorSpec((None,), tf.int32), **dict(zip(names, specs, strict=True))})
