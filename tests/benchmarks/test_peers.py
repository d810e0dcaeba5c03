"""The benchmark's peers compute the same loss as our tasks from the same weights."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

import lightkeras as lk
from benchmarks import flops
from benchmarks.peers import keras as keras_peers
from benchmarks.peers import ours as our_peers
from benchmarks.peers import shapes
from benchmarks.peers.tutorials import dcgan as tutorial_dcgan
from benchmarks.peers.tutorials import text as tutorial_text
from benchmarks.peers.tutorials import train as tutorial_peers
from lightkeras.profiling.update import count_batch
from lightkeras.runs import state as run_state
from lightkeras.training.loop import Loop, StepsPerCall
from lightkeras.training.per_example import as_metrics

SIZES = shapes.SIZES["tiny"]


def ours(name):
    """Our task with random weights, and one batch."""
    data = our_peers.Data(name, SIZES[name], 1)
    task, dataset = our_peers.make_task(name, SIZES[name]), data.train_dataset()
    run_state.build(task, data, dataset.element_spec)
    numbers = np.random.default_rng(0)
    for variable in task.trainable_variables:
        variable.assign(0.3 * numbers.normal(size=variable.shape))
    return task, next(iter(dataset.stream()))


def mean(sums, name="loss"):
    total, weight = sums[name]
    return float(total / weight)


def our_loss(name, task, batch):
    losses = task.token_losses if name == "translation" else task.word_losses
    return mean(losses(batch, training=True))


def arrays_of(*layers):
    return [np.asarray(variable) for layer in layers for variable in layer.weights]


def fill(layer, values):
    for variable, value in zip(layer.weights, values, strict=True):
        variable.assign(value)


def count_in_graph(name, sizes, **changed):
    """The operations that lightkeras counts of an update on a batch of these sizes, or with others of its shape."""
    data, task = our_peers.Data(name, sizes, 1), our_peers.make_task(name, sizes)
    run_state.build(task, data, data.train_dataset().element_spec)
    task.build_optimizers()
    source = SimpleNamespace(compiles_whole_loop=False)
    loop = Loop(task.train_step, task.train_sums, StepsPerCall(1), source, task.distribute_strategy)
    return count_batch(loop, our_peers.Data(name, {**sizes, **changed}, 1).train_dataset().element_spec)


@pytest.mark.parametrize("name", SIZES)
def test_operations_counted_from_the_graph_and_from_the_sizes(name):
    """Within 2 %: those of DCGAN leave out the gradient of the noise, and have the means of batch normalization."""
    sizes = {**shapes.SIZES["full"][name], "batch": 2} if name == "dcgan" else {**SIZES[name], "batch": 16}
    counted = count_in_graph(name, sizes)
    assert counted.notes == ()
    assert counted.total == pytest.approx(flops.count_update(name, sizes), rel=0.02 if name == "dcgan" else 1e-9)


def test_operations_of_batches_of_several_shapes():
    """The same task takes batches of another width, and of another number of rows."""
    sizes, other = {**SIZES["translation"], "batch": 16}, {"slots": 9, "words": 7, "batch": 6}
    counted = count_in_graph("translation", sizes, **other)
    assert counted.notes == ()
    assert counted.total == pytest.approx(flops.count_update("translation", {**sizes, **other}), rel=1e-9)


def test_our_layers_execute_more_than_the_model_asks_for_where_they_compute_again():
    """Worked by hand, of two slots, one word, units 1: the context and its products, again in the gradient."""
    sizes = {"vocabulary": 2, "embedding": 1, "units": 1, "batch": 1, "slots": 2, "words": 1}
    assert flops.count_update("translation", sizes) - flops.count_model("translation", sizes) == 2 * (3 + 3 * 2)


# ---- plain Keras, and the notebooks


@pytest.mark.parametrize("name", ["text", "text_lstm"])
def test_keras_and_notebook_text(name):
    task, batch = ours(name)
    network, expected = task.network, mean(task.character_losses(batch, training=True))
    inputs, targets = keras_peers.make_input_function(name, SIZES[name])(batch)
    peer = keras_peers.make_model(name, SIZES[name])
    notebook = tutorial_text.Tutorial(
        **{k: SIZES[name][k] for k in ("vocabulary", "embedding", "units", "layers", "cell")}
    )
    weights = arrays_of(network.embedding, *network.recurrent, network.head)
    peer(inputs)
    peer.set_weights(weights)
    notebook.model.set_weights(weights)
    assert float(peer.loss(targets, peer(inputs))) == pytest.approx(expected, rel=1e-5)
    assert float(notebook.train_step(inputs, targets)) == pytest.approx(expected, rel=1e-5)


def decoder_weights(network):
    """Of our attending decoder: each of its layers' arrays, in Keras' layout."""
    decoder = network.decoder
    attention, cell = decoder.attention_decoder.attention, decoder.attention_decoder.recurrent.cell
    return {
        "bridge": arrays_of(decoder.bridges[0]),
        "query": [np.asarray(attention.query_kernel)],
        "key": [np.asarray(attention.key_kernel), np.asarray(attention.bias)],
        "scale": [np.asarray(attention.scale)],
        "cell": arrays_of(cell),
        "readout": arrays_of(decoder.readout),
        "head": [np.asarray(decoder.head.kernel).T, np.asarray(decoder.head.bias)],
    }


@pytest.mark.parametrize("name", ["translation", "captioning"])
def test_keras_attention(name):
    task, batch = ours(name)
    network, peer = task.network, keras_peers.make_model(name, SIZES[name])
    raw = {key: tf.constant(value) for key, value in shapes.arrays(name, SIZES[name], 1).items()}
    inputs, targets = keras_peers.make_input_function(name, SIZES[name])(raw)
    peer(inputs)
    weights, decoder = decoder_weights(network), peer.decoder
    if name == "translation":
        fill(peer.embedding, arrays_of(network.source_embedding))
        fill(peer.encoder, arrays_of(network.encoder.recurrent[0][0]))
        fill(decoder.embedding, arrays_of(network.target_embedding))
    else:
        fill(peer.projection, arrays_of(network.projection))
        fill(decoder.embedding, arrays_of(network.embedding))
    for part in ("bridge", "readout", "head"):
        fill(getattr(decoder, part), weights[part])
    for part in ("query", "key", "scale", "cell"):
        fill(getattr(decoder.cell, part), weights[part])
    assert float(peer.loss(targets, peer(inputs))) == pytest.approx(our_loss(name, task, batch), rel=1e-5)


def dcgan_weights(task):
    """Generator and discriminator, the trained weights in the order of the layers."""
    g, d = task.generator, task.discriminator
    generator = [
        np.asarray(v)
        for layers in zip([g.dense, *g.convolutions], g.norms, strict=True)
        for layer in layers
        for v in layer.trainable_variables
    ]
    return [*generator, *arrays_of(g.last)], arrays_of(*d.convolutions, d.dense)


def in_step(batch):
    rows = tf.range(len(batch["weight"]), dtype=tf.int64)
    return lk.random.keyed_draws(tf.stack([rows, rows], 1))


def dcgan_noise(task, batch):
    with in_step(batch):
        return task.noise(batch)


def dcgan_losses(task, batch):
    with in_step(batch):
        sums = as_metrics(task.adversarial_losses(batch, training=True), batch)
    return [mean(sums, "generator_loss"), mean(sums, "discriminator_loss")]


def test_keras_and_notebook_dcgan(monkeypatch):
    task, batch = ours("dcgan")
    expected, noise = dcgan_losses(task, batch), dcgan_noise(task, batch)
    peer, notebook = keras_peers.make_model("dcgan", SIZES["dcgan"]), tutorial_dcgan.Tutorial(**SIZES["dcgan"])
    for model in (peer, notebook):
        for network, weights in zip((model.generator, model.discriminator), dcgan_weights(task), strict=True):
            for variable, value in zip(network.trainable_variables, weights, strict=True):
                variable.assign(value)
    np.testing.assert_allclose(peer.compute_losses(batch["image"], noise), expected, rtol=1e-4)
    monkeypatch.setattr(tf.random, "normal", lambda shape: noise)
    np.testing.assert_allclose(notebook.train_step(batch["image"]), expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["translation", "captioning"])
def test_notebooks_learn(name):
    """Their recipes are their own: they train, and begin at about the logarithm of the vocabulary's size."""
    dataset = keras_peers.make_dataset(name, SIZES[name], 1)
    batch = next(iter(dataset))
    step = tutorial_peers.make_step(name, SIZES[name], batch)
    losses = [float(step(batch)) for _ in range(3)]
    assert losses[-1] < losses[0] == pytest.approx(np.log(SIZES[name]["vocabulary"]) * 3 / 4, rel=0.1)


# ---- PyTorch


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def put(torch, **pairs):
    """Assigns arrays to PyTorch's parameters: `put(torch, a=(parameter, array))`."""
    for parameter, value in pairs.values():
        assert tuple(parameter.shape) == value.shape
        parameter.data = torch.tensor(value)


def put_dense(torch, linear, kernel, bias=None):
    put(torch, kernel=(linear.weight, kernel.T), **({} if bias is None else {"bias": (linear.bias, bias)}))


def gates(array, cell):
    """Keras' gates (z, r, h) in PyTorch's order (r, z, n), on the first axis; an LSTM's are the same."""
    if cell == "lstm":
        return array
    z, r, h = np.split(array, 3)
    return np.concatenate([r, z, h])


def put_recurrent(torch, layer, arrays, cell="gru", suffix=""):
    kernel, recurrent, bias = arrays
    biases = bias if cell == "gru" else (bias, np.zeros_like(bias))
    put(
        torch,
        a=(getattr(layer, f"weight_ih{suffix}"), gates(kernel.T, cell)),
        b=(getattr(layer, f"weight_hh{suffix}"), gates(recurrent.T, cell)),
        c=(getattr(layer, f"bias_ih{suffix}"), gates(biases[0], cell)),
        d=(getattr(layer, f"bias_hh{suffix}"), gates(biases[1], cell)),
    )


def as_torch(torch, arrays):
    return {key: torch.tensor(value) for key, value in arrays.items()}


@pytest.mark.parametrize("name", ["text", "text_lstm"])
def test_torch_text(torch, name):
    from benchmarks.peers import torch as torch_peers

    task, batch = ours(name)
    network, model = task.network, torch_peers.make_model(name, SIZES[name], "")
    put(torch, table=(model.embedding.weight, arrays_of(network.embedding)[0]))
    for number, layer in enumerate(network.recurrent):
        put_recurrent(torch, model.recurrent, arrays_of(layer), SIZES[name]["cell"], f"_l{number}")
    put_dense(torch, model.head, *arrays_of(network.head))
    found = model.loss(as_torch(torch, {key: batch[key].numpy() for key in ("inputs", "targets")}))
    assert found.item() == pytest.approx(mean(task.character_losses(batch, training=True)), rel=1e-5)


def put_attending(torch, name, network, model):
    """Our translation's or captioning's weights into the peer."""
    weights, decoder = decoder_weights(network), model.decoder
    if name == "translation":
        put(torch, table=(model.embedding.weight, arrays_of(network.source_embedding)[0]))
        put_recurrent(torch, model.encoder, arrays_of(network.encoder.recurrent[0][0]), suffix="_l0")
        put(torch, table=(decoder.embedding.weight, arrays_of(network.target_embedding)[0]))
    else:
        put_dense(torch, model.projection, *arrays_of(network.projection))
        put(torch, table=(decoder.embedding.weight, arrays_of(network.embedding)[0]))
    for part in ("bridge", "query", "key", "scale", "readout", "head"):
        put_dense(torch, getattr(decoder, part), *weights[part])
    put_recurrent(torch, decoder.cell, weights["cell"])


@pytest.mark.parametrize("name", ["translation", "captioning"])
@pytest.mark.parametrize("formulation", ["hoisted", "stepwise"])
def test_torch_attention(torch, name, formulation):
    from benchmarks.peers import torch as torch_peers

    task, batch = ours(name)
    model = torch_peers.make_model(name, SIZES[name], formulation)
    put_attending(torch, name, task.network, model)
    found = model.loss(as_torch(torch, shapes.arrays(name, SIZES[name], 1)))
    assert found.item() == pytest.approx(our_loss(name, task, batch), rel=1e-5)


def test_torch_dcgan(torch):
    """PyTorch pads strided convolutions at the other end: its network is the mirror image of ours."""
    from benchmarks.peers import torch as torch_peers

    task, batch = ours("dcgan")
    sizes, model = SIZES["dcgan"], torch_peers.make_model("dcgan", SIZES["dcgan"], "")
    quarter = sizes["side"] // 4
    (dense, *generator), (*convolutions, kernel, bias) = dcgan_weights(task)

    def mirrored(rows):  # (..., quarter * quarter * depth) from ours to (..., depth * quarter * quarter), mirrored
        cut = rows.reshape(*rows.shape[:-1], quarter, quarter, -1)[..., ::-1, ::-1, :]
        return np.moveaxis(cut, -1, -3).reshape(rows.shape).copy()

    put(torch, kernel=(model.generator.dense[0].weight, mirrored(dense).T.copy()))
    norms = [model.generator.dense[1], model.generator.layers[1], model.generator.layers[4]]
    put(torch, g=(norms[0].weight, mirrored(generator[0])), b=(norms[0].bias, mirrored(generator[1])))
    put(torch, g=(norms[1].weight, generator[3]), b=(norms[1].bias, generator[4]))
    put(torch, g=(norms[2].weight, generator[6]), b=(norms[2].bias, generator[7]))
    for number, at in ((0, 2), (3, 5), (6, 8)):
        kernels = generator[at].transpose(3, 2, 0, 1)[..., ::-1, ::-1]  # (in, out, 5, 5)
        put(torch, kernel=(model.generator.layers[number].weight, kernels.copy()))
    for number, at in ((0, 0), (3, 2)):
        kernels = convolutions[at].transpose(3, 2, 0, 1)[..., ::-1, ::-1]  # (out, in, 5, 5)
        layer = model.discriminator[number]
        put(torch, kernel=(layer.weight, kernels.copy()), bias=(layer.bias, convolutions[at + 1]))
    put(torch, kernel=(model.discriminator[7].weight, mirrored(kernel.T)), bias=(model.discriminator[7].bias, bias))
    images = torch.tensor(batch["image"].numpy()[:, ::-1, ::-1].transpose(0, 3, 1, 2).copy())
    found = model.losses(images, torch.tensor(dcgan_noise(task, batch).numpy()))
    np.testing.assert_allclose([loss.item() for loss in found], dcgan_losses(task, batch), rtol=1e-4)


def test_torch_finds_what_our_beam_search_finds(torch):
    from benchmarks import generation
    from benchmarks.peers import torch as torch_peers
    from benchmarks.peers import torch_search

    task, batch = ours("translation")
    model = torch_peers.make_model("translation", SIZES["translation"], "")
    put_attending(torch, "translation", task.network, model)
    source = batch["source"].numpy()
    for words, least in ((4, 4), (6, 0)):
        found = generation.compiled_search(task, words, beams=3, min_length=least)(source)
        ids, scores = torch_search.beam_search(model, torch.tensor(source), 3, words, generation.END, (0, 2), least)
        np.testing.assert_array_equal(found.ids[:, 0], ids.numpy())
        np.testing.assert_allclose(found.scores[:, 0], scores.numpy(), rtol=1e-4)
