"""Beam search; `lightkeras.decoding.search` describes `next_fn`, the states and the result."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from lightkeras.decoding.search import Hypotheses, NextFn, Scorer, as_tensors, check_search, first_ids, limits
from lightkeras.utils.checks import require

# The smallest coverage that counts: its logarithm is finite, -87.3.
MIN_COVERAGE = 2.0**-126


def beam_search(
    next_fn: NextFn,
    states: Any,
    start_ids: Any,
    *,
    beam_size: int,
    max_length: Any,
    end_id: int,
    n_best: int = 1,
    length_penalty: Any = 0.0,
    coverage_penalty: Any = 0.0,
    attention_mask: Any = None,
    min_length: int = 0,
    forbidden: Sequence[int] = (),
    capacity: int | None = None,
) -> Hypotheses:
    """Finds the sequences with the best penalised scores, with `beam_size` prefixes per row.

    `lightkeras.decoding.search` has an example.

    At every step the `beam_size` prefixes of a row are extended by every token, and the candidates are ranked by their
    log-probability. Candidates among the best `beam_size` that end, or have reached `max_length`, join the row's ended
    sequences; the best `beam_size` that do not end are the next prefixes, so that the beam keeps its width. The score
    of a sequence Y, its end included in its length |Y|, is that of Wu et al. (2016), "Google's neural machine
    translation system", equation 14, with X the slots of `attention_mask`:

        log P(Y) / ((5 + |Y|) / 6) ** length_penalty + coverage_penalty * sum over X of log(min(coverage, 1))

    where the coverage of a slot is the sum of its attention over the steps of Y (at least 2**-126, so that a slot
    without attention costs a finite score). Sequences that were cut at `max_length` are scored in the same way.

    A row stops when no prefix can beat the `n_best` ended sequences, and the loop stops when every row has stopped:
    log P only falls as a prefix grows and the coverage term is at most 0, so no continuation of a prefix can score
    above its log P / ((5 + max_length) / 6) ** length_penalty. Stopping changes no result.

    The states are repeated for the beam once, and reordered at every step. States that `next_fn` returns unchanged (the
    same tensor) are not reordered, which saves a copy of the encoded source at every step.

    Args:
        next_fn: As in `greedy_search`, called with rows * beam_size rows.
        states: The states that `next_fn` takes with `start_ids`, (rows, ...) each; scalars are passed unchanged.
        start_ids: (rows,) ids: the token before the first one of each row; not part of the result.
        beam_size: Number of prefixes; may exceed the vocabulary. 1 without penalties is greedy search.
        max_length, end_id, min_length, forbidden, capacity: As in `greedy_search`.
        n_best: Sequences returned for each row, at most `beam_size`.
        length_penalty: At least 0; a number or a scalar tensor. 0 compares sums, 1 nearly means over the tokens.
        coverage_penalty: At least 0; a number or a scalar tensor. Above 0, `next_fn` must return attention.
        attention_mask: (rows, slots), True for real slots; only the coverage penalty needs it.

    Returns:
        Hypotheses of (rows, n_best).

    Raises:
        ValueError: An argument is out of its range or missing, or `next_fn` returns something else.
    """
    check_search(max_length, beam_size, n_best, length_penalty, coverage_penalty, min_length)
    covers = tf.is_tensor(coverage_penalty) or coverage_penalty > 0
    require(not covers or attention_mask is not None, "attention_mask", "given with `coverage_penalty`", attention_mask)
    scorer = Scorer(next_fn, end_id, min_length, forbidden)
    ids, rows = first_ids(start_ids)
    limit, width = limits(max_length, rows, capacity)
    penalties = _Penalties(length_penalty, coverage_penalty, tf.cast(attention_mask, tf.bool) if covers else None)
    beams = _Beams(scorer, penalties, rows, beam_size, limit[:, tf.newaxis])
    loop = (tf.constant(0), beams.first(ids, states), _no_sequences(rows, n_best), _no_steps(beams, ids, width))
    *_, ended, written = tf.while_loop(beams.any_live, beams.step, loop)
    return _trace_back(ended, written, width, scorer)


class _Penalties(NamedTuple):
    """The score of Wu et al. (2016). `mask` is (rows, slots), or None if coverage does not count."""

    length_penalty: Any
    coverage_penalty: Any
    mask: Any

    def divide_by_length(self, log_probs: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        return log_probs / ((5.0 + tf.cast(length, tf.float32)) / 6.0) ** self.length_penalty

    def score_coverage(self, coverage: tf.Tensor) -> tf.Tensor:
        """(rows, beam, slots) -> (rows, beam), at most 0."""
        logs = tf.math.log(tf.clip_by_value(coverage, MIN_COVERAGE, 1.0))
        return self.coverage_penalty * tf.reduce_sum(tf.where(self.mask[:, tf.newaxis], logs, 0.0), axis=-1)


class _Live(NamedTuple):
    """The prefixes that are extended. A place without a prefix has -inf; a row without prefixes has stopped."""

    ids: tf.Tensor  # (rows * beam,), the newest token of each
    states: Any  # (rows * beam, ...) each
    log_probs: tf.Tensor  # (rows, beam), falling
    coverage: Any  # (rows, beam, slots), or () if it does not count


class _Ended(NamedTuple):
    """The best sequences that have ended or been cut, (rows, n_best) each, best first; -inf if there is none."""

    scores: tf.Tensor
    steps: tf.Tensor  # tokens, the end included
    parents: tf.Tensor  # the place in the beam of the prefix that the last token extended
    last: tf.Tensor  # the last token


class _Written(NamedTuple):
    """Values of each step, from which the sequences are traced back; whole prefixes would be copied at every step."""

    tokens: tf.TensorArray  # (rows, beam)
    parents: tf.TensorArray  # (rows, beam), the place in the beam of the prefix that each extends
    attention: tf.TensorArray  # (rows * beam, slots), in the order of the prefixes before the step


class _Candidates(NamedTuple):
    """Extended prefixes, (rows, 2 * beam) each, best first: at least `beam` that do not end."""

    log_probs: tf.Tensor
    parents: tf.Tensor
    tokens: tf.Tensor


class _Beams:
    """The step of the beam search. `limit` is (rows, 1)."""

    def __init__(self, scorer: Scorer, penalties: _Penalties, rows: Any, size: int, limit: tf.Tensor) -> None:
        self.scorer, self.penalties, self.rows, self.size, self.limit = scorer, penalties, rows, size, limit
        self._changed = {}  # by its place in the nest, whether `next_fn` has ever replaced a state

    def first(self, ids: tf.Tensor, states: Any) -> _Live:
        """Starts each row with one prefix; the other places are empty, so that equal prefixes do not fill the beam."""
        log_probs = tf.tile([[0.0] + [-math.inf] * (self.size - 1)], (self.rows, 1))
        states = tf.nest.map_structure(self._repeat, as_tensors(states))
        mask = self.penalties.mask
        coverage = () if mask is None else tf.zeros((self.rows, self.size, tf.shape(mask)[1]))
        return _Live(self._repeat(ids), states, log_probs, coverage)

    def any_live(self, t: tf.Tensor, live: _Live, *_: Any) -> tf.Tensor:
        return tf.reduce_any(live.log_probs > -math.inf)

    def step(self, t: tf.Tensor, live: _Live, ended: _Ended, written: _Written) -> tuple:
        """Extends every prefix by one token."""
        log_probs, states, attention = self.scorer(t, live.ids, live.states)
        found = self._candidates(live.log_probs, log_probs)
        coverage = self._cover(live.coverage, attention)
        ends = (found.tokens == self.scorer.end_id) | (t + 1 >= self.limit)  # (rows, 2 * beam)
        ended = self._collect(t, ended, found, ends, coverage)
        # `top_k` keeps the order of equals, so these are the first `beam` that do not end.
        log_probs, kept = tf.math.top_k(tf.where(ends, -math.inf, found.log_probs), self.size)
        parents, tokens = (tf.gather(x, kept, batch_dims=1) for x in (found.parents, found.tokens))
        beaten = ended.scores[:, -1:] >= self.penalties.divide_by_length(log_probs[:, :1], self.limit)  # (rows, 1)
        written = _Written(
            written.tokens.write(t, tokens),
            written.parents.write(t, parents),
            written.attention.write(t, attention),
        )
        live = _Live(
            tf.reshape(tokens, (-1,)),
            self._reorder(live.states, states, parents),
            tf.where(beaten, -math.inf, log_probs),
            () if self.penalties.mask is None else tf.gather(coverage, parents, batch_dims=1),
        )
        return t + 1, live, ended, written

    def _candidates(self, sums: tf.Tensor, log_probs: tf.Tensor) -> _Candidates:
        """Selects the best of (rows, beam) prefixes with (rows * beam, vocabulary) tokens.

        The best `beam` + 1 tokens of each prefix, perhaps with its end, include all candidates for the best `beam` and
        for the best `beam` that do not end. So each prefix ranks the vocabulary once.
        """
        width = min(self.size + 1, log_probs.shape[1])
        best, tokens = tf.math.top_k(log_probs, width)  # (rows * beam, width)
        best = sums[..., tf.newaxis] + tf.reshape(best, (self.rows, self.size, width))
        tokens = tf.reshape(tokens, (self.rows, self.size * width))
        log_probs, places = tf.math.top_k(tf.reshape(best, (self.rows, self.size * width)), 2 * self.size)
        return _Candidates(log_probs, places // width, tf.gather(tokens, places, batch_dims=1))

    def _cover(self, coverage: Any, attention: tf.Tensor) -> Any:
        """Adds this step's attention, (rows * beam, slots), to the coverage."""
        if self.penalties.mask is None:
            return ()
        require(self.scorer.attends, "next_fn", "a function that returns attention, for `coverage_penalty`", None)
        return coverage + tf.reshape(attention, tf.shape(coverage))

    def _collect(self, t: tf.Tensor, ended: _Ended, found: _Candidates, ends: tf.Tensor, coverage: Any) -> _Ended:
        """Selects the best of the sequences that ended before and at this step; of equals, the earlier one."""
        log_probs, parents, tokens, ends = (x[:, : self.size] for x in (*found, ends))
        scores = self.penalties.divide_by_length(log_probs, t + 1)
        if self.penalties.mask is not None:
            scores += tf.gather(self.penalties.score_coverage(coverage), parents, batch_dims=1)
        new = _Ended(tf.where(ends, scores, -math.inf), tf.fill(tf.shape(tokens), t + 1), parents, tokens)
        every = [tf.concat(pair, axis=1) for pair in zip(ended, new, strict=True)]
        _, kept = tf.math.top_k(every[0], ended.scores.shape[1])
        return _Ended(*(tf.gather(x, kept, batch_dims=1) for x in every))

    def _repeat(self, state: tf.Tensor) -> tf.Tensor:
        """Repeats (rows, ...) to (rows * beam, ...), the beam of a row in neighbouring places; keeps scalars."""
        return state if state.shape.rank == 0 else tf.repeat(state, self.size, axis=0)

    def _reorder(self, before: Any, after: Any, parents: tf.Tensor) -> Any:
        """Gathers the states of the parents of the next prefixes. Unchanged states are equal within a row."""
        tf.nest.assert_same_structure(before, after)
        places = tf.reshape(tf.range(self.rows)[:, tf.newaxis] * self.size + parents, (-1,))  # (rows * beam,)
        states = []
        for i, (old, new) in enumerate(zip(tf.nest.flatten(before), tf.nest.flatten(after), strict=True)):
            # Eagerly, a function may return the same tensor at one step and another tensor at the next.
            self._changed[i] = self._changed.get(i, False) or new is not old
            moves = self._changed[i] and old.shape.rank != 0
            states.append(tf.ensure_shape(tf.gather(new, places), old.shape) if moves else new)
        return tf.nest.pack_sequence_as(before, states)


def _trace_back(ended: _Ended, written: _Written, width: Any, scorer: Scorer) -> Hypotheses:
    """Follows every ended sequence back to its start."""
    tokens, parents = written.tokens.stack(), written.parents.stack()  # (width, rows, beam) each
    shape = ended.parents.shape

    def step(t, place, path):
        earlier = tf.gather(tf.gather(parents, t), place, batch_dims=1)  # (rows, n_best)
        place = tf.ensure_shape(tf.where(t < ended.steps - 1, earlier, place), shape)
        return t - 1, place, path.write(t, place)

    path = tf.TensorArray(tf.int32, width, element_shape=shape)
    *_, path = tf.while_loop(lambda t, *_: t >= 0, step, (width - 1, ended.parents, path))
    path = path.stack()  # (width, rows, n_best): the place in the beam of the prefix before each step
    place_after = tf.concat([path[1:], path[-1:]], axis=0)
    ids = tf.transpose(tf.gather(tokens, place_after, batch_dims=2), (1, 2, 0))  # (rows, n_best, width)
    steps, last = ended.steps[..., tf.newaxis], ended.last[..., tf.newaxis]  # (rows, n_best, 1)
    at = tf.range(width)  # (width,)
    ids = tf.where(at < steps - 1, ids, tf.where(at == steps - 1, last, scorer.end_id))
    lengths = ended.steps - tf.cast(ended.last == scorer.end_id, tf.int32)
    attention = _attention_along(path, written.attention.stack(), steps) if scorer.attends else None
    return Hypotheses(ids, lengths, ended.scores, attention)


def _attention_along(path: tf.Tensor, attention: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
    """(width, rows, n_best), (width, rows * beam, slots) -> (rows, n_best, width, slots)."""
    width, rows, slots = tf.shape(path)[0], tf.shape(path)[1], tf.shape(attention)[2]
    by_row = tf.reshape(attention, (width, rows, tf.shape(attention)[1] // rows, slots))  # (width, rows, beam, slots)
    followed = tf.transpose(tf.gather(by_row, path, batch_dims=2), (1, 2, 0, 3))
    return tf.where((tf.range(width) < steps)[..., tf.newaxis], followed, 0.0)


def _no_sequences(rows: Any, n_best: int) -> _Ended:
    none = tf.zeros((rows, n_best), tf.int32)
    return _Ended(tf.fill((rows, n_best), -math.inf), none, none, none - 1)


def _no_steps(beams: _Beams, ids: tf.Tensor, width: Any) -> _Written:
    rows, size = ids.shape[0], beams.size
    tokens, parents = (tf.TensorArray(tf.int32, width, element_shape=(rows, size)) for _ in range(2))
    return _Written(tokens, parents, tf.TensorArray(tf.float32, width, element_shape=(rows and rows * size, None)))
