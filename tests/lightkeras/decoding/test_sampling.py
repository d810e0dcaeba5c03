"""Filters against NumPy, draws against probabilities, the loop against a plain Python loop."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lightkeras.decoding.sampling import _token_at, check_sampling, filter_logits, generate, sample

VOCABULARY = 11
SEED = (7, -3)


def modes(function):
    """The same function eager, compiled, and compiled by XLA."""
    return {
        "eager": function,
        "graph": tf.function(function, autograph=False),
        "xla": tf.function(function, autograph=False, jit_compile=True),
    }


def random_logits(rows, columns=VOCABULARY, seed=0):
    return np.random.default_rng(seed).normal(0, 2, (rows, columns)).astype(np.float32)


# --- the filters


def reference_kept(logits, temperature, top_k, top_p):
    """The tokens of one row that are kept, by the book: a walk through them from the most probable.

    Returns them with the probabilities accumulated on the way.
    """
    scaled = np.float32(logits) / np.float32(temperature or 1)
    order = sorted(range(len(scaled)), key=lambda i: (-scaled[i], i))
    order = order[: 1 if temperature == 0 else top_k]
    weights = np.exp(np.float64(scaled[order]) - scaled[order[0]])
    masses = np.cumsum(weights / weights.sum())
    for count, mass in enumerate(masses, start=1):
        if top_p is not None and top_p < 1 and mass >= top_p:
            return order[:count], masses
    return order, masses


few_values = st.integers(-2, 2).map(float)  # many ties
many_values = st.integers(-20_000, 20_000).map(lambda i: i / 1_000)
rows = st.one_of(st.lists(few_values, min_size=8, max_size=8), st.lists(many_values, min_size=8, max_size=8))
top_ps = st.one_of(st.none(), st.just(1.0), st.floats(0.001, 0.999))


@settings(max_examples=150, deadline=None)
@given(
    row=rows,
    temperature=st.sampled_from([0.0, 0.25, 1.0, 3.0]),
    top_k=st.sampled_from([None, 1, 2, 5, 8]),
    top_p=top_ps,
)
def test_filters_keep_what_the_definition_keeps(row, temperature, top_k, top_p):
    kept, masses = reference_kept(row, temperature, top_k, top_p)
    # Where a mass all but meets `top_p`, float32 and float64 may fall on two sides of it.
    assume(top_p is None or top_p == 1 or np.all(np.abs(masses - top_p) > 1e-5))
    expected = np.full(8, -np.inf)
    expected[kept] = np.take(row, kept) / temperature if temperature else 0.0
    np.testing.assert_allclose(filter_logits([row], temperature, top_k, top_p)[0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"),
    [
        (None, 0.1, [2]),  # never empty
        (None, 0.45, [2]),
        (None, 0.55, [2, 0]),  # 0.5 < 0.55 <= 0.75: the token that crosses is kept
        (None, 0.8, [2, 0, 3]),
        (None, 0.94, [2, 0, 3, 1]),
        (None, 1.0, [2, 0, 3, 1, 4]),
        (2, 0.6, [2]),  # of two, 0.5 and 0.25 become 2/3 and 1/3
        (2, 0.7, [2, 0]),
        (3, None, [2, 0, 3]),
    ],
)
def test_top_p_by_hand(top_k, top_p, kept):
    logits = np.log([[0.25, 0.08, 0.5, 0.12, 0.05]])
    assert set(np.flatnonzero(np.isfinite(filter_logits(logits, 1.0, top_k, top_p)[0]))) == set(kept)


def test_equal_logits_are_kept_in_the_order_of_their_ids():
    logits = tf.zeros((1, 40))
    for function in modes(lambda x: (filter_logits(x, top_k=3), filter_logits(x, top_p=0.12))).values():
        for filtered, count in zip(function(logits), (3, 5), strict=True):  # 5 / 40 = 0.125
            np.testing.assert_array_equal(np.flatnonzero(np.isfinite(filtered[0])), np.arange(count))


def test_zeros_of_either_sign_are_equal():
    logits = tf.constant([[-0.0, 0.0, -0.0, 0.0]])
    for function in modes(lambda x: (filter_logits(x, top_k=2), filter_logits(x, top_p=0.4))).values():
        for filtered in function(logits):
            np.testing.assert_array_equal(np.isfinite(filtered[0]), [True, True, False, False])


def test_top_p_of_1_keeps_tokens_whose_probability_rounds_to_nothing():
    logits = [[30.0, 0.0, -5.0]]
    np.testing.assert_array_equal(filter_logits(logits, top_p=1.0), logits)


def test_filters_default_to_the_logits_themselves():
    logits = random_logits(3)
    np.testing.assert_array_equal(filter_logits(logits), logits)
    assert filter_logits(tf.cast(logits, tf.bfloat16), 0.5, 3, 0.9).dtype == tf.float32


def test_filters_accept_tokens_at_minus_infinity():
    logits = [[-np.inf, 1.0, -np.inf, 2.0]]
    for arguments in ({}, {"top_k": 3}, {"top_p": 1.0}, {"top_p": 0.999}, {"temperature": 0.5}):
        assert np.flatnonzero(np.isfinite(filter_logits(logits, **arguments)[0])).tolist() == [1, 3]


@pytest.mark.parametrize("options", [{}, {"top_k": 4}, {"top_p": 0.7}, {"top_k": 6, "top_p": 0.7}])
def test_filters_agree_in_every_mode(options):
    logits = random_logits(200, 65)
    results = {
        name: f(logits, 0.8).numpy()
        for name, f in modes(lambda x, temperature: filter_logits(x, temperature, **options)).items()
    }
    np.testing.assert_allclose(results["graph"], results["eager"], rtol=1e-6)
    np.testing.assert_allclose(results["xla"], results["eager"], rtol=1e-6)


# --- one draw

# The value that chi-square exceeds once in a hundred, by degrees of freedom (any table of it).
CHI_SQUARE_99 = {1: 6.635, 2: 9.210, 3: 11.345, 4: 13.277, 5: 15.086, 6: 16.812, 7: 18.475}


def assert_drawn_from(weights, counts):
    """Pearson's chi-square test of `counts` against the probabilities that `weights` are in proportion to."""
    expected = counts.sum() * weights / weights.sum()
    assert np.sum((counts - expected) ** 2 / expected) < CHI_SQUARE_99[len(counts) - 1]


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(1.0, None, None), (0.7, None, None), (2.0, 5, None), (1.0, None, 0.8), (1.3, 6, 0.9)],
)
def test_frequencies_match_probabilities(temperature, top_k, top_p):
    draws = 20_000
    row = np.linspace(-2.0, 1.0, 8)[[3, 0, 7, 5, 1, 6, 2, 4]]
    ids = sample(np.tile(row, (draws, 1)), SEED, temperature, top_k, top_p)
    kept, _ = reference_kept(row, temperature, top_k, top_p)
    counts = np.bincount(ids, minlength=8)
    assert counts[kept].sum() == draws
    assert_drawn_from(np.exp(row[kept] / temperature), counts[kept])


def test_inversion_by_hand():
    """Probabilities 0, 1/4, 0, 1/2, 1/4, 0: the sums pass at 0, 1/4 and 3/4; the zeros are never met."""
    shares = tf.constant([[0.0], [0.2499], [0.25], [0.7499], [0.75], [1 - 2.0**-32]], tf.float64)
    with np.errstate(divide="ignore"):
        logits = tf.constant(np.log([[0.0, 0.25, 0.0, 0.5, 0.25, 0.0]] * 6), tf.float32)
    for function in modes(_token_at).values():
        np.testing.assert_array_equal(function(logits, shares), [1, 1, 3, 3, 4, 4])


def test_excluded_tokens_are_never_drawn_at_the_edges_of_a_large_vocabulary():
    """Where sums in float32 would leave a gap: 20,000 tokens, of which every other one is excluded."""
    logits = random_logits(2, 20_000)
    logits[:, ::2] = -np.inf
    logits[:, -1] = -np.inf
    shares = tf.constant([[0.0], [1 - 2.0**-32]], tf.float64)
    for function in modes(_token_at).values():
        np.testing.assert_array_equal(function(logits, shares), [1, 19_997])


def test_a_large_vocabulary_is_drawn_evenly():
    """3,999 equal tokens and one of e^8 times their weight: each block gets its share of the draws."""
    row = np.zeros(4_000, np.float32)
    row[0] = 8.0
    ids = np.concatenate([sample(np.tile(row, (500, 1)), (9, i)) for i in range(8)])
    counts = np.histogram(ids, [0, 1, 1_000, 2_000, 3_000, 4_000])[0]
    assert_drawn_from(np.array([np.exp(8.0), 999, 1_000, 1_000, 1_000]), counts)


def test_temperature_0_and_top_k_1_take_the_first_best():
    logits = random_logits(200).round()  # many ties
    expected = np.argmax(logits, -1)
    for function in modes(lambda x, *options: sample(x, SEED, *options)).values():
        np.testing.assert_array_equal(function(logits, 0.0), expected)
        np.testing.assert_array_equal(function(logits, 1.0, 1), expected)
        np.testing.assert_array_equal(function(logits, 0.0, 3, 0.5), expected)


def test_a_small_temperature_does_not_overflow():
    logits = random_logits(50)
    logits *= 100
    for temperature in (1e-5, 1e-7, 1e-37):
        np.testing.assert_array_equal(sample(logits, SEED, temperature), np.argmax(logits, -1))


@pytest.mark.parametrize("options", [{}, {"top_k": 4}, {"top_p": 0.7}, {"top_k": 6, "top_p": 0.7}])
def test_draws_agree_in_every_mode(options):
    logits = random_logits(1_000, 65)
    ids = {name: f(logits, SEED) for name, f in modes(lambda x, seed: sample(x, seed, **options)).items()}
    assert ids["eager"].dtype == tf.int32
    assert ids["eager"].shape == (1_000,)
    np.testing.assert_array_equal(ids["graph"], ids["eager"])
    np.testing.assert_array_equal(ids["xla"], ids["eager"])


def test_draws_depend_on_the_seed_and_on_the_row_but_not_on_the_number_of_rows():
    logits = np.zeros((8, VOCABULARY), np.float32)
    ids = sample(logits, SEED).numpy()
    np.testing.assert_array_equal(sample(logits, SEED), ids)
    assert np.any(sample(logits, (7, -2)).numpy() != ids)
    assert len(set(ids)) > 1
    for function in modes(lambda x: sample(x, SEED)).values():
        for count in range(1, 9):
            np.testing.assert_array_equal(function(logits[:count]), ids[:count])


# --- the loop


def toy_rnn(units=6):
    """`next_fn` of a small recurrent network with fixed weights, and its first states for a batch."""
    rng = np.random.default_rng(1)
    embedding, recurrent, output = (
        tf.constant(rng.normal(0, 1.5, shape), tf.float32)
        for shape in ((VOCABULARY, units), (units, units), (units, VOCABULARY))
    )

    def next_fn(ids, states):
        hidden = tf.tanh(tf.gather(embedding, ids) + states["hidden"] @ recurrent)  # (batch, units)
        return hidden @ output, {"hidden": hidden, "steps": states["steps"] + 1}

    return next_fn, lambda batch: {"hidden": tf.zeros((batch, units)), "steps": tf.constant(0)}


def plain_loop(next_fn, states, prompt, length, seed, **options):
    for t in range(prompt.shape[1]):
        logits, states = next_fn(prompt[:, t], states)
    written = []
    for t in range(length):
        folded = tf.random.experimental.stateless_fold_in(seed, t, alg="philox")
        written.append(sample(logits, folded, **options))
        logits, states = next_fn(written[-1], states)
    return np.stack(written, 1)


PROMPT = np.array([[1, 4, 2], [3, 3, 0]])


@pytest.mark.parametrize("prompt", [PROMPT, PROMPT[:, :1]], ids=["prompt of 3", "prompt of 1"])
@pytest.mark.parametrize("options", [{}, {"temperature": 0.8, "top_k": 7, "top_p": 0.9}])
def test_the_loop_is_the_plain_loop_in_every_mode(prompt, options):
    next_fn, first = toy_rnn()
    expected = plain_loop(next_fn, first(2), prompt, 40, SEED, **options)
    assert len(np.unique(expected)) > 4
    for function in modes(lambda p: generate(next_fn, first(2), p, 40, seed=SEED, **options)).values():
        ids = function(prompt)
        assert ids.dtype == tf.int32
        np.testing.assert_array_equal(ids, expected)


def test_greedy_text_is_the_argmax_at_every_step():
    next_fn, first = toy_rnn()
    logits, states = next_fn([5], first(1))
    expected = []
    for _ in range(12):
        expected.append(int(np.argmax(logits)))
        logits, states = next_fn(expected[-1:], states)
    ids = generate(next_fn, first(1), [[5]], 12, temperature=0.0, seed=SEED)
    assert ids.numpy().tolist() == [expected]


def test_the_caller_may_read_the_prompt():
    next_fn, first = toy_rnn()
    states = first(2)
    for t in range(2):
        _, states = next_fn(PROMPT[:, t], states)
    np.testing.assert_array_equal(
        generate(next_fn, states, PROMPT[:, -1:], 20, seed=SEED),
        generate(next_fn, first(2), PROMPT, 20, seed=SEED),
    )


def test_longer_texts_begin_with_the_shorter_and_more_rows_with_the_fewer():
    next_fn, first = toy_rnn()
    prompt = np.zeros((8, 1))
    ids = generate(next_fn, first(8), prompt, 30, seed=SEED).numpy()
    assert len({tuple(row) for row in ids}) == 8
    np.testing.assert_array_equal(generate(next_fn, first(8), prompt, 11, seed=SEED), ids[:, :11])
    np.testing.assert_array_equal(generate(next_fn, first(1), prompt[:1], 30, seed=SEED), ids[:1])
    assert np.any(generate(next_fn, first(8), prompt, 30, seed=(0, 0)).numpy() != ids)
    assert generate(next_fn, first(8), prompt, 0, seed=SEED).shape == (8, 0)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_changing_the_numbers_does_not_trace_again(jit_compile):
    next_fn, first = toy_rnn()

    @tf.function(jit_compile=jit_compile)
    def write(temperature, top_p, seed):
        return generate(next_fn, first(2), PROMPT, 10, temperature=temperature, top_k=9, top_p=top_p, seed=seed)

    for temperature, top_p, seed in ((1.0, 0.9, (1, 2)), (0.3, 1.0, (3, 4)), (0.0, 0.5, (5, 6))):
        ids = write(tf.constant(temperature), tf.constant(top_p), tf.constant(seed))
        expected = generate(next_fn, first(2), PROMPT, 10, temperature=temperature, top_k=9, top_p=top_p, seed=seed)
        np.testing.assert_array_equal(ids, expected)
    assert write.experimental_get_tracing_count() == 1


def test_lengths_and_batches_may_be_unknown_when_traced():
    next_fn, first = toy_rnn()

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int32), tf.TensorSpec((), tf.int32)])
    def write(prompt, length):
        return generate(next_fn, first(tf.shape(prompt)[0]), prompt, length, seed=SEED)

    for prompt, length in ((PROMPT, 5), (PROMPT[:1, :1], 9)):
        expected = generate(next_fn, first(len(prompt)), prompt, length, seed=SEED)
        np.testing.assert_array_equal(write(prompt, length), expected)


@pytest.mark.parametrize("prompt", [np.zeros((2, 0)), np.zeros(3)])
def test_a_prompt_without_tokens_or_rows_is_refused(prompt):
    next_fn, first = toy_rnn()
    with pytest.raises(ValueError, match=r"Expected `prompt` to be \(batch, prompt_length\) ids.* Received"):
        generate(next_fn, first(2), prompt, 3, seed=SEED)


# --- what may be asked


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        ((1.0, None, None), set(range(6))),
        ((0, 1, 1), {0}),
        ((0.7, 65, 0.9), {0, 1, 2}),  # of 0.629, 0.233, 0.087, ... the first two reach 0.862
        ((np.float32(2), np.int64(3), np.float32(0.5)), {0, 1}),  # of 0.453, 0.320, 0.227 the first does not reach 0.5
    ],
)
def test_sensible_requests_pass_and_draw_what_they_keep(arguments, kept):
    check_sampling(*arguments, vocabulary_size=65)
    logits = np.tile(-np.log(2) * np.arange(65, dtype=np.float32), (2000, 1))  # probabilities 1/2, 1/4, 1/8, ...
    drawn = set(sample(logits, SEED, *arguments).numpy().tolist())
    assert drawn == kept if arguments[1:] != (None, None) else drawn > kept


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (-0.1, None, None),
            "`temperature` to be a number of at least 0 and below inf. Received: temperature=-0.1",
        ),
        ((math.inf, None, None), "Received: temperature=inf"),
        ((math.nan, None, None), "Received: temperature=nan"),
        ((True, None, None), "Received: temperature=True"),
        ((1.0, 0, None), "`top_k` to be a positive int or None. Received: top_k=0"),
        ((1.0, 2.0, None), "Received: top_k=2.0"),
        ((1.0, 66, None), "`top_k` to be at most the vocabulary's size (65). Received: top_k=66"),
        ((1.0, None, 0.0), "`top_p` to be a number above 0 or None. Received: top_p=0.0"),
        ((1.0, None, 1.5), "`top_p` to be a number above 0 and at most 1. Received: top_p=1.5"),
        ((1.0, None, "0.9"), "Received: top_p='0.9'"),
    ],
)
def test_the_rest_is_refused_in_words(arguments, message):
    with pytest.raises(ValueError) as error:
        check_sampling(*arguments, vocabulary_size=65)
    assert message in str(error.value)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_capacity_lets_the_length_change_without_a_new_trace(jit_compile):
    next_fn, first = toy_rnn()

    @tf.function(jit_compile=jit_compile)
    def write(length):
        return generate(next_fn, first(2), PROMPT, length, seed=SEED, capacity=16)

    whole, part = write(tf.constant(16)).numpy(), write(tf.constant(9)).numpy()
    assert write.experimental_get_tracing_count() == 1
    np.testing.assert_array_equal(whole, generate(next_fn, first(2), PROMPT, 16, seed=SEED))
    np.testing.assert_array_equal(part[:, :9], whole[:, :9])
    assert part.shape == (2, 16) and not part[:, 9:].any()
