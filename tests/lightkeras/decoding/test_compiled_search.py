"""The compiled search over a network that copies its source: results by hand, padding, order, and traces."""

import math

import numpy as np
import pytest
import tensorflow as tf

import lightkeras as lk
from lightkeras.decoding import compiled_search

TOKENS = 9
SURE = 5 - math.log(math.exp(5) + TOKENS - 1)  # log-probability of a token that scores 5 where all others score 0
PAD, END = lk.text.PAD, lk.text.END


class Copier:
    """Writes slot t of its source at step t, and attends to that slot alone; counts its traces."""

    def __init__(self):
        self.traces = 0

    def encode(self, inputs):
        self.traces += 1
        return {"source": inputs, "t": tf.zeros_like(inputs[:, 0])}

    def next(self, ids, states):
        source, slots = states["source"], tf.shape(states["source"])[1]
        place = tf.minimum(states["t"], slots - 1)
        logits = 5 * tf.one_hot(tf.gather(source, place, batch_dims=1), TOKENS)
        return logits, {**states, "t": states["t"] + 1}, tf.one_hot(place, slots)


def searcher(max_length=lambda lengths: lengths):
    return lk.decoding.CompiledSearch(Copier(), tf.TensorSpec((None, None), tf.int32), max_length)


def sources(count):
    """Ids of different lengths, each with its end."""
    numbers = np.random.default_rng(0)
    rows = [numbers.integers(4, TOKENS, numbers.integers(0, 6)) for _ in range(count)]
    return [np.append(row, END).astype(np.int32) for row in rows]


def assert_copies(found, rows, score):
    for (best, *_), row in zip(found, rows, strict=True):
        np.testing.assert_array_equal(best.ids, row)
        np.testing.assert_array_equal(best.attention, np.eye(len(row), dtype=np.float32))
        assert best.score == pytest.approx(score(len(row)), rel=1e-5)


def test_examples_of_any_length_keep_their_order_and_take_one_trace():
    search, rows = searcher(), sources(2 * compiled_search.ROWS + 6)
    assert_copies(search.search(rows), rows, lambda length: length * SURE)
    assert_copies(search.search(rows[:3]), rows[:3], lambda length: length * SURE)
    assert search.network.traces == 1
    assert search.search([]) == []


def test_each_combination_of_options_is_traced_once():
    search, rows = searcher(), sources(5)
    for penalty in (0.0, 1.0, 0.5):
        found = search.search(rows, beam_size=3, n_best=2, length_penalty=penalty)
        assert_copies(found, rows, lambda length, p=penalty: length * SURE / ((5 + length) / 6) ** p)
        for ranked in found:
            assert len(ranked) == 2 and ranked[0].score > ranked[1].score
    assert search.network.traces == 1
    for penalty in (0.1, 0.2):  # every slot has had an attention of 1: nothing is taken off
        found = search.search(rows, coverage_penalty=penalty)
        assert_copies(found, rows, lambda length: length * SURE)
    search.search(rows, beam_size=2)
    assert search.network.traces == 3


def test_a_sequence_that_is_cut_has_no_end_beside_longer_ones_too():
    rows = sources(8)
    rows = [row for row in rows if len(row) > 2]
    found = searcher(lambda lengths: lengths - 1).search(rows, beam_size=2)
    assert len({len(row) for row in rows}) > 1
    for (best,), row in zip(found, rows, strict=True):
        np.testing.assert_array_equal(best.ids, row[:-1])
        assert best.attention.shape == (len(row) - 1, len(row)) and best.attention.sum() == len(row) - 1


def test_a_batch_gives_the_hypotheses_of_the_searches():
    rows = compiled_search._pad(sources(4), tf.int32)
    network, lengths = Copier(), tf.constant(np.count_nonzero(rows, axis=1), tf.int32)
    start = {"states": network.encode(tf.constant(rows)), "start_ids": [lk.text.START] * 4, "end_id": END}
    common = {**start, "max_length": lengths, "forbidden": (PAD, lk.text.START)}
    expected = lk.decoding.beam_search(network.next, **common, beam_size=3, n_best=3, length_penalty=0.7)
    greedy = lk.decoding.greedy_search(network.next, **common)
    for part, wanted in zip(searcher()(rows, 3, 3, 0.7), expected, strict=True):
        np.testing.assert_allclose(part, wanted, rtol=1e-6)
    for part, wanted in zip(searcher()(rows), greedy, strict=True):
        np.testing.assert_allclose(part[:, 0], wanted, rtol=1e-6)


class Features(Copier):
    """Copies the first feature of each slot, without an end."""

    def encode(self, inputs):
        return super().encode(tf.cast(inputs[:, :, 0], tf.int32))


def test_inputs_of_a_known_shape_are_no_padded_ids():
    inputs = np.array([[[4, 0], [1, 0], [0, 0]], [[5, 0], [6, 0], [7, 0]]], np.float32)
    search = lk.decoding.CompiledSearch(
        Features(), tf.TensorSpec((None, 3, 2), tf.float32), max_length=3, forbidden=(PAD, 1)
    )
    first, second = (best for (best,) in search.search(inputs))
    np.testing.assert_array_equal(second.ids, [5, 6, 7])
    assert first.ids[0] == 4 and not {PAD, 1} & {*first.ids.tolist()}
    assert first.attention.shape[1] == 3 and second.attention.tolist() == np.eye(3).tolist()


@pytest.mark.parametrize("options", [{"beam_size": 0}, {"beam_size": 2, "n_best": 3}, {"length_penalty": -1.0}])
def test_options_out_of_range_are_rejected_before_anything_is_traced(options):
    search = searcher()
    with pytest.raises(ValueError, match=[*options][-1]):
        search.search(sources(2), **options)
    assert search.network.traces == 0
