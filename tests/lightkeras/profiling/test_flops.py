"""Floating-point operations against counts by hand: forwards, backwards, in loops, branches and functions."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.small import Small, in_order, linear, made, points, squares, updated

import lightkeras as lk
from lightkeras.callbacks.model_summary import describe_flops, describe_memory
from lightkeras.profiling import update
from lightkeras.profiling.flops import count_flops
from lightkeras.profiling.memory import estimate_memory, tensor_bytes
from lightkeras.profiling.peaks import peak_of
from lightkeras.profiling.update import cost_of_update

F32 = tf.float32


def graph_of(function, *shapes, **how):
    return tf.function(function, **how).get_concrete_function(*(tf.TensorSpec(shape, F32) for shape in shapes)).graph


def flops(function, *shapes, **how):
    return count_flops(graph_of(function, *shapes, **how))


def forwards(layer, *shape):
    """The count of a layer, its weights created beforehand."""
    layer(tf.zeros(shape))
    return flops(layer, shape).total


def backwards(layer, *shape):
    """The count of a layer with the gradients of its weights and inputs."""
    layer(tf.zeros(shape))

    def both(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.square(layer(x)))
        return tape.gradient(loss, [*layer.trainable_variables, x])

    return flops(both, shape).total


L = keras.layers
LAYERS = {
    "dense": (lambda: L.Dense(5), (3, 4), 2 * 3 * 4 * 5),
    "dense over time": (lambda: L.Dense(5), (3, 7, 4), 2 * 21 * 4 * 5),
    "convolution, stride": (lambda: L.Conv2D(6, 3, strides=2, padding="same"), (2, 8, 8, 4), 2 * 2 * 16 * 9 * 4 * 6),
    "convolution, no padding": (lambda: L.Conv2D(6, 3), (2, 8, 8, 4), 2 * 2 * 36 * 9 * 4 * 6),
    "groups": (lambda: L.Conv2D(6, 3, groups=2, padding="same"), (2, 8, 8, 4), 2 * 2 * 64 * 9 * 2 * 6),
    "dilated": (lambda: L.Conv2D(6, 3, dilation_rate=2, padding="valid"), (2, 8, 8, 4), 2 * 2 * 16 * 9 * 4 * 6),
    "transposed": (lambda: L.Conv2DTranspose(6, 3, strides=2, padding="same"), (2, 8, 8, 4), 2 * 2 * 64 * 9 * 4 * 6),
    "depthwise": (lambda: L.DepthwiseConv2D(3, depth_multiplier=2, padding="same"), (2, 8, 8, 4), 2 * 2 * 64 * 9 * 8),
    "one axis": (lambda: L.Conv1D(6, 3, padding="causal"), (2, 8, 4), 2 * 2 * 8 * 3 * 4 * 6),
    "three axes": (lambda: L.Conv3D(6, 3, padding="same"), (2, 4, 4, 4, 3), 2 * 2 * 64 * 27 * 3 * 6),
    "GRU of Keras": (lambda: L.GRU(5), (3, 7, 4), 2 * 3 * 7 * 3 * 5 * (4 + 5)),
    "LSTM of Keras": (lambda: L.LSTM(5, return_sequences=True), (3, 7, 4), 2 * 3 * 7 * 4 * 5 * (4 + 5)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    make, shape, expected = LAYERS[name]
    assert forwards(make(), *shape) == expected


LEARNED = ("dense over time", "convolution, stride", "dilated", "transposed", "depthwise", "groups", "LSTM of Keras")


@pytest.mark.parametrize("name", LEARNED)
def test_gradients_are_twice_as_much(name):
    make, shape, expected = LAYERS[name]
    assert backwards(make(), *shape) == 3 * expected


def test_our_recurrent_layers():
    time, units, width = 7, 5, 4
    for layer, gates in ((lk.layers.GRU(units), 3), (lk.layers.LSTM(units), 4)):
        assert forwards(layer, 3, time, width) == 2 * 3 * time * gates * units * (width + units)


def test_a_look_up_counts_nothing():
    layer = L.Embedding(10, 4)
    layer(tf.zeros((2, 3)))
    assert flops(lambda x: layer(tf.cast(x, tf.int32)), (2, 3)).total == 0


def test_attention():
    """Four projections, scores and contexts."""
    batch, time, width, heads, size = 2, 6, 8, 2, 3
    layer = L.MultiHeadAttention(heads, size)
    layer(tf.zeros((batch, time, width)), tf.zeros((batch, time, width)))
    projections, products = 4 * width * heads * size * time, 2 * heads * time * time * size
    assert flops(lambda x: layer(x, x), (batch, time, width)).total == 2 * batch * (projections + products)


def test_an_einsum_with_an_ellipsis():
    assert flops(lambda a, b: tf.einsum("...ij,jk->...ik", a, b), (2, 7, 3, 4), (4, 5)).total == 2 * 2 * 7 * 3 * 4 * 5


PRODUCT = 2 * 3 * 3 * 3


def test_loops():
    def up(x):
        return tf.while_loop(lambda i, x: i < 5, lambda i, x: (i + 1, x @ x), (0, x))[1]

    def down(x):
        return tf.while_loop(lambda i, x: i >= 0, lambda i, x: (i - 2, x @ x), (8, x))[1]

    def nested(x):
        return tf.while_loop(lambda i, x: i < tf.shape(x)[0], lambda i, x: (i + 1, up(x)), (0, x))[1]

    for function, passes in ((up, 5), (down, 5), (nested, 15)):
        assert flops(function, (3, 3)) == (passes * PRODUCT, ())


def test_a_loop_that_data_end():
    def early(x):
        return tf.while_loop(lambda x: tf.reduce_sum(x) < 9.0, lambda x: (x @ x,), (x,), maximum_iterations=6)

    def unknown(x):
        return tf.while_loop(lambda x: tf.reduce_sum(x) < 9.0, lambda x: (x @ x,), (x,))

    assert flops(early, (3, 3)) == (6 * PRODUCT, ("a loop that data may end earlier counts whole",))
    assert flops(unknown, (3, 3)) == (PRODUCT, ("a loop of unknown length counts once",))


def test_the_gradient_of_a_loop():
    """A product of a matrix with itself has a gradient of two products."""

    def both(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.while_loop(lambda i, x: i < 5, lambda i, x: (i + 1, x @ x), (0, x), maximum_iterations=5)[1]
        return tape.gradient(y, x)

    assert flops(both, (3, 3)) == (5 * 3 * PRODUCT, ())


def test_functions_within_functions_and_those_of_xla():
    inner = tf.function(lambda x: x @ x, jit_compile=True)
    outer = tf.function(lambda x: inner(x) @ x)
    assert flops(lambda x: outer(x) + x, (3, 3)).total == 2 * PRODUCT
    assert flops(outer.python_function, (3, 3), jit_compile=True).total == 2 * PRODUCT


def test_a_condition_counts_as_its_costliest_branch():
    def either(x):
        return tf.cond(x[0, 0] > 0, lambda: x @ x @ x, lambda: x @ x)

    assert flops(either, (3, 3)) == (2 * PRODUCT, ("a condition counts as its costliest branch",))


def test_what_no_result_needs_is_not_counted():
    def function(x):
        x @ x
        return x

    assert flops(function, (3, 3)).total == 0


def test_an_unknown_size_is_said():
    found = flops(lambda x: x @ tf.transpose(x), (None, 3))
    assert found.total == 0 and not found.sizes_known


LIMITS = {  # of loops, from sizes that are not known, or from a place that is none
    "range": ((None, 3), lambda sizes: tf.reduce_max(tf.range(sizes[0]))),
    "place": ((None, 3), lambda sizes: tf.gather([1, 2, 3], sizes[0])),
    "size of that number": ((None, 3), lambda sizes: sizes[sizes[0]]),
    "no place": ((9, 3), lambda sizes: tf.gather([1, 2, 3], sizes[0])),
    "division by zero": ((3, 3), lambda sizes: 10 // (sizes[0] - sizes[1])),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_a_loop_whose_limit_cannot_be_computed(limit):
    shape, limit_of = LIMITS[limit]

    def loop(x):
        limit = limit_of(tf.shape(x))
        return tf.while_loop(lambda i, y: i < limit, lambda i, y: (i + 1, y @ tf.ones((3, 3))), (0, x))

    graph = graph_of(loop, shape)
    known = None not in shape
    expected = (2 * shape[0] * 9, ("a loop of unknown length counts once",)) if known else None
    assert not count_flops(graph).sizes_known if expected is None else count_flops(graph) == expected
    assert estimate_memory(graph) > 0


def test_a_graph_that_cannot_be_read_ends_no_training(monkeypatch, caplog):
    def fails(graph, arguments):
        raise IndexError("mine")

    monkeypatch.setattr(update, "count_flops", fails)
    task = made(Small(linear(), squares), dataset := in_order(points()))
    updated(task, dataset, steps_per_execution=1)
    cost = cost_of_update(task.train_loop)
    assert not cost.flops.sizes_known and "could not be counted: IndexError('mine')" in caplog.text
    assert describe_flops(cost) == "floating-point operations not counted (the graph could not be read: IndexError)"
    assert "estimated" not in describe_memory(task, cost)


def test_layers_of_cudnn():
    with tf.Graph().as_default() as graph:
        time, batch, width, units = 7, 3, 4, 5
        zeros = [tf.zeros(shape) for shape in ((time, batch, width), (1, batch, units), (1, batch, units), (999,))]
        lengths = tf.fill((batch,), time)
        made = tf.raw_ops.CudnnRNNV3(
            input=zeros[0], input_h=zeros[1], input_c=zeros[2], params=zeros[3], sequence_lengths=lengths,
            rnn_mode="gru", is_training=True,
        )  # fmt: skip
    graph.outputs, graph.control_outputs = [made.output], []
    assert count_flops(graph).total == 2 * time * batch * 3 * units * (width + units)


def test_an_update_on_one_device_and_on_two():
    """Three products of (8, 3) and (3, 1) less the inputs' gradient; replicas share the rows."""
    dataset = in_order(points())
    for devices in (1, 2):
        task = made(Small(linear(), squares), dataset, devices)
        updated(task, dataset, steps_per_execution=1)
        cost = cost_of_update(task.train_loop)
        assert cost.flops == (2 * 2 * 8 * 3, ())
        assert cost_of_update(task.train_loop) is cost


def test_memory_of_results():
    """Each of three results of 4,000 bytes lives until the next is made; with gradients all stay."""

    def chain(x):
        return tf.exp(tf.sin(tf.exp(x)))

    def chain_and_gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = chain(x)
        return tape.gradient(y, x)

    assert estimate_memory(graph_of(chain, (1000,))) == 2 * 4000
    assert estimate_memory(graph_of(chain_and_gradient, (1000,))) >= 4 * 4000


def test_memory_of_a_loop_that_keeps_its_values_for_the_gradient():
    def both(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.while_loop(lambda i, y: i < 50, lambda i, y: (i + 1, tf.sin(y)), (0, x), maximum_iterations=50)[1]
        return tape.gradient(y, x)

    kept = 50 * 4000
    assert kept <= estimate_memory(graph_of(both, (1000,))) <= 1.2 * kept
    assert tensor_bytes(tf.zeros((2, 3), tf.float16)) == 12


def test_peaks():
    """TF32 is what TensorFlow uses for float32 unless told otherwise."""
    assert peak_of("NVIDIA A100-SXM4-40GB") == 156e12
    assert peak_of("NVIDIA A100-SXM4-40GB", tf32=False) == 19.5e12
    assert peak_of("NVIDIA H100 80GB HBM3", half=True) == 989e12
    assert peak_of("NVIDIA GeForce GT 710") is None
    assert np.isfinite(peak_of("Tesla T4"))
