"""The fast recurrent layers against the stock Keras layers: values and gradients."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import config

from lightkeras import layers

with contextlib.suppress(RuntimeError):  # TensorFlow runs already: then with the devices it has
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )

BATCH, TIME, FEATURES, UNITS, VOCABULARY = 3, 6, 4, 5, 7
MASKS = {
    "none": None,
    "right": [[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]],
    "middle": [
        [1, 0, 0, 1, 1, 0],
        [0, 0, 1, 1, 0, 1],
        [0, 0, 0, 0, 0, 0],
    ],  # also: masked first, masked wholly
}
MODES = {"eager": lambda f: f, "graph": tf.function, "xla": lambda f: tf.function(f, jit_compile=True)}
both = pytest.mark.parametrize("name", ["GRU", "LSTM"])


def pair(name, dtype="float64", **kwargs):
    """A stock layer and ours with the same random weights."""
    keras.utils.set_random_seed(1)
    stock = getattr(keras.layers, name)(UNITS, dtype=dtype, bias_initializer="uniform", **kwargs)
    fast = getattr(layers, name)(UNITS, dtype=dtype, **kwargs)
    stock.build((BATCH, TIME, FEATURES))
    fast.build((BATCH, TIME, FEATURES))
    fast.set_weights(stock.get_weights())
    return stock, fast


def normal(*shape, seed=0, dtype="float64"):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), dtype)


def initial_states(layer, seed=5):
    return [normal(BATCH, UNITS, seed=seed + i) for i in range(len(layer.state_size))]


def mask_named(name):
    return None if MASKS[name] is None else tf.cast(MASKS[name], tf.bool)


def random_ids(seed=3):
    return tf.constant(np.random.default_rng(seed).integers(0, VOCABULARY, (BATCH, TIME)), tf.int32)


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


def no_stock_loop(*args, **kwargs):
    raise AssertionError("the stock layer's loop ran")


def no_fast_loop(*args, **kwargs):
    raise AssertionError("the fast loop ran")


@pytest.fixture
def only_fast(monkeypatch):
    """Makes the fast layers' way back to the stock loop an error."""

    def forbid(layer):
        monkeypatch.setattr(layer.cell, "call", no_stock_loop)

    return forbid


# The layer called


@both
@pytest.mark.parametrize(
    "mode, mask",
    [
        ("eager", "none"),
        ("eager", "right"),
        ("eager", "middle"),
        ("graph", "middle"),
        ("xla", "none"),
        ("xla", "middle"),
    ],
)
def test_equals_stock(name, mode, mask, only_fast):
    stock, fast = pair(name, return_sequences=True, return_state=True)
    only_fast(fast)
    inputs, states, mask = normal(BATCH, TIME, FEATURES), initial_states(fast), mask_named(mask)

    def run(layer):
        return values_and_gradients(
            lambda: layer(inputs, initial_state=states, mask=mask), [inputs, *states, *variables(layer)]
        )

    assert_close(MODES[mode](lambda: run(fast))(), run(stock))


@both
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(
    "arguments",
    [
        {"return_state": True},
        {"go_backwards": True, "return_sequences": True, "return_state": True},
        {"go_backwards": True},
        {"zero_output_for_mask": True, "return_sequences": True},
        {"zero_output_for_mask": True},
        {"use_bias": False},
        {"dropout": 0.5, "seed": 3},
        {"stateful": True},
    ],
    ids=lambda arguments: "-".join(arguments),
)
def test_arguments_equal_stock(name, mask, arguments, only_fast):
    stock, fast = pair(name, **arguments)
    only_fast(fast)
    inputs, mask = normal(BATCH, TIME, FEATURES), mask_named(mask)

    def run(layer):
        first = layer(inputs, training=True)  # moves the state of stateful layers, the seeds of dropout
        later = values_and_gradients(lambda: layer(inputs, mask=mask, training=True), [inputs, *variables(layer)])
        return first, later

    assert_close(run(fast), run(stock))


@both
def test_unknown_batch_and_time(name):
    stock, fast = pair(name, return_sequences=True)

    @tf.function(input_signature=[tf.TensorSpec((None, None, FEATURES), "float64")])
    def run(inputs):
        return values_and_gradients(lambda: fast(inputs), [inputs, *variables(fast)])

    for batch, time in [(2, 3), (1, 5)]:
        inputs = normal(batch, time, FEATURES)
        assert_close(run(inputs), values_and_gradients(lambda x=inputs: stock(x), [inputs, *variables(stock)]))


@both
def test_functional_model_with_masking_and_bidirectional(name):
    inputs = keras.Input((TIME,), dtype="int32")
    hidden = keras.layers.Embedding(VOCABULARY, FEATURES, mask_zero=True)(inputs)
    hidden = keras.layers.Bidirectional(getattr(layers, name)(UNITS, return_sequences=True))(hidden)
    assert hidden.shape == (None, TIME, 2 * UNITS)
    fast = keras.Model(inputs, getattr(layers, name)(UNITS)(hidden))

    config = fast.get_config()
    for layer in config["layers"]:
        for part in (layer, layer["config"].get("layer"), layer["config"].get("backward_layer")):
            if part and part["registered_name"] == f"lightkeras>{name}":
                part.update(module="keras.layers", registered_name=None)
    stock = keras.Model.from_config(config)
    assert not any(isinstance(layer, getattr(layers, name)) for layer in stock.layers)
    stock.set_weights(fast.get_weights())
    assert_close(fast(random_ids()), stock(random_ids()), 1e-6)


@both
def test_serialises_with_the_same_weight_names(name, tmp_path):
    stock, fast = pair(name, return_sequences=True)
    assert [(v.name, v.shape) for v in fast.weights] == [(v.name, v.shape) for v in stock.weights]
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(fast))
    assert type(again) is type(fast) and again.get_config() == fast.get_config()

    inputs = normal(BATCH, TIME, FEATURES, dtype="float32")
    model = keras.Sequential([getattr(layers, name)(UNITS)])
    expected = model(inputs)
    model.save(tmp_path / "model.keras")
    assert_close(keras.models.load_model(tmp_path / "model.keras")(inputs), expected, 0)


@both
@pytest.mark.parametrize(
    "arguments",
    [
        {"recurrent_dropout": 0.5, "seed": 3},
        {"activation": "relu"},
        {"recurrent_activation": "hard_sigmoid"},
        {"unroll": True},
        {"implementation": 1},
    ],
    ids=lambda arguments: "-".join(arguments),
)
def test_uncovered_arguments_go_to_the_stock_layer(name, arguments, monkeypatch):
    stock, fast = pair(name, **arguments)
    monkeypatch.setattr(fast, "_over_time", no_fast_loop)
    inputs = normal(BATCH, TIME, FEATURES)
    assert_close(fast(inputs, training=True), stock(inputs, training=True))


def test_gru_with_reset_before_goes_to_the_stock_layer():
    stock, fast = pair("GRU", reset_after=False)
    inputs = normal(BATCH, TIME, FEATURES)
    assert_close(fast(inputs), stock(inputs))
    with pytest.raises(ValueError, match="reset_after=True"):
        fast.step(inputs[:, 0], initial_states(fast))


@both
def test_on_a_gpu_the_stock_layer_runs(name, monkeypatch):
    _, fast = pair(name)
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: ["a GPU"])
    assert not fast._fast
    fast.use_cudnn = False
    assert fast._fast


@both
@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_gradient_of_the_gradient(name, mode):
    stock, fast = pair(name)
    inputs = normal(BATCH, TIME, FEATURES)

    def run(layer):
        with tf.GradientTape() as outer:
            outer.watch(inputs)
            _, (gradient,) = values_and_gradients(lambda: layer(inputs), [inputs])
            norm = tf.reduce_sum(gradient * gradient)
        return outer.gradient(norm, [inputs, *variables(layer)[:2]])

    assert_close(MODES[mode](lambda: run(fast))(), run(stock))


# Where it runs


@both
@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_in_a_loop_over_micro_batches(name, mode):
    stock, fast = pair(name)
    inputs = normal(2, BATCH, TIME, FEATURES)

    def gradients(layer, inputs):
        return values_and_gradients(lambda: layer(inputs), variables(layer))[1]

    def accumulated():
        def body(i, sums):
            return i + 1, [s + g for s, g in zip(sums, gradients(fast, inputs[i]), strict=True)]

        zeros = [tf.zeros_like(v) for v in variables(fast)]
        return tf.while_loop(lambda i, _: i < 2, body, (0, zeros), maximum_iterations=2)[1]

    expected = [a + b for a, b in zip(gradients(stock, inputs[0]), gradients(stock, inputs[1]), strict=True)]
    assert_close(MODES[mode](accumulated)(), expected)


@both
@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_two_replicas(name, mode):
    devices = tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        pytest.skip("needs two logical CPUs")
    strategy = tf.distribute.MirroredStrategy([d.name for d in devices[:2]])
    with strategy.scope():
        stock, fast = pair(name)
    inputs = normal(BATCH, TIME, FEATURES)

    def run(layer):
        return values_and_gradients(lambda: layer(inputs), [inputs, *variables(layer)])

    results = MODES[mode](lambda: strategy.run(run, (fast,)))()
    expected = run(stock)
    for replica in zip(*map(strategy.experimental_local_results, tf.nest.flatten(results)), strict=True):
        assert_close(list(replica), expected)


@both
def test_bfloat16_under_xla(name):
    stock, fast = pair(name, dtype="mixed_bfloat16", return_sequences=True)
    inputs = normal(BATCH, TIME, FEATURES, dtype="float32")

    def run(layer):
        return values_and_gradients(lambda: layer(inputs), [inputs, *variables(layer)])

    outputs, gradients = MODES["xla"](lambda: run(fast))()
    assert outputs[0].dtype == tf.bfloat16 and {g.dtype for g in gradients} == {tf.float32}
    assert_close((outputs, gradients), run(stock), 0.1)


@both
def test_same_bits_every_time(name):
    _, fast = pair(name, dtype="float32")
    table = normal(VOCABULARY, FEATURES, dtype="float32")

    @tf.function
    def run():
        return values_and_gradients(lambda: fast.call_embedded(table, random_ids()), [table, *variables(fast)])

    tf.config.experimental.enable_op_determinism()
    try:
        first, second = run(), run()
    finally:
        config.disable_op_determinism()  # the public API can only enable it
    assert_close(first, second, 0)


# Folded embeddings


@both
@pytest.mark.parametrize("mode, mask", [("eager", "none"), ("graph", "right"), ("xla", "middle")])
def test_call_embedded_equals_lookup(name, mode, mask, only_fast):
    stock, fast = pair(name, return_sequences=True, return_state=True, go_backwards=True)
    only_fast(fast)
    table, ids, mask, states = (
        normal(VOCABULARY, FEATURES),
        random_ids(),
        mask_named(mask),
        initial_states(fast),
    )

    def folded():
        return fast.call_embedded(table, ids, initial_state=states, mask=mask)

    def looked_up():
        return stock(tf.gather(table, ids), initial_state=states, mask=mask)

    run = MODES[mode](lambda: values_and_gradients(folded, [table, *states, *variables(fast)]))
    assert_close(run(), values_and_gradients(looked_up, [table, *states, *variables(stock)]))


@both
def test_call_embedded_folds_only_where_it_pays(name, monkeypatch):
    _, fast = pair(name)
    rows = []
    project = fast.project
    monkeypatch.setattr(fast, "project", lambda inputs: rows.append(inputs.shape) or project(inputs))
    table = normal(10, FEATURES)
    fast.call_embedded(table, tf.zeros((2, 10), tf.int32))  # 2 * 10 <= 20
    fast.call_embedded(table, tf.zeros((2, 9), tf.int32))  # 2 * 10 > 18
    assert rows == [(10, FEATURES), (9, 2, FEATURES)]


@both
@pytest.mark.parametrize(
    "arguments",
    [
        {"dropout": 0.5, "seed": 3},
        {"recurrent_dropout": 0.5, "seed": 3},
        {"stateful": True},
        {"activation": "relu"},
        {"activity_regularizer": "l2"},
    ],
    ids=lambda arguments: "-".join(arguments),
)
def test_call_embedded_looks_up_otherwise(name, arguments):
    stock, fast = pair(name, **arguments)
    table, ids = normal(VOCABULARY, FEATURES), random_ids()
    for _ in range(2):
        actual = fast.call_embedded(table, ids, training=True)
        assert_close(actual, stock(tf.gather(table, ids), training=True))
    assert_close(fast.losses, stock.losses)


@both
def test_call_embedded_builds_the_layer_and_reads_variables(name):
    embedding = keras.layers.Embedding(VOCABULARY, FEATURES)
    ids = random_ids()
    inputs = embedding(ids)
    fast = getattr(layers, name)(UNITS)
    assert_close(fast.call_embedded(embedding.embeddings, ids), fast(inputs), 1e-6)


# Single steps


@both
@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_steps_equal_the_sequence(name, mode, only_fast):
    stock, fast = pair(name, return_sequences=True, return_state=True)
    only_fast(fast)
    inputs, states = normal(BATCH, TIME, FEATURES), initial_states(fast)

    def by_steps():
        def body(t, states, outputs):
            output, states = fast.step(inputs[:, t], states)
            return t + 1, states, outputs.write(t, output)

        outputs = tf.TensorArray(inputs.dtype, TIME, element_shape=(BATCH, UNITS))
        loop = (0, states, outputs)
        _, last, outputs = tf.while_loop(lambda t, *_: t < TIME, body, loop, maximum_iterations=TIME)
        return tf.transpose(outputs.stack(), (1, 0, 2)), *last

    def run(call, layer):
        return values_and_gradients(call, [inputs, *states, *variables(layer)])

    expected = run(lambda: stock(inputs, initial_state=states), stock)
    assert_close(MODES[mode](lambda: run(by_steps, fast))(), expected)


@both
@pytest.mark.parametrize("mode", ["eager", "xla"])
def test_steps_from_a_projected_table(name, mode):
    _, fast = pair(name)
    table, ids, states = normal(VOCABULARY, FEATURES), random_ids()[:, 0], tuple(initial_states(fast))

    def step():
        return fast.step_projected(tf.gather(fast.project(table), ids), states)

    output, new_states = MODES[mode](step)()
    assert isinstance(new_states, tuple)
    assert_close((output, new_states), fast.step(tf.gather(table, ids), states))


def test_gru_step_takes_the_state_itself():
    _, fast = pair("GRU")
    inputs, (state,) = normal(BATCH, FEATURES), initial_states(fast)
    output, new_state = fast.step(inputs, state)
    assert_close(new_state, output, 0)


@both
def test_step_refuses_other_activations(name):
    _, fast = pair(name, activation="relu")
    with pytest.raises(ValueError, match="activation tanh"):
        fast.step(normal(BATCH, FEATURES), initial_states(fast))
