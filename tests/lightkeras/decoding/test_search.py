"""Searches against a plain beam search in NumPy, against every sequence there is, and by hand."""

import functools
import itertools
import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import lightkeras as lk
from lightkeras.decoding.sampling import fold_in

VOCABULARY, UNITS, SLOTS = 7, 5, 4
START, END = 1, 2
SEED = (7, -3)


# --- a model that attends, in TensorFlow and in NumPy


def weights_of(seed, vocabulary=VOCABULARY):
    rng = np.random.default_rng(seed)
    shapes = {"embedding": (vocabulary, UNITS), "recurrent": (UNITS, UNITS), "output": (UNITS, vocabulary)}
    return {name: rng.normal(0, 0.9, shape).astype(np.float32) for name, shape in shapes.items()}


def sources_of(seed, rows=3):
    """What the model reads, (rows, slots, units), and which slots are real: the last ones of some rows are not."""
    rng = np.random.default_rng((seed, 1))
    memory = rng.normal(0, 1, (rows, SLOTS, UNITS)).astype(np.float32)
    return memory, np.arange(SLOTS) < rng.integers(1, SLOTS + 1, (rows, 1))


def tf_model(weights, memory, mask):
    """`next_fn` and the first states; of these, one moves, one is a scalar and two come back as they went in."""

    def next_fn(ids, states):
        query = tf.tanh(tf.gather(weights["embedding"], ids) + states["hidden"] @ weights["recurrent"])
        scores = tf.einsum("nu,nsu->ns", query, states["memory"])
        attention = tf.nn.softmax(tf.where(states["mask"], scores, -math.inf))
        hidden = query + tf.einsum("ns,nsu->nu", attention, states["memory"])
        return hidden @ weights["output"], {**states, "hidden": hidden, "steps": states["steps"] + 1}, attention

    hidden = tf.zeros((tf.shape(memory)[0], UNITS))
    return next_fn, {"hidden": hidden, "memory": memory, "mask": mask, "steps": tf.constant(0)}


def plain_model(weights, memory, mask):
    """The step of one row: `(token, hidden) -> (log-probabilities, hidden, attention)`, and the first hidden."""
    weights = {name: np.float64(w) for name, w in weights.items()}

    def step(token, hidden):
        query = np.tanh(weights["embedding"][token] + hidden @ weights["recurrent"])
        scores = np.where(mask, np.float64(memory) @ query, -np.inf)
        attention = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        hidden = query + attention @ memory
        return log_softmax(hidden @ weights["output"]), hidden, attention

    return step, np.zeros(UNITS)


def log_softmax(logits):
    return logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())


# --- the plain searches


def penalised(log_prob, length, attention, mask, alpha, beta):
    score = log_prob / ((5 + length) / 6) ** alpha
    return score + (beta * np.log(np.minimum(np.sum(attention, 0)[mask], 1)).sum() if beta else 0.0)


def plain_beam(step, state, mask, *, beam_size, max_length, n_best, alpha=0.0, beta=0.0, min_length=0, forbidden=()):
    """[(score, tokens, attention)], best first: the docstring's words in loops over lists, never stopping early."""
    live, ended = [(0.0, [], state, [])], []
    for t in range(max_length):
        candidates = []
        for log_prob, tokens, state, seen in live:
            log_probs, state, attention = step(tokens[-1] if tokens else START, state)
            for token, more in enumerate(log_probs):
                if token not in forbidden and not (token == END and t < min_length):
                    candidates.append((log_prob + more, [*tokens, token], state, [*seen, attention]))
        candidates.sort(key=lambda c: -c[0])  # stable: of equals the first prefix and the lower id stay ahead
        for log_prob, tokens, _, seen in candidates[:beam_size]:
            if tokens[-1] == END or t + 1 == max_length:
                ended.append((penalised(log_prob, t + 1, seen, mask, alpha, beta), tokens, seen))
        live = [c for c in candidates if c[1][-1] != END][:beam_size]
    return sorted(ended, key=lambda e: -e[0])[:n_best]


def every_sequence(step, state, mask, *, max_length, alpha, beta, vocabulary):
    """[(score, tokens)] of all that ends by `max_length`, or is cut there, best first."""
    found = []
    for length in range(1, max_length + 1):
        for tokens in itertools.product(range(vocabulary), repeat=length):
            if END in tokens[:-1] or (tokens[-1] != END and length < max_length):
                continue
            hidden, total, seen = state, 0.0, []
            for before, token in zip((START, *tokens), tokens, strict=False):
                log_probs, hidden, attention = step(before, hidden)
                total, seen = total + log_probs[token], [*seen, attention]
            found.append((penalised(total, length, seen, mask, alpha, beta), list(tokens)))
    return sorted(found, key=lambda f: -f[0])


def assert_same(found, expected, row=0):
    """One row of `Hypotheses` against [(score, tokens, attention)]."""
    width = found.ids.shape[-1]
    np.testing.assert_allclose(found.scores[row], [e[0] for e in expected], rtol=1e-5, atol=1e-5)
    for i, (_, tokens, *seen) in enumerate(expected):
        assert found.ids[row, i].numpy().tolist() == tokens + [END] * (width - len(tokens))
        assert found.lengths[row, i] == len(tokens) - (tokens[-1] == END)
        if seen and found.attention is not None:
            attention = np.zeros((width, SLOTS))
            attention[: len(tokens)] = seen[0]
            np.testing.assert_allclose(found.attention[row, i], attention, atol=1e-5)


@functools.cache
def compiled_beam(**options):
    """A search compiled once for every model, batch, limit and penalty."""

    @tf.function(autograph=False, reduce_retracing=True)
    def search(weights, memory, mask, max_length, alpha, beta):
        next_fn, states = tf_model(weights, memory, mask)
        return lk.decoding.beam_search(
            next_fn, states, tf.fill(tf.shape(memory)[:1], START), max_length=max_length, end_id=END,
            length_penalty=alpha, coverage_penalty=beta, attention_mask=mask, **options
        )  # fmt: skip

    return lambda weights, memory, mask, max_length, alpha=0.0, beta=0.0: search(
        weights, memory, mask, tf.constant(max_length), tf.constant(alpha), tf.constant(beta)
    )


PENALTIES = [(0.0, 0.0), (0.6, 0.0), (1.0, 0.2), (2.5, 0.0), (0.0, 1.5)]


@pytest.mark.parametrize(
    "options",
    [
        {"beam_size": 1, "n_best": 1},
        {"beam_size": 2, "n_best": 2},
        {"beam_size": 4, "n_best": 3, "forbidden": (0, START), "min_length": 2},
        {"beam_size": 9, "n_best": 5},  # more than the vocabulary has
    ],
    ids=str,
)
def test_beam_search_is_the_plain_one_whatever_the_penalties(options):
    """Which never stops early: so stopping changes no result."""
    search, limits = compiled_beam(**options), [6, 1, 9]
    for seed, (alpha, beta) in enumerate(PENALTIES * 2):
        weights, (memory, mask) = weights_of(seed), sources_of(seed)
        found = search(weights, memory, mask, limits, alpha, beta)
        for row, limit in enumerate(limits):
            plain = plain_model(weights, memory[row], mask[row])
            expected = plain_beam(*plain, mask[row], max_length=limit, alpha=alpha, beta=beta, **options)
            # Of one token there may be fewer than `n_best` sequences.
            missing = [(-np.inf, [END], np.zeros((1, SLOTS)))] * (options["n_best"] - len(expected))
            assert_same(found, expected + missing, row)


@pytest.mark.parametrize(("alpha", "beta"), PENALTIES)
def test_a_wide_beam_finds_the_best_of_all_sequences(alpha, beta):
    vocabulary, max_length, n_best = 4, 4, 6
    search = compiled_beam(beam_size=128, n_best=n_best)  # more than the 3 * 3 * 3 * 4 that there are at the last step
    for seed in range(3):
        weights, (memory, mask) = weights_of(seed, vocabulary), sources_of(seed, rows=1)
        found = search(weights, memory, mask, [max_length], alpha, beta)
        plain = plain_model(weights, memory[0], mask[0])
        best = every_sequence(*plain, mask[0], max_length=max_length, alpha=alpha, beta=beta, vocabulary=vocabulary)
        assert len(best) == 1 + 3 + 9 + 27 * 4
        assert_same(found, best[:n_best])


def greedy(weights, memory, mask, search=lk.decoding.greedy_search, **options):
    next_fn, states = tf_model(weights, memory, mask)
    start = tf.fill(tf.shape(memory)[:1], START)
    return search(next_fn, states, start, **{"max_length": 12, "end_id": END, **options})


@pytest.mark.parametrize("options", [{}, {"forbidden": (0, 3), "min_length": 3}], ids=str)
def test_greedy_search_is_the_argmax_and_a_beam_of_one(options):
    ended = 0
    for seed in range(4):
        weights, (memory, mask) = weights_of(seed), sources_of(seed)
        found = greedy(weights, memory, mask, **options)
        ended += np.sum(found.lengths < 12)
        by_beam = greedy(weights, memory, mask, lk.decoding.beam_search, beam_size=1, **options)
        for one, other in zip(found, by_beam, strict=True):
            np.testing.assert_allclose(one, other[:, 0], rtol=1e-5, atol=1e-6)
        for row in range(len(memory)):
            score, tokens, seen = plain_greedy(*plain_model(weights, memory[row], mask[row]), **options)
            assert_same(lk.decoding.Hypotheses(*(x[:, tf.newaxis] for x in found)), [(score, tokens, seen)], row)
    assert 0 < ended < 12


def plain_greedy(step, state, forbidden=(), min_length=0):
    score, tokens, seen = 0.0, [START], []
    for t in range(12):
        log_probs, state, attention = step(tokens[-1], state)
        log_probs[[*forbidden, *([END] if t < min_length else [])]] = -np.inf
        tokens, seen = [*tokens, int(np.argmax(log_probs))], [*seen, attention]
        score += log_probs[tokens[-1]]
        if tokens[-1] == END:
            break
    return score, tokens[1:], seen


# --- every mode, every batch


def assert_equal_results(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


SEARCHES = {
    "greedy": {"search": lk.decoding.greedy_search},
    "sample": {"search": lk.decoding.sample_search, "seed": SEED, "temperature": 1.3, "top_k": 6},
    "beam": {"search": lk.decoding.beam_search, "beam_size": 4, "n_best": 3, "length_penalty": 0.8},
}


@pytest.mark.parametrize("options", SEARCHES.values(), ids=SEARCHES)
@pytest.mark.parametrize("max_length", [6, [6, 2, 9]], ids=["one limit", "a limit for each row"])
def test_every_mode_and_any_split_of_the_batch_give_the_same(options, max_length):
    weights, (memory, mask) = weights_of(11), sources_of(11)
    if options["search"] is lk.decoding.beam_search:
        options = {**options, "coverage_penalty": 0.3}
    covers = "coverage_penalty" in options

    def search(memory, mask, max_length, **more):
        more |= {"attention_mask": mask} if covers else {}
        return greedy(weights, memory, mask, max_length=max_length, **options, **more)

    limits = np.broadcast_to(max_length, 3)
    whole = search(memory, mask, max_length if isinstance(max_length, int) else limits)
    signature = [
        tf.TensorSpec((None, None, UNITS)),
        tf.TensorSpec((None, None), tf.bool),
        tf.TensorSpec(None, tf.int32),
    ]
    signature[2] = tf.TensorSpec(() if isinstance(max_length, int) else (None,), tf.int32)
    graph = tf.function(search, input_signature=signature, autograph=False)
    assert_equal_results(graph(memory, mask, tf.constant(max_length)), whole)
    fixed = (lambda *a: search(*a, max_length)) if isinstance(max_length, int) else None
    xla = tf.function(fixed or functools.partial(search, capacity=9), jit_compile=True, autograph=False)
    arguments = (memory, mask) if fixed else (memory, mask, tf.constant(max_length))
    assert_equal_results(xla(*arguments), whole)
    if (
        options["search"] is lk.decoding.sample_search
    ):  # a row's draws go with its place: the first rows stay as they are
        parts = [slice(0, 1), slice(0, 2)]
    else:
        parts = [slice(0, 1), slice(1, 2), slice(2, 3), slice(1, 3)]
    for rows in parts:
        slots = int(mask[rows].sum(-1).max())  # without the padding that only other rows need
        limit = tf.constant(max_length if isinstance(max_length, int) else max_length[rows])
        part = graph(memory[rows, :slots], mask[rows, :slots], limit)
        width = part.ids.shape[-1]
        for name in ("ids", "lengths", "scores"):
            expected = getattr(whole, name)[rows]
            expected = expected[..., :width] if name == "ids" else expected
            np.testing.assert_allclose(getattr(part, name), expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(part.attention, whole.attention[rows][..., :width, :slots], atol=1e-5)
    assert graph.experimental_get_tracing_count() == 1


def table_model(rows_of_logits, first=None):
    """`next_fn` that looks the logits up by the newest token: no states, no attention."""
    table = tf.constant(rows_of_logits, tf.float32)
    return lambda ids, states: (tf.gather(table, ids), states)


def logs(probabilities):
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(probabilities, np.float64))


def beam(probabilities, start=(START,), **options):
    next_fn = table_model(logs(probabilities))
    return lk.decoding.beam_search(next_fn, (), start, **{"beam_size": 3, "max_length": 5, "end_id": END, **options})


@pytest.mark.parametrize("options", [SEARCHES["greedy"], SEARCHES["beam"]], ids=["greedy", "beam"])
def test_a_model_without_states_or_attention_in_every_mode(options):
    options = dict(options)
    search = options.pop("search")
    logits = np.random.default_rng(3).normal(0, 1, (VOCABULARY, VOCABULARY))

    def run(start):
        return search(table_model(logits), (), start, max_length=8, end_id=END, **options)

    eager = run([START, 3, 0])
    assert eager.attention is None
    for jit_compile in (False, True):
        found = tf.function(run, jit_compile=jit_compile)(tf.constant([START, 3, 0]))
        assert found.attention is None
        assert_equal_results(found[:3], eager[:3])


# --- by hand


def test_length_and_coverage_penalty_by_hand():
    """Half the mass ends, half goes on; attention 0.5, 0.5, 0 at every step; the third slot is no slot."""
    logits = logs([[0.0, 0.0, 1.0]] * 2 + [[0.5, 0.0, 0.5]])

    def next_fn(ids, states):
        attention = tf.tile([[0.75, 0.25, 0.0]], (tf.shape(ids)[0], 1))
        return tf.tile(tf.constant(logits[2:], tf.float32), (tf.shape(ids)[0], 1)), states, attention

    found = lk.decoding.beam_search(
        next_fn, (), [START], beam_size=2, n_best=2, max_length=2, end_id=END, length_penalty=2.0, coverage_penalty=0.1,
        attention_mask=[[True, True, False]],
    )  # fmt: skip
    one = math.log(0.5) + 0.1 * (math.log(0.75) + math.log(0.25))  # (5 + 1) / 6 = 1
    two = 2 * math.log(0.5) / (7 / 6) ** 2 + 0.1 * (0 + math.log(0.5))  # coverage 1.5, 0.5
    assert one > two
    np.testing.assert_allclose(found.scores, [[one, two]], rtol=1e-6)
    np.testing.assert_array_equal(found.ids, [[[END, END], [0, 0]]])
    np.testing.assert_array_equal(found.lengths, [[0, 2]])
    np.testing.assert_allclose(found.attention[0, :, :, 0], [[0.75, 0.0], [0.75, 0.75]])


def test_a_slot_never_attended_to_costs_a_finite_score():
    def next_fn(ids, states):
        rows = tf.shape(ids)[0]
        return tf.tile([[0.0, -50.0, 50.0]], (rows, 1)), states, tf.tile([[1.0, 0.0]], (rows, 1))

    penalty = {"coverage_penalty": 1.0, "attention_mask": [[True, True]]}
    found = lk.decoding.beam_search(next_fn, (), [START], beam_size=1, max_length=2, end_id=END, **penalty)
    np.testing.assert_allclose(found.scores, [[-126 * math.log(2)]], rtol=1e-6)


def test_a_beam_finds_what_greedy_search_misses():
    """0.6 then evenly 0.25 each; 0.4 then surely the end: 0.4 > 0.15."""
    probabilities = [[0.25] * 4, [0.6, 0.0, 0.0, 0.4], [0.25] * 4, [0.0, 0.0, 1.0, 0.0]]
    found = beam(probabilities, beam_size=2)
    assert found.ids[0, 0].numpy().tolist() == [3, END, END, END, END]
    np.testing.assert_allclose(found.scores, [[math.log(0.4)]], rtol=1e-5)
    assert beam(probabilities, beam_size=1).ids[0, 0, 0] == 0


def test_equals_go_by_the_lower_id_in_every_mode():
    """Six equal tokens: first among the candidates are 0, 1, END; then 00, 01, 0 END; then 000, 001, 00 END."""

    def run(start):
        next_fn = table_model(np.zeros((6, 6)))
        return lk.decoding.beam_search(next_fn, (), start, beam_size=3, n_best=3, max_length=3, end_id=END)

    for function in (run, tf.function(run), tf.function(run, jit_compile=True)):
        found = function(tf.constant([START]))
        assert found.ids[0].numpy().tolist() == [[END] * 3, [0, END, END], [0, 0, 0]]
        np.testing.assert_allclose(found.scores[0], -np.array([1, 2, 3]) * math.log(6), rtol=1e-6)


# --- the end


def counting(next_fn):
    def counted(*arguments):
        counted.calls += 1
        return next_fn(*arguments)

    counted.calls = 0
    return counted


def test_an_end_at_the_first_step_is_an_empty_sequence_and_stops_the_search():
    next_fn = counting(table_model(logs([[0.005, 0.005, 0.99]] * 3)))
    for search, options in (
        (lk.decoding.greedy_search, {}),
        (lk.decoding.beam_search, {"beam_size": 2}),
        (lk.decoding.sample_search, {"seed": SEED}),
    ):
        found, next_fn.calls = search(next_fn, (), [START, 0], max_length=40, end_id=END, **options), next_fn.calls
        np.testing.assert_array_equal(found.ids, np.full(found.ids.shape, END))
        np.testing.assert_array_equal(found.lengths, np.zeros(found.lengths.shape))
        np.testing.assert_allclose(found.scores, np.full(found.scores.shape, math.log(0.99)), rtol=1e-4)
    assert next_fn.calls == 3


def test_what_never_ends_is_cut():
    forever = [[0.9, 0.1, 0.0]] * 3
    for options in ({"beam_size": 1}, {"beam_size": 4, "length_penalty": 1.0}):
        found = beam(forever, max_length=5, **options)
        assert found.ids[0, 0].numpy().tolist() == [0] * 5
        assert found.lengths[0, 0] == 5
        score = 5 * math.log(0.9) / (10 / 6) ** options.get("length_penalty", 0)
        np.testing.assert_allclose(found.scores, [[score]], rtol=1e-5)
    found = lk.decoding.greedy_search(
        table_model(logs(forever)), (), [START, START], max_length=np.array([2, 5]), end_id=END
    )
    assert found.ids.numpy().tolist() == [[0, 0, END, END, END], [0] * 5]
    assert found.lengths.numpy().tolist() == [2, 5]


def test_the_search_goes_on_as_long_as_the_length_penalty_lets_a_longer_sequence_win():
    """e^-1 ends at once, score -1; a prefix of e^-1.5 goes on without loss: -1.5 / (15 / 6) = -0.6 after 10 tokens."""
    rest = 1 - math.exp(-1.0) - math.exp(-1.5)
    ends = [0.0, 0.0, 1.0, 0.0]
    probabilities = [[1.0, 0.0, 0.0, 0.0], [math.exp(-1.5), 0.0, math.exp(-1.0), rest], ends, ends]
    found = beam(probabilities, beam_size=3, max_length=10, length_penalty=1.0)
    assert found.ids[0, 0].numpy().tolist() == [0] * 10
    np.testing.assert_allclose(found.scores, [[-0.6]], rtol=1e-5)
    # With fewer tokens to come the bound is -1.5 / (8 / 6) < -1: over after 1 step.
    probabilities = [[1.0, 0.0, 0.0], [math.exp(-1.5), 0.0, 1 - math.exp(-1.5)], ends[:3]]
    for max_length, calls in ((3, 1), (40, 40)):  # log P of the end is -0.25; -1.5 / (45 / 6) = -0.2
        next_fn = counting(table_model(logs(probabilities)))
        found = lk.decoding.beam_search(
            next_fn, (), [START], beam_size=2, max_length=max_length, end_id=END, length_penalty=1.0
        )  # fmt: skip
        assert next_fn.calls == calls
        assert found.lengths[0, 0] == (0 if max_length == 3 else 40)


def test_what_could_only_be_equalled_is_not_searched_for():
    next_fn = counting(table_model(logs([[0.5, 0.0, 0.5]] + [[1.0, 0.0, 0.0]] * 2)))
    found = lk.decoding.beam_search(next_fn, (), [0], beam_size=2, max_length=9, end_id=END)
    assert (next_fn.calls, found.lengths[0, 0]) == (1, 0)


def test_n_best_goes_on_until_that_many_have_ended():
    probabilities = [[0.4, 0.0, 0.6]] * 3
    for n_best, calls in ((1, 1), (2, 2), (3, 3)):
        next_fn = counting(table_model(logs(probabilities)))
        found = lk.decoding.beam_search(next_fn, (), [START], beam_size=3, n_best=n_best, max_length=9, end_id=END)
        assert next_fn.calls == calls
        expected = [t * math.log(0.4) + math.log(0.6) for t in range(n_best)]
        np.testing.assert_allclose(found.scores, [expected], rtol=1e-5)
        assert found.lengths.numpy().tolist() == [list(range(n_best))]


def test_sequences_that_there_are_not_score_minus_infinity():
    found = beam([[0.0, 0.0, 1.0]] * 3, beam_size=4, n_best=3, end_id=2)
    np.testing.assert_allclose(found.scores, [[0.0, -np.inf, -np.inf]])
    assert found.lengths.numpy().tolist() == [[0, 0, 0]]
    assert found.ids.numpy().tolist() == [[[END] * 5] * 3]
    none = beam([[1.0, 0.0, 0.0]] * 3, beam_size=2, n_best=2, end_id=0)  # id 0 may be the end
    assert none.lengths.numpy().tolist() == [[0, 0]]
    assert none.ids.numpy().tolist() == [[[0] * 5] * 2]


# --- what may be chosen


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    forbidden=st.sets(st.sampled_from([0, 1, 3, 4, 5, 6]), max_size=5),
    min_length=st.integers(0, 4),
    search=st.sampled_from(list(SEARCHES)),
)
def test_forbidden_ids_never_come_and_the_end_not_too_early(seed, forbidden, min_length, search):
    options = dict(SEARCHES[search], min_length=min_length, forbidden=sorted(forbidden))
    function = options.pop("search")
    next_fn = table_model(np.random.default_rng(seed).normal(0, 2, (VOCABULARY, VOCABULARY)))
    found = function(next_fn, (), [START, 3], max_length=5, end_id=END, **options)
    exists = np.isfinite(found.scores)
    assert exists.reshape(2, -1)[:, 0].all()
    assert not np.isin(found.ids, sorted(forbidden)).any()
    assert np.all(found.lengths.numpy()[exists] >= min_length)
    places = np.arange(5) < found.lengths.numpy()[..., np.newaxis]
    assert np.all((found.ids.numpy() == END) == ~places)


def test_forbidding_leaves_the_other_probabilities_as_they_are():
    found = beam([[0.5, 0.0, 0.2, 0.3]] * 4, forbidden=[0], max_length=1)
    np.testing.assert_allclose(found.scores, [[math.log(0.3)]], rtol=1e-5)


def test_scores_are_float32_whatever_the_model_computes_in():
    """bfloat16 has 8 bits: a log-softmax in it would be off by 1e-2."""
    logits = tf.cast(np.random.default_rng(0).normal(0, 2, (VOCABULARY, VOCABULARY)), tf.bfloat16)
    table = tf.cast(logits, tf.float32)
    for name, options in SEARCHES.items():
        function = options["search"]
        rest = {k: v for k, v in options.items() if k != "search"} | {"max_length": 6, "end_id": END}
        low = function(lambda ids, states: (tf.gather(logits, ids), states), (), [START], **rest)
        assert low.scores.dtype == tf.float32, name
        assert_equal_results(low[:3], function(table_model(table), (), [START], **rest)[:3])


# --- sampling


def test_sampling_is_the_plain_loop_over_draws():
    weights, (memory, mask) = weights_of(5), sources_of(5)
    found = greedy(weights, memory, mask, lk.decoding.sample_search, seed=SEED, temperature=1.5, top_p=0.95)
    next_fn, states = tf_model(weights, memory, mask)
    ids, open_, lengths, scores = np.full(3, START), np.full(3, True), np.zeros(3), np.zeros(3)
    for t in range(12):
        logits, states, _ = next_fn(tf.constant(ids, tf.int32), states)
        drawn = lk.decoding.sample(logits, fold_in(SEED, t), 1.5, None, 0.95).numpy()
        np.testing.assert_array_equal(found.ids[:, t], np.where(open_, drawn, END))
        scores += np.where(open_, np.take_along_axis(tf.nn.log_softmax(logits).numpy(), drawn[:, None], 1)[:, 0], 0)
        ids, open_ = drawn, open_ & (drawn != END)
        lengths += open_
    np.testing.assert_array_equal(found.lengths, lengths)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-5)
    assert len({tuple(row) for row in found.ids.numpy()}) == 3


def test_sampling_at_temperature_0_is_greedy_search_and_seeds_differ():
    weights, (memory, mask) = weights_of(6), sources_of(6)
    run = functools.partial(greedy, weights, memory, mask, lk.decoding.sample_search)
    assert_equal_results(run(seed=SEED, temperature=0.0), greedy(weights, memory, mask))
    assert np.any(run(seed=SEED).ids != run(seed=(1, 1)).ids)
    np.testing.assert_array_equal(run(seed=SEED).ids, run(seed=SEED).ids)


def test_lengths_of_samples_are_geometric():
    """An end of probability 1/4 at each step: 3/4, 9/16, ... of the rows are left."""
    next_fn = table_model(logs([[0.5, 0.25, 0.25]] * 3))
    found = lk.decoding.sample_search(next_fn, (), np.zeros(4_000), max_length=4, end_id=END, seed=SEED)
    counts = np.bincount(found.lengths, minlength=5)
    expected = 4_000 * np.array([1 / 4, 3 / 16, 9 / 64, 27 / 256, 81 / 256])
    assert np.sum((counts - expected) ** 2 / expected) < 13.277  # chi-square, 4 degrees of freedom, 99 in a hundred


# --- states


def test_a_state_that_moves_at_some_steps_only_still_follows_its_prefix():
    """Eagerly, the same tensor may come back at one step and another at the next."""

    def model(moves):
        table = tf.constant(np.random.default_rng(2).normal(0, 1, (VOCABULARY, VOCABULARY)), tf.float32)

        def next_fn(ids, states):
            total, t = states  # the sum of the tokens of the even steps decides the logits
            total = moves(t, total, total + ids)
            return tf.gather(table, total % VOCABULARY), (total, t + 1)

        return next_fn

    def run(next_fn):
        states = (tf.zeros(2, tf.int32), tf.constant(0))
        return lk.decoding.beam_search(
            next_fn, states, [3, 4], beam_size=4, n_best=4, max_length=7, end_id=END, min_length=3
        )

    always = run(model(lambda t, before, after: tf.where(t % 2 == 0, after, before)))
    sometimes = run(model(lambda t, before, after: after if t % 2 == 0 else before))
    assert_equal_results(sometimes[:3], always[:3])


def test_states_that_come_back_as_they_went_in_are_not_copied():
    weights, (memory, mask) = weights_of(0), sources_of(0)
    graphs = {}
    for name, wrap in {"same": lambda x: x, "other": tf.identity}.items():

        @tf.function(autograph=False)
        def search(memory, mask, wrap=wrap):
            inner, states = tf_model(weights, memory, mask)

            def next_fn(ids, states):
                logits, states, attention = inner(ids, states)
                return logits, {**states, "memory": wrap(states["memory"])}, attention

            return lk.decoding.beam_search(next_fn, states, [START] * 3, beam_size=3, max_length=4, end_id=END)

        graphs[name] = search.get_concrete_function(tf.constant(memory), tf.constant(mask)).graph.as_graph_def()
    gathers = {
        name: sum(node.op == "GatherV2" for function in graph.library.function for node in function.node_def)
        for name, graph in graphs.items()
    }
    assert gathers["other"] == gathers["same"] + 1


# --- what is refused


@pytest.mark.parametrize(
    ("arguments", "shape", "lengths"),
    [
        ({"max_length": 1}, (3, 1, 1), range(2)),
        (
            {"max_length": 20, "beam_size": 5, "n_best": 5, "length_penalty": 0.6, "coverage_penalty": 0.2}
            | {"min_length": 20},
            (3, 5, 20), [20],
        ),
        (
            {"max_length": tf.constant([3, 4, 4]), "beam_size": np.int64(2), "length_penalty": tf.constant(1.0)},
            (3, 1, 4), range(5),
        ),
        ({"max_length": np.int64(3), "min_length": 2}, (3, 1, 3), [2, 3]),
    ],
)  # fmt: skip
def test_sensible_requests_pass_and_are_followed(arguments, shape, lengths):
    lk.decoding.check_search(**arguments)
    memory, mask = sources_of(0)
    next_fn, states = tf_model(weights_of(0), memory, mask)
    options = {"beam_size": 1, **arguments, "end_id": END, "attention_mask": mask}
    found = lk.decoding.beam_search(next_fn, states, [START] * 3, **options)
    assert found.ids.shape == shape and set(found.lengths.numpy().flat) <= set(lengths)
    assert (np.diff(found.scores.numpy(), axis=1) <= 0).all() and np.isfinite(found.scores).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beam_size": 0}, "`beam_size` to be a positive int. Received: beam_size=0"),
        ({"n_best": 0}, "`n_best` to be a positive int. Received: n_best=0"),
        ({"beam_size": 3, "n_best": 4}, "`n_best` to be at most `beam_size` (3). Received: n_best=4"),
        ({"max_length": 0}, "`max_length` to be a positive int. Received: max_length=0"),
        ({"max_length": 2.5}, "Received: max_length=2.5"),
        ({"max_length": np.array([3, 0])}, "`max_length` to be a positive int, or a (rows,) tensor of them. Received"),
        ({"max_length": tf.constant([3.0])}, "Received: max_length=[3.0]"),
        ({"min_length": -1}, "`min_length` to be a non-negative int. Received: min_length=-1"),
        ({"min_length": 10}, "`min_length` to be at most `max_length` (9). Received: min_length=10"),
        ({"length_penalty": -0.1}, "`length_penalty` to be a number of at least 0 and below inf. Received"),
        ({"length_penalty": math.inf}, "Received: length_penalty=inf"),
        ({"coverage_penalty": "1"}, "Received: coverage_penalty='1'"),
    ],
)
def test_a_users_wrong_request_is_refused_in_words(arguments, message):
    with pytest.raises(ValueError) as error:
        lk.decoding.check_search(**{"max_length": 9, **arguments})
    assert message in str(error.value)
    with pytest.raises(ValueError) as error:
        beam([[0.5, 0.0, 0.5]] * 3, **{"beam_size": 1, "max_length": 9, **arguments})
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"end_id": -1}, "`end_id` to be a non-negative int. Received: end_id=-1"),
        ({"end_id": 3}, "`end_id` to be below the vocabulary's size (3). Received: end_id=3"),
        ({"forbidden": [0, 3]}, "`forbidden` to be below the vocabulary's size (3). Received: forbidden=3"),
        ({"forbidden": [END]}, "`forbidden` to be other ids than `end_id` (2). Received: forbidden=[2]"),
        ({"start": [[START]]}, "`start_ids` to be (rows,) ids. Received"),
        ({"max_length": np.array([3, 4])}, "`max_length` to be an int, or of shape (1,). Received"),
        ({"capacity": 0}, "`capacity` to be a positive int or None. Received: capacity=0"),
        ({"coverage_penalty": 1.0}, "`attention_mask` to be given with `coverage_penalty`. Received"),
        (
            {"coverage_penalty": 1.0, "attention_mask": [[True]]},
            "`next_fn` to be a function that returns attention, for `coverage_penalty`",
        ),
    ],
)
def test_a_programmers_wrong_request_is_refused_in_words(arguments, message):
    with pytest.raises(ValueError) as error:
        beam([[0.5, 0.0, 0.5]] * 3, **arguments)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda logits: logits, "`next_fn` to be a function that returns (logits, states) or (logits, states, att"),
        (lambda logits: (logits[:, 0], ()), "`logits` to be (rows, vocabulary)"),
        (lambda logits: (logits, (), logits[:, :, tf.newaxis]), "`attention` to be (rows, slots). Received"),
        (
            lambda logits: (logits[:, :1], ()),
            "`logits` to be (rows, vocabulary), a vocabulary of a known size of 2 or more",
        ),
    ],
)
def test_a_function_that_returns_something_else_is_refused(result, message):
    for search, options in ((lk.decoding.greedy_search, {}), (lk.decoding.beam_search, {"beam_size": 2})):
        with pytest.raises(ValueError) as error:
            search(lambda ids, _: result(tf.zeros((len(ids), 5))), (), [START], max_length=3, end_id=0, **options)
        assert message in str(error.value)
