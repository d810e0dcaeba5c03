"""Sequences with an end: greedy search and sampling over a model that scores the next token.

A model takes part through the function of `lk.decoding.generate`, `next_fn(ids, states) -> (logits, states)`,
or `(logits, states, attention)` if it attends to a source: ids (rows,) int32, logits (rows, vocabulary), attention
(rows, slots), its weights over the slots of the source. `states` is any nest of tensors with rows first, of shapes that
stay the same from step to step; it may include scalars, such as a count of steps.

Tensors that a model only reads, such as an encoded source, are part of the states and are returned unchanged::

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int32)])  # one trace for batches of any shape
    def translate(source):  # (rows, slots) ids
        mask, lengths = source != 0, tf.reduce_sum(tf.cast(source != 0, tf.int32), axis=1)
        memory, hidden = encoder(source, mask)  # (rows, slots, units), (rows, units)

        def next_fn(ids, states):
            logits, hidden, attention = decoder.step(ids, states["hidden"], states["memory"], states["mask"])
            return logits, {**states, "hidden": hidden}, attention

        states, start = {"hidden": hidden, "memory": memory, "mask": mask}, tf.fill(tf.shape(source)[:1], START)
        return lk.decoding.beam_search(next_fn, states, start, beam_size=5, max_length=2 * lengths + 10, end_id=END,
                              length_penalty=1.0, coverage_penalty=0.2, attention_mask=mask, forbidden=[PAD, START])

    found = translate(batch)
    texts = [vocabulary.decode(ids[0, :length[0]]) for ids, length in zip(found.ids.numpy(), found.lengths.numpy())]

All searches work eagerly, in a `tf.function`, and under XLA, with the same results to float rounding. The result of a
row does not depend on the other rows or on their number. Scores are computed in float32, whatever the precision of the
model. Of equal scores, the lower id comes first. `lk.decoding.CompiledSearch` compiles and keeps such functions.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from lightkeras.decoding.sampling import fold_in, sample
from lightkeras.utils.checks import require, require_int, require_number

NextFn = Callable[[tf.Tensor, Any], tuple]


class Hypotheses(NamedTuple):
    """The sequences found: (rows,) of them, or (rows, n_best), best first, from a beam search.

    `capacity` is the argument of that name or, if that is None, the greatest `max_length`.

    Attributes:
        ids: (..., capacity) int32: the tokens, then `end_id` in all places left.
        lengths: (...) int32: the number of tokens before the end; `max_length` for a sequence that was cut there.
        scores: (...) float32: the sum of the tokens' log-probabilities in nats, the end's included; from a beam
            search the penalised score. A place without a sequence has the score -inf and the length 0.
        attention: (..., capacity, slots) float32: the weights with which each token was chosen, the end included,
            then 0; None if `next_fn` returns none.
    """

    ids: tf.Tensor
    lengths: tf.Tensor
    scores: tf.Tensor
    attention: tf.Tensor | None


def check_search(
    max_length: Any,
    beam_size: Any = 1,
    n_best: Any = 1,
    length_penalty: Any = 0.0,
    coverage_penalty: Any = 0.0,
    min_length: Any = 0,
) -> None:
    """Checks the options of a search before it is traced; tensors only if their values are known.

    Raises:
        ValueError: Unless `beam_size` and `n_best` are positive ints, `n_best` at most `beam_size`; `max_length` is a
            positive int or one for each row; `min_length` is a non-negative int and at most a `max_length` that
            is an int; the penalties are finite and at least 0.
    """
    require_int("beam_size", beam_size)
    require_int("n_best", n_best)
    require(n_best <= beam_size, "n_best", f"at most `beam_size` ({beam_size})", n_best)
    require_int("min_length", min_length, minimum=0)
    if _is_array(max_length):
        _check_lengths(max_length)
    else:
        require_int("max_length", max_length)
        require(min_length <= max_length, "min_length", f"at most `max_length` ({max_length})", min_length)
    for name, penalty in (("length_penalty", length_penalty), ("coverage_penalty", coverage_penalty)):
        if not tf.is_tensor(penalty):
            require_number(name, penalty, inclusive=True, below=math.inf)


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype") and not isinstance(value, int)


def _check_lengths(max_length: Any) -> None:
    max_length = tf.convert_to_tensor(max_length)
    known = tf.get_static_value(max_length)
    fit = max_length.dtype.is_integer and max_length.shape.rank in (0, 1) and (known is None or (known >= 1).all())
    received = max_length if known is None else known.tolist()
    require(fit, "max_length", "a positive int, or a (rows,) tensor of them", received)


def greedy_search(
    next_fn: NextFn,
    states: Any,
    start_ids: Any,
    *,
    max_length: Any,
    end_id: int,
    min_length: int = 0,
    forbidden: Sequence[int] = (),
    capacity: int | None = None,
) -> Hypotheses:
    """Chooses the most probable token at every step, up to the end; stops when every row has ended.

    Args:
        next_fn: `(ids (rows,), states) -> (logits (rows, vocabulary), states[, attention (rows, slots)])`.
        states: The states that `next_fn` takes with `start_ids`.
        start_ids: (rows,) ids: the token before the first one of each row; not part of the result.
        max_length: The most tokens of a sequence, its end included; an int, or a tensor (rows,), each at least 1.
        end_id: The token that ends a sequence.
        min_length: The least tokens before the end, if `max_length` leaves room for them.
        forbidden: Ids that are never chosen. They keep their share of the probability.
        capacity: The width of the result and the most tokens of any row. XLA needs it if `max_length` is a tensor.

    Raises:
        ValueError: An argument is out of its range, or `next_fn` returns something else.
    """
    check_search(max_length, min_length=min_length)
    scorer = Scorer(next_fn, end_id, min_length, forbidden)

    def choose(t, log_probs):
        return tf.argmax(log_probs, axis=-1, output_type=tf.int32)

    return _extend(scorer, states, start_ids, choose, max_length, capacity)


def sample_search(
    next_fn: NextFn,
    states: Any,
    start_ids: Any,
    *,
    max_length: Any,
    end_id: int,
    seed: Any,
    temperature: Any = 1.0,
    top_k: int | None = None,
    top_p: Any = None,
    min_length: int = 0,
    forbidden: Sequence[int] = (),
    capacity: int | None = None,
) -> Hypotheses:
    """Draws a token with `lightkeras.decoding.sample` at every step, up to the end; stops when every row has ended.

    Token t is drawn with `seed` folded with t. The draws of a row depend on `seed` and on its place in the batch, not
    on the other rows. The scores are the model's own, whatever the temperature and the filters.

    Args:
        seed: (2,), int32.
        temperature, top_k, top_p: As in `generate`; `check_sampling` checks them.
        next_fn, states, start_ids, max_length, end_id, min_length, forbidden, capacity: As in `greedy_search`.

    Raises:
        ValueError: The reasons of `greedy_search`.
    """
    check_search(max_length, min_length=min_length)
    scorer = Scorer(next_fn, end_id, min_length, forbidden)

    def choose(t, log_probs):
        return sample(log_probs, fold_in(seed, t), temperature, top_k, top_p)

    return _extend(scorer, states, start_ids, choose, max_length, capacity)


def _extend(
    scorer: "Scorer", states: Any, start_ids: Any, choose: Callable, max_length: Any, capacity: int | None
) -> Hypotheses:
    """Runs the loop of greedy search and sampling with `choose(t, log_probs (rows, vocabulary)) -> ids (rows,)`."""
    ids, rows = first_ids(start_ids)
    limit, width = limits(max_length, rows, capacity)

    def step(t, ids, states, lengths, scores, open_, written, attended):
        log_probs, states, attention = scorer(t, ids, states)
        ids = tf.where(open_, choose(t, log_probs), scorer.end_id)
        scores += tf.where(open_, tf.gather(log_probs, ids, batch_dims=1), 0.0)
        attended = attended.write(t, tf.where(open_[:, tf.newaxis], attention, 0.0))
        open_ &= ids != scorer.end_id
        lengths += tf.cast(open_, tf.int32)
        return t + 1, ids, states, lengths, scores, open_ & (t + 1 < limit), written.write(t, ids), attended

    written = tf.TensorArray(tf.int32, width, element_shape=ids.shape)
    attended = tf.TensorArray(tf.float32, width, element_shape=(ids.shape[0], None))
    start = (tf.constant(0), ids, as_tensors(states), tf.zeros_like(ids), tf.zeros((rows,)), tf.fill((rows,), True))
    loop = tf.while_loop(lambda t, *rest: tf.reduce_any(rest[4]), step, (*start, written, attended))
    *_, lengths, scores, _, written, attended = loop
    ids = tf.transpose(written.stack())  # (width, rows) -> (rows, width)
    ids = tf.where(tf.range(width) < lengths[:, tf.newaxis], ids, scorer.end_id)
    attention = tf.transpose(attended.stack(), (1, 0, 2)) if scorer.attends else None  # (rows, width, slots)
    return Hypotheses(ids, lengths, scores, attention)


class Scorer:
    """Calls `next_fn`, checks its result, and returns log-probabilities with forbidden tokens at -inf."""

    def __init__(self, next_fn: NextFn, end_id: int, min_length: int, forbidden: Sequence[int]) -> None:
        require_int("end_id", end_id, minimum=0)
        for token in forbidden:
            require_int("forbidden", token, minimum=0)
        require(end_id not in forbidden, "forbidden", f"other ids than `end_id` ({end_id})", forbidden)
        self._next_fn, self.end_id, self._min_length, self._forbidden = next_fn, end_id, min_length, tuple(forbidden)
        self.attends = False  # known once it has been called

    def __call__(self, t: tf.Tensor, ids: tf.Tensor, states: Any) -> tuple[tf.Tensor, Any, tf.Tensor]:
        """Returns log-probabilities (rows, vocabulary), states, and attention (rows, slots), without any of 0 slots."""
        result = self._next_fn(ids, states)
        fit = isinstance(result, tuple) and len(result) in (2, 3)
        require(fit, "next_fn", "a function that returns (logits, states) or (logits, states, attention)", result)
        logits, states, *attention = result
        self.attends = bool(attention)
        attention = tf.cast(attention[0] if attention else tf.zeros((tf.shape(ids)[0], 0)), tf.float32)
        require(attention.shape.rank == 2, "attention", "(rows, slots)", attention.shape)
        return self._log_probs(t, tf.cast(logits, tf.float32)), states, attention

    def _log_probs(self, t: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        self._check_vocabulary(logits.shape)
        log_probs = tf.nn.log_softmax(logits)
        if not self._forbidden and not self._min_length:
            return log_probs
        tokens = tf.range(tf.shape(logits)[-1])  # (vocabulary,)
        barred = (tokens == self.end_id) & (t < self._min_length)
        for token in self._forbidden:
            barred |= tokens == token
        return tf.where(barred, -math.inf, log_probs)

    def _check_vocabulary(self, shape: tf.TensorShape) -> None:
        fit = shape.rank == 2 and (shape[1] or 0) > 1
        require(fit, "logits", "(rows, vocabulary), a vocabulary of a known size of 2 or more", shape)
        for name, token in (("end_id", self.end_id), *(("forbidden", token) for token in self._forbidden)):
            require(token < shape[1], name, f"below the vocabulary's size ({shape[1]})", token)


def first_ids(start_ids: Any) -> tuple[tf.Tensor, Any]:
    """Returns the first ids, (rows,) int32, and their number: an int if it is known, else a tensor."""
    ids = tf.cast(start_ids, tf.int32)
    require(ids.shape.rank == 1, "start_ids", "(rows,) ids", ids.shape)
    return ids, ids.shape[0] or tf.shape(ids)[0]


def limits(max_length: Any, rows: Any, capacity: int | None) -> tuple[tf.Tensor, Any]:
    """Returns the most tokens of each row, (rows,) int32, and of any row."""
    require_int("capacity", capacity, optional=True)
    limit = tf.cast(max_length, tf.int32)
    one_a_row = tf.TensorShape([rows if isinstance(rows, int) else None])
    fit = limit.shape.rank == 0 or limit.shape.is_compatible_with(one_a_row)
    require(fit, "max_length", f"an int, or of shape {one_a_row}", limit.shape)
    width = capacity or (tf.reduce_max(limit) if _is_array(max_length) else max_length)
    return tf.broadcast_to(tf.minimum(limit, width), (rows,)), width


def as_tensors(states: Any) -> Any:
    """Converts every leaf of a nest to a tensor."""
    return tf.nest.map_structure(tf.convert_to_tensor, states)
