"""The token decoder: one step at a time against all steps at once, masks, its first states and its scores by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lightkeras import layers

TOKENS, EMBEDDING, UNITS, FEATURES = 7, 4, 5, 6
IDS = np.array([[2, 4, 5], [2, 6, 0]], np.int32)
MASK = np.array([[True, True, True], [True, False, False]])


def decoder(**changes):
    """A built decoder with random weights."""
    embedding = keras.layers.Embedding(TOKENS, EMBEDDING)
    embedding.build((None, None))
    options = {"cell": "gru", "dropout": 0.0, "tie_embeddings": True, **changes}
    layer = layers.TokenDecoder(embedding, UNITS, **options)
    layer.build((None, None), (None, None, FEATURES), (None, FEATURES))
    numbers = np.random.default_rng(0)
    layer.set_weights([0.7 * numbers.normal(size=w.shape) for w in layer.weights])
    return layer


def inputs():
    numbers = np.random.default_rng(1)
    return [numbers.normal(size=shape).astype("float32") for shape in ((2, 3, FEATURES), (2, FEATURES))]


def assert_close(actual, expected):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("start_from_summary", [True, False])
def test_steps_equal_the_sequence(cell, start_from_summary):
    layer, (memory, summary) = decoder(cell=cell, start_from_summary=start_from_summary), inputs()
    logits, attention = layer(IDS, memory, summary, memory_mask=MASK)
    assert logits.shape == (2, 3, TOKENS) and (attention.numpy()[:, :, :][~np.stack([MASK] * 3, 1)] == 0).all()
    states = layer.start(memory, summary, MASK)
    first = [np.tanh(summary @ bridge.kernel.numpy() + bridge.bias.numpy()) for bridge in layer.bridges]
    expected = first if start_from_summary else [np.zeros((2, UNITS))] * (2 if cell == "lstm" else 1)
    for state, wanted in zip(states[0], expected, strict=True):
        assert_close(state, wanted)
    for t in range(3):
        step_logits, states, step_attention = layer.next(tf.constant(IDS[:, t]), states)
        assert_close(step_logits, logits[:, t])
        assert_close(step_attention, attention[:, t])


def test_the_score_by_hand():
    layer, (memory, summary) = decoder(), inputs()
    embedded = layer.embedding(IDS)
    states, _ = layer.start(memory, summary)
    outputs, contexts, _, _ = layer.attention_decoder(embedded, memory, initial_state=states)
    read = np.concatenate([outputs, contexts, embedded], -1) @ layer.readout.kernel.numpy() + layer.readout.bias.numpy()
    expected = np.tanh(read) @ layer.embedding.embeddings.numpy().T + layer.head.bias.numpy()
    assert_close(layer(IDS, memory, summary)[0], expected)


def test_dropout_is_for_training_and_needs_no_weights():
    layer, (memory, summary) = decoder(dropout=0.5), inputs()
    still = layer(IDS, memory, summary)[0]
    assert_close(still, decoder()(IDS, memory, summary)[0])
    assert np.abs(layer(IDS, memory, summary, training=True)[0].numpy() - still.numpy()).max() > 0.1
