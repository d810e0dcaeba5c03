"""Attention and the attending decoder against stock Keras layers in an unrolled loop: values and gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lightkeras import layers

BATCH, TIME, SLOTS, FEATURES, MEMORY, UNITS, ATTENTION = 3, 4, 5, 2, 3, 4, 6
MASKS = {
    "none": None,
    "right": [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]],
    "holes": [[0, 1, 0, 1, 1], [0, 0, 0, 0, 0], [0, 0, 1, 1, 1]],  # also: no slot at all
}
MODES = {"eager": lambda f: f, "graph": tf.function, "xla": lambda f: tf.function(f, jit_compile=True)}
both = pytest.mark.parametrize("cell", ["gru", "lstm"])


def normal(*shape, seed=0, dtype="float64"):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), dtype)


def mask_named(name):
    return None if MASKS[name] is None else tf.cast(MASKS[name], tf.bool)


def decoder_of(cell, dtype="float64"):
    """A decoder whose weights, biases too, are random."""
    decoder = layers.AttentionDecoder(UNITS, ATTENTION, cell, dtype=dtype)
    decoder.build((None, None, FEATURES), (None, None, MEMORY))
    decoder.set_weights([0.7 * normal(*w.shape, seed=i).numpy() for i, w in enumerate(decoder.weights)])
    return decoder


def example(dtype="float64", batch=BATCH, time=TIME, slots=SLOTS):
    """Inputs and memory."""
    return normal(batch, time, FEATURES, seed=20, dtype=dtype), normal(batch, slots, MEMORY, seed=21, dtype=dtype)


def states_of(decoder, batch=BATCH):
    return [normal(batch, UNITS, seed=30 + i) for i, _ in enumerate(decoder.get_initial_state(1))]


def reference_attention(attention, query, memory, mask):
    """Keras' additive attention between projections; in a row without any slot, where it is of no use, zeros."""
    stock = keras.layers.AdditiveAttention(dtype="float64")
    stock.build([(None, 1, ATTENTION), (None, None, MEMORY), (None, None, ATTENTION)])
    stock.scale = attention.scale.value[:, 0]
    keys = tf.tensordot(memory, attention.key_kernel.value, 1) + attention.bias.value
    inputs = [tf.matmul(query, attention.query_kernel.value)[:, None], memory, keys]
    context, weights = stock(inputs, mask=[None, mask], return_attention_scores=True)  # (batch, 1, ...) each
    any_slot = 1.0 if mask is None else tf.cast(tf.reduce_any(mask, 1, keepdims=True), "float64")
    return context[:, 0] * any_slot, weights[:, 0] * any_slot


def reference(decoder, inputs, memory, mask=None, states=None):
    """The decoder as its definition reads: stock cell, unrolled."""
    states = list(states or decoder.get_initial_state(inputs.shape[0]))
    steps = []
    for t in range(inputs.shape[1]):
        context, weights = reference_attention(decoder.attention, states[0], memory, mask)
        output, states = decoder.recurrent.cell(tf.concat([inputs[:, t], context], -1), states)
        steps.append((output, context, weights))
    return (*(tf.stack(parts, 1) for parts in zip(*steps, strict=True)), list(states))


def values_and_gradients(call, sources):
    """The outputs of `call()` and the gradients of a loss that weighs every element differently."""
    with tf.GradientTape() as tape:
        tape.watch([s for s in sources if tf.is_tensor(s)])
        outputs = tf.nest.flatten(call())
        loss = tf.add_n([tf.reduce_sum(tf.sin(3 * y + i)) for i, y in enumerate(outputs)])
    return outputs, [tf.convert_to_tensor(g) for g in tape.gradient(loss, sources)]


def variables(layer):
    return [v.value for v in layer.trainable_variables]


def assert_close(actual, expected, tolerance=1e-12):
    actual, expected = tf.nest.flatten(actual), tf.nest.flatten(expected)
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(np.asarray(a, "float64"), np.asarray(e, "float64"), rtol=tolerance, atol=tolerance)


# Attention


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("mask", MASKS)
def test_attention_equals_keras(mode, mask):
    attention = layers.AdditiveAttention(ATTENTION, dtype="float64")
    query, (_, memory), mask = normal(BATCH, UNITS, seed=3), example(), mask_named(mask)
    attention.build(query.shape, memory.shape)
    attention.bias.assign(normal(ATTENTION, seed=4))
    sources = [query, memory, *variables(attention)]

    def run():
        return values_and_gradients(lambda: attention(query, memory, memory_mask=mask), sources)

    expected = values_and_gradients(lambda: reference_attention(attention, query, memory, mask), sources)
    assert_close(MODES[mode](run)(), expected)


def test_attention_worked_by_hand():
    attention = layers.AdditiveAttention(1, dtype="float64")
    attention.build((1, 1), (1, 2, 1))
    attention.set_weights([np.array(w) for w in ([[1.0]], [[1.0]], [0.0], [[2.0]])])
    memory = tf.constant([[[0.0], [np.arctanh(0.5)], [9.0]]], "float64")
    context, weights = attention(tf.zeros((1, 1)), memory, memory_mask=tf.constant([[True, True, False]]))
    # scores 2 tanh(0) = 0 and 2 tanh(artanh 1/2) = 1: weights 1 to e
    assert_close(weights[0], np.array([1, np.e, 0]) / (1 + np.e))
    assert_close(context[0, 0], np.arctanh(0.5) * np.e / (1 + np.e))


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_masked_slots_get_exactly_nothing(dtype, size):
    attention = layers.AdditiveAttention(ATTENTION, dtype=dtype)
    query, (_, memory), mask = normal(BATCH, UNITS, dtype="float32"), example("float32"), mask_named("holes")
    attention.build(query.shape, memory.shape)
    attention.scale.assign(size * attention.scale)
    _, (*gradients, d_memory, _) = values_and_gradients(
        lambda: attention(query, memory, memory_mask=mask), [*variables(attention), memory, query]
    )
    _, weights = attention(query, memory, memory_mask=mask)
    weights = np.asarray(weights, "float32")
    assert (weights[~mask.numpy()] == 0).all()
    np.testing.assert_allclose(weights.sum(-1), [1, 0, 1], atol=0.02)
    assert (np.asarray(d_memory)[~mask.numpy()] == 0).all()
    assert all(np.isfinite(np.asarray(g, "float32")).all() for g in gradients)


# The decoder


@both
@pytest.mark.parametrize(
    "mode, mask", [("eager", "none"), ("eager", "holes"), ("graph", "right"), ("graph", "none"), ("xla", "holes")]
)
def test_equals_the_unrolled_loop(cell, mode, mask):
    decoder, (inputs, memory), mask = decoder_of(cell), example(), mask_named(mask)
    states = states_of(decoder)
    sources = [inputs, memory, *states, *variables(decoder)]

    def run():
        return values_and_gradients(lambda: decoder(inputs, memory, memory_mask=mask, initial_state=states), sources)

    expected = values_and_gradients(lambda: reference(decoder, inputs, memory, mask, states), sources)
    assert_close(MODES[mode](run)(), expected)


@both
def test_float32_from_no_states(cell):
    exact, single, (inputs, memory) = decoder_of(cell), decoder_of(cell, "float32"), example("float32")
    actual = values_and_gradients(lambda: single(inputs, memory), [inputs, memory, *variables(single)])
    inputs, memory = tf.cast(inputs, "float64"), tf.cast(memory, "float64")
    expected = values_and_gradients(lambda: reference(exact, inputs, memory), [inputs, memory, *variables(exact)])
    assert_close(actual, expected, 1e-5)


@pytest.mark.parametrize("part", range(4))
def test_gradient_of_each_output_alone(part):
    decoder, (inputs, memory), mask = decoder_of("lstm"), example(), mask_named("holes")
    sources = [inputs, memory, *variables(decoder)]

    def gradients(call):
        with tf.GradientTape() as tape:
            tape.watch(sources[:2])
            loss = tf.add_n([tf.reduce_sum(tf.sin(y)) for y in tf.nest.flatten(call()[part])])
        return tape.gradient(loss, sources, unconnected_gradients="zero")

    actual = gradients(lambda: decoder(inputs, memory, memory_mask=mask))
    assert_close(actual, gradients(lambda: reference(decoder, inputs, memory, mask)))
    assert any(np.abs(g).max() > 0 for g in actual[:1])


@both
def test_one_dimension_unknown_or_all(cell):
    decoder = decoder_of(cell)
    signature = [tf.TensorSpec(shape, "float64") for shape in ((None, None, FEATURES), (None, None, MEMORY))]
    signature.append(tf.TensorSpec((None, None), tf.bool))

    @tf.function(input_signature=signature)
    def run(inputs, memory, mask):
        return values_and_gradients(
            lambda: decoder(inputs, memory, memory_mask=mask), [inputs, memory, *variables(decoder)]
        )

    for batch, time, slots in [(2, 3, 4), (1, 1, 2)]:
        inputs, memory = example(batch=batch, time=time, slots=slots)
        mask = tf.sequence_mask(range(1, batch + 1), slots)
        expected = values_and_gradients(
            lambda i=inputs, m=memory, k=mask: reference(decoder, i, m, k), [inputs, memory, *variables(decoder)]
        )
        assert_close(run(inputs, memory, mask), expected)


@both
def test_padding_changes_nothing(cell):
    decoder, (inputs, memory), mask = decoder_of(cell), example(), mask_named("right")
    outputs, contexts, weights, states = decoder(inputs, memory, memory_mask=mask)
    wide = tf.concat([memory, 1e3 * normal(BATCH, 2, MEMORY, seed=9)], 1)
    padded = decoder(inputs, wide, memory_mask=tf.pad(mask, [[0, 0], [0, 2]]))
    assert_close(padded, (outputs, contexts, tf.pad(weights, [[0, 0], [0, 0], [0, 2]]), states))

    long = tf.concat([inputs, normal(BATCH, 3, FEATURES, seed=9)], 1)
    later = decoder(long, memory, memory_mask=mask)
    assert_close([part[:, :TIME] for part in later[:3]], [outputs, contexts, weights])


def test_keras_mask_of_the_memory_is_taken():
    decoder, (inputs, _) = decoder_of("gru", "float32"), example("float32")
    embedding = keras.layers.Embedding(9, MEMORY, mask_zero=True)
    ids = tf.constant([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8], [1, 0, 0, 0, 0]])
    memory = embedding(ids)
    _, _, weights, _ = decoder(inputs, memory)
    assert ((weights.numpy() > 0) == np.asarray(ids > 0)[:, None]).all()


def test_in_a_functional_model_that_is_saved(tmp_path):
    inputs, memory = keras.Input((None, FEATURES)), keras.Input((SLOTS, MEMORY))
    decoder = layers.AttentionDecoder(UNITS, ATTENTION, "lstm")
    outputs, contexts, weights, states = decoder(inputs, memory)
    shapes = [tuple(part.shape) for part in (outputs, contexts, weights, *states)]
    assert shapes == [(None, None, UNITS), (None, None, MEMORY), (None, None, SLOTS), (None, UNITS), (None, UNITS)]
    model = keras.Model([inputs, memory], [outputs, contexts, weights])
    model.save(tmp_path / "model.keras")
    example_inputs = list(example("float32"))
    assert_close(keras.models.load_model(tmp_path / "model.keras")(example_inputs), model(example_inputs), 0)


def test_attention_is_saved_with_its_arguments():
    attention = layers.AdditiveAttention(ATTENTION, dtype="mixed_bfloat16")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(attention))
    assert again.units == ATTENTION and again.compute_dtype == "bfloat16"


# Where it runs


@pytest.mark.parametrize("cell, mode", [("gru", "graph"), ("lstm", "graph"), ("gru", "xla")])
def test_in_a_loop_over_micro_batches(cell, mode):
    decoder, mask = decoder_of(cell), mask_named("right")
    inputs, memory = normal(2, BATCH, TIME, FEATURES), normal(2, BATCH, SLOTS, MEMORY)

    def gradients(call, i):
        return values_and_gradients(lambda: call(inputs[i], memory[i]), variables(decoder))[1]

    def accumulated():
        def body(i, sums):
            new = gradients(lambda x, m: decoder(x, m, memory_mask=mask), i)
            return i + 1, [s + g for s, g in zip(sums, new, strict=True)]

        zeros = [tf.zeros_like(v) for v in variables(decoder)]
        return tf.while_loop(lambda i, _: i < 2, body, (0, zeros), maximum_iterations=2)[1]

    parts = [gradients(lambda x, m: reference(decoder, x, m, mask), i) for i in range(2)]
    assert_close(MODES[mode](accumulated)(), [a + b for a, b in zip(*parts, strict=True)])


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_two_replicas(mode):
    devices = tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        pytest.skip("needs two logical CPUs")
    strategy = tf.distribute.MirroredStrategy([d.name for d in devices[:2]])
    with strategy.scope():
        decoder = decoder_of("gru")
    inputs, memory = example()

    def run(call):
        return values_and_gradients(lambda: call(inputs, memory), [inputs, memory, *variables(decoder)])

    results = MODES[mode](lambda: strategy.run(run, (decoder,)))()
    expected = run(lambda *arrays: reference(decoder, *arrays))
    for replica in zip(*map(strategy.experimental_local_results, tf.nest.flatten(results)), strict=True):
        assert_close(list(replica), expected)


@pytest.mark.parametrize(
    "cell, dtype, mode",
    [("gru", "mixed_bfloat16", "xla"), ("lstm", "mixed_bfloat16", "eager"), ("gru", "mixed_float16", "graph")],
)
def test_mixed_precision(cell, dtype, mode):
    decoder, exact, (inputs, memory) = decoder_of(cell, dtype), decoder_of(cell), example("float32")
    mask = mask_named("holes")

    def run():
        call = lambda: decoder(inputs, memory, memory_mask=mask)  # noqa: E731
        return values_and_gradients(call, [inputs, memory, *variables(decoder)])

    outputs, gradients = MODES[mode](run)()
    assert {y.dtype.name for y in outputs} == {dtype.removeprefix("mixed_")}
    assert {g.dtype for g in gradients} == {tf.float32}
    expected = reference(exact, tf.cast(inputs, "float64"), tf.cast(memory, "float64"), mask)
    assert_close(outputs, expected, {"mixed_bfloat16": 0.1, "mixed_float16": 0.01}[dtype])
    assert all(np.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("cell, mode", [("lstm", "eager"), ("gru", "graph")])
def test_gradient_of_the_gradient(cell, mode):
    decoder, (inputs, memory) = decoder_of(cell), example()

    def run(call):
        with tf.GradientTape() as outer:
            outer.watch([inputs, memory])
            _, gradients = values_and_gradients(lambda: call(inputs, memory), [inputs, memory])
            norm = tf.add_n([tf.reduce_sum(g * g) for g in gradients])
        return outer.gradient(norm, [inputs, memory, *variables(decoder)])

    expected = run(lambda *arrays: reference(decoder, *arrays))
    assert_close(MODES[mode](lambda: run(decoder))(), expected, 1e-10)


# Single steps


@pytest.mark.parametrize("cell, mode", [("gru", "graph"), ("lstm", "graph"), ("lstm", "eager"), ("gru", "xla")])
def test_steps_equal_the_sequence(cell, mode):
    decoder, (inputs, memory), mask = decoder_of(cell), example(), mask_named("holes")
    states = states_of(decoder)
    sources = [inputs, memory, *states, *variables(decoder)]

    def by_steps():
        prepared = decoder.prepare(memory, mask)

        def body(t, states, arrays):
            *parts, states = decoder.step(inputs[:, t], states, prepared)
            return t + 1, states, [a.write(t, part) for a, part in zip(arrays, parts, strict=True)]

        arrays = [tf.TensorArray("float64", TIME, element_shape=(BATCH, size)) for size in (UNITS, MEMORY, SLOTS)]
        loop = (0, states, arrays)
        _, last, arrays = tf.while_loop(lambda t, *_: t < TIME, body, loop, maximum_iterations=TIME)
        return *(tf.transpose(array.stack(), (1, 0, 2)) for array in arrays), last

    expected = values_and_gradients(lambda: decoder(inputs, memory, memory_mask=mask, initial_state=states), sources)
    assert_close(MODES[mode](lambda: values_and_gradients(by_steps, sources))(), expected)


def test_rows_of_what_is_prepared_may_be_gathered():
    decoder, (inputs, memory) = decoder_of("gru"), example()
    (state,) = states_of(decoder)
    rows = [2, 0, 0, 1]
    prepared = decoder.prepare(memory)
    assert all(part.shape[0] == BATCH for part in prepared) and prepared[2].numpy().all()
    prepared = tf.nest.map_structure(lambda part: tf.gather(part, rows), prepared)
    *actual, new_state = decoder.step(tf.gather(inputs[:, 0], rows), tf.gather(state, rows), prepared)
    outputs, contexts, weights, _ = decoder(inputs, memory, initial_state=state)
    assert_close(actual, [tf.gather(part[:, 0], rows) for part in (outputs, contexts, weights)])
    assert_close(new_state, actual[0], 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 4), "`units` to be a positive int"), ((4, 0), "`units`"), ((4, 4, "rnn"), "'gru', 'lstm'")],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        layers.AttentionDecoder(*arguments)
