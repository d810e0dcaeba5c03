"""The translation model: its parts by hand and by stock layers, decoding against training; the tutorial's model."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks.peers.tutorials import translation as tutorial
from tasks.translation.model import Encoder, Translator

SOURCE, TARGET, EMBEDDING, UNITS, ENCODER = 11, 9, 6, 5, 4
IDS = np.array([[4, 5, 6, 7, 3], [8, 9, 3, 0, 0], [10, 3, 0, 0, 0]], np.int32)
TARGET_IN = np.array([[2, 4, 5, 6], [2, 7, 8, 0], [2, 4, 0, 0]], np.int32)
VARIANTS = {
    "gru": {},
    "lstm": {"cell": "lstm", "num_layers": 2},
    "one-way": {"bidirectional": False, "tie_embeddings": False},
}


def translator(**changes):
    """A translator with random weights, biases too."""
    sizes = {"embedding_dim": EMBEDDING, "units": UNITS, "encoder_units": ENCODER, "num_layers": 1}
    kinds = {"bidirectional": True, "cell": "gru", "dropout": 0.0, "tie_embeddings": True}
    model = Translator(SOURCE, TARGET, **{**sizes, **kinds, **changes})
    model.build((None, None), (None, None))
    numbers = np.random.default_rng(0)
    model.set_weights([0.7 * numbers.normal(size=w.shape) for w in model.weights])
    return model


def assert_close(actual, expected, tolerance=1e-5):
    np.testing.assert_allclose(np.asarray(actual, "float32"), np.asarray(expected), rtol=tolerance, atol=tolerance)


# ---- the model


@pytest.mark.parametrize("variant", VARIANTS)
def test_next_repeats_the_training_forward_pass(variant):
    model = translator(**VARIANTS[variant])
    logits, attention = model(IDS, TARGET_IN)
    assert logits.shape == (3, 4, TARGET) and attention.shape == (3, 4, 5)
    states, following = model.encode(IDS), tf.function(model.next)
    for t in range(4):
        step_logits, states, step_attention = following(tf.constant(TARGET_IN[:, t]), states)
        assert_close(step_logits, logits[:, t])
        assert_close(step_attention, attention[:, t])


def test_states_of_rows_may_be_gathered():
    model, rows = translator(cell="lstm"), [2, 0, 0]
    logits, _, attention = model.next(tf.constant(TARGET_IN[:, 0]), model.encode(IDS))
    states = tf.nest.map_structure(lambda x: tf.gather(x, rows), model.encode(IDS))
    some_logits, _, some_attention = model.next(tf.constant(TARGET_IN[rows, 0]), states)
    assert_close(some_logits, tf.gather(logits, rows))
    assert_close(some_attention, tf.gather(attention, rows))


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_changes_nothing(variant):
    model = translator(**VARIANTS[variant])
    logits, attention = model(IDS, TARGET_IN)
    assert (attention.numpy()[np.broadcast_to(IDS[:, None] == 0, attention.shape)] == 0).all()
    assert_close(tf.reduce_sum(attention, -1), np.ones((3, 4)))
    wide = np.pad(IDS, [(0, 0), (0, 3)])
    wide_logits, wide_attention = model(wide, np.pad(TARGET_IN, [(0, 0), (0, 2)]))
    assert_close(wide_logits[:, :4], logits)
    assert_close(wide_attention[:, :4, :5], attention)
    alone, _ = model(IDS[2:, :2], TARGET_IN[2:, :2])
    assert_close(alone, logits[2:, :2])


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_encoder_reads_each_row_in_both_directions(cell):
    encoder = Encoder(ENCODER, 2, True, cell, 0.0)
    encoder.build((None, None, EMBEDDING))
    numbers = np.random.default_rng(1)
    encoder.set_weights([0.7 * numbers.normal(size=w.shape) for w in encoder.weights])
    inputs = numbers.normal(size=(3, 5, EMBEDDING)).astype("float32")
    memory, final = encoder(inputs, IDS != 0)

    for row, length in enumerate((IDS != 0).sum(1)):
        x = inputs[row : row + 1, :length]
        for layers in encoder.recurrent:
            outputs, states = [], []
            for layer, step in zip(layers, (1, -1), strict=True):
                stock = keras.layers.RNN(layer.cell, return_sequences=True, return_state=True)
                output, *state = stock(tf.constant(x)[:, ::step])
                outputs.append(output[:, ::step])
                states += state
            x = np.concatenate(outputs, -1)
        assert_close(memory[row : row + 1, :length], x)
        assert_close(final[row : row + 1], np.concatenate(states, -1))


def test_decoder_begins_with_a_dense_layer_of_the_final_states():
    model = translator(cell="lstm")
    (h, c), _ = model.encode(IDS)
    _, final = model.encoder(model.source_embedding(IDS), IDS != 0)
    for bridge, state in zip(model.decoder.bridges, (h, c), strict=True):
        assert_close(state, np.tanh(final.numpy() @ bridge.kernel.numpy() + bridge.bias.numpy()))


def test_tied_embeddings_score_the_words():
    tied, untied = translator(), translator(tie_embeddings=False)
    assert untied.count_params() - tied.count_params() == TARGET * EMBEDDING
    assert len({id(w) for w in tied.weights}) == len(tied.weights)
    read = np.random.default_rng(2).normal(size=(2, 3, EMBEDDING)).astype("float32")
    table, bias, own = tied.target_embedding.embeddings.numpy(), tied.decoder.head.bias.numpy(), untied.decoder.head
    assert_close(tied.decoder.head(read), read @ table.T + bias)
    assert_close(untied.decoder.head(read), read @ own.kernel.numpy().T + own.bias.numpy())
    for model, moved in ((tied, range(TARGET)), (untied, {*TARGET_IN.flatten()})):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(model(IDS, TARGET_IN)[0]))
        gradient = tf.convert_to_tensor(tape.gradient(loss, model.target_embedding.embeddings.value))
        assert set(np.flatnonzero(np.abs(gradient).sum(1))) == set(moved)


def test_parameters_counted_by_hand():
    model = translator(cell="lstm", num_layers=2)
    width, cell = 2 * ENCODER, lambda inputs, units: 4 * units * (inputs + units + 1)
    encoder = 2 * cell(EMBEDDING, ENCODER) + 2 * cell(width, ENCODER)
    bridges = 2 * UNITS * (2 * width + 1)
    decoder = cell(EMBEDDING + width, UNITS) + UNITS * UNITS + width * UNITS + 2 * UNITS
    readout = EMBEDDING * (UNITS + width + EMBEDDING + 1)
    assert model.count_params() == (SOURCE + TARGET) * EMBEDDING + encoder + bridges + decoder + readout + TARGET


def test_dropout_is_for_training():
    keras.utils.set_random_seed(0)
    model = translator(dropout=0.5, num_layers=2)
    still, _ = model(IDS, TARGET_IN)
    assert_close(model(IDS, TARGET_IN)[0], still, 0)
    assert_close(translator(num_layers=2)(IDS, TARGET_IN, training=True)[0], still)
    first, second = (model(IDS, TARGET_IN, training=True)[0].numpy() for _ in range(2))
    assert np.abs(first - second).max() > 0.1 and np.abs(first - still).max() > 0.1


def test_mixed_precision_scores_in_float32():
    expected, _ = translator()(IDS, TARGET_IN)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = translator()
    finally:
        keras.config.set_dtype_policy("float32")
    logits, attention = model(IDS, TARGET_IN)
    assert logits.dtype == tf.float32 and attention.dtype == tf.bfloat16
    assert_close(logits, expected, 0.1)
    following, _, _ = model.next(tf.constant(TARGET_IN[:, 0]), model.encode(IDS))
    assert_close(following, logits[:, 0], 0.05)
    read = tf.fill((1, EMBEDDING), 1.0 + 2.0**-12)  # a difference that bfloat16 has no room for
    assert_close(model.decoder.head(read), translator().decoder.head(read), 1e-6)


def test_learns_to_reverse():
    keras.utils.set_random_seed(0)
    numbers = np.random.default_rng(0)
    source = numbers.integers(4, SOURCE - 2, (16, 5)).astype(np.int32)
    target_in = np.concatenate([np.full((16, 1), 2, np.int32), source[:, :0:-1]], 1)
    model = Translator(SOURCE, TARGET, 16, 24, 16, 1, True, "gru", 0.0, True)
    optimizer = keras.optimizers.Adam(0.02)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            logits, _ = model(source, target_in, training=True)
            nats = tf.nn.sparse_softmax_cross_entropy_with_logits(source[:, ::-1], logits)
            loss = tf.reduce_mean(nats)
        optimizer.apply_gradients(
            zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
        )
        return loss

    model(source, target_in)
    optimizer.build(model.trainable_variables)
    losses = [float(step()) for _ in range(50)]
    assert losses[0] > 1.5 and losses[-1] < 0.15


# ---- the tutorial's model


@pytest.fixture(scope="module")
def taught():
    keras.utils.set_random_seed(0)
    return tutorial.build(SOURCE, TARGET, batch=3, units=UNITS, embedding_dim=EMBEDDING)


def test_tutorial_loss_averages_over_padding(taught):
    kernel, bias = taught.decoder.fc.kernel.numpy(), taught.decoder.fc.bias.numpy()
    taught.decoder.fc.set_weights([np.zeros_like(kernel), np.zeros_like(bias)])
    loss = taught.loss(IDS, TARGET_IN)
    taught.decoder.fc.set_weights([kernel, bias])
    # Every word is equally probable; of 3 rows, 3, 2 and 1 have a word at the three steps after the start sign.
    assert_close(loss, math.log(TARGET) * (3 + 2 + 1) / 3)


def test_tutorial_gru_starts_from_zeros_at_every_step(taught):
    memory = tf.tile(tf.random.stateless_normal((3, 1, UNITS), (0, 1)), (1, 5, 1))  # equal slots: nothing to attend to
    hidden = tf.random.stateless_normal((3, UNITS), (0, 2))
    first, _, _ = taught.decoder(TARGET_IN[:, 1:2], hidden, memory)
    second, _, _ = taught.decoder(TARGET_IN[:, 1:2], tf.zeros((3, UNITS)), memory)
    assert_close(first, second)


def test_tutorial_learns(taught):
    losses = [float(tutorial.train_step(taught, IDS, TARGET_IN)) for _ in range(8)]
    assert (np.diff(losses) < 0).all()
    assert len(taught.trainable_variables) == 2 * 4 + 8


def test_tutorial_translates_until_the_end(taught):
    kernel, bias = taught.decoder.fc.kernel.numpy(), taught.decoder.fc.bias.numpy()
    for word, expected in ((5, [5] * 4), (3, [])):
        taught.decoder.fc.set_weights([np.zeros_like(kernel), np.eye(TARGET)[word]])
        words, attention = tutorial.translate(taught, IDS[0], max_length=4)
        assert words == expected and attention.shape == (len(words), 5)
    taught.decoder.fc.set_weights([kernel, bias])
