"""Text from a model that scores the next token: sampling, and the compiled loop around it.

A model takes part through one function, `next_fn(ids, states) -> (logits, states)`: the ids of the newest
tokens, shape (batch,), and whatever the model remembers go in; the logits of the tokens that may follow,
shape (batch, vocabulary), and the new memory come out. `states` is any nest of tensors whose shapes stay
the same from step to step.

Everything here works eagerly, in a `tf.function`, and under XLA, and draws the same random bits in each, so
one seed gives one text. The promise holds to float rounding: where two tokens' scores, or a probability and
`top_p`, agree to the last bit or so, the three may part, as the models' own logits then do.
"""

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from lightkeras.utils.checks import require, require_int, require_number

# Temperatures below this count as 0: float32 logits, divided by so little, are told apart by their last bits.
GREEDY_BELOW = 1e-6


def check_sampling(temperature: Any, top_k: Any, top_p: Any, vocabulary_size: int) -> None:
    """Checks what a user asks of the sampler, as Python numbers, before anything is traced.

    Raises:
        ValueError: unless `temperature` is finite and at least 0, `top_k` is None or an int from 1 to
            `vocabulary_size`, and `top_p` is None or above 0 and at most 1.
    """
    require_number("temperature", temperature, inclusive=True, below=math.inf)
    require_int("top_k", top_k, optional=True)
    at_most = f"at most the vocabulary's size ({vocabulary_size})"
    require(top_k is None or top_k <= vocabulary_size, "top_k", at_most, top_k)
    require_number("top_p", top_p, optional=True)
    require(top_p is None or top_p <= 1, "top_p", "a number above 0 and at most 1", top_p)


def filter_logits(logits: Any, temperature: Any = 1.0, top_k: int | None = None, top_p: Any = None) -> tf.Tensor:
    """Logits divided by the temperature, with the tokens that may not be drawn at minus infinity.

    In the order of Hugging Face's transformers: temperature, then top-k (Fan, Lewis and Dauphin, 2018), then
    top-p among the tokens left, their probabilities rescaled (the nucleus of Holtzman et al., 2020: the
    fewest most probable tokens whose probabilities reach `top_p`, the one that crosses it included). Of
    equally probable tokens, the lower id counts as the more probable, so top-k keeps exactly `top_k` tokens.

    Args:
        logits: (batch, vocabulary); any float type, computed in float32. Tokens may be at minus infinity.
        temperature: scalar, finite; 0 is the limit: only the most probable token is kept.
        top_k: a Python int of at most the vocabulary's size, or None.
        top_p: scalar in (0, 1], or None. 1 keeps every token. None, here and for `top_k`, costs nothing.
            Alone, it sorts the whole vocabulary; with `top_k`, only that many tokens.

    Returns:
        (batch, vocabulary), float32. At least one token of each row is kept.
    """
    logits = _divide_by_temperature(tf.cast(logits, tf.float32), tf.cast(temperature, tf.float32))
    if top_k is None and top_p is None:
        return logits
    least, least_id = _least_probable_kept(logits, top_k, top_p)  # each (batch, 1)
    ids = tf.range(tf.shape(logits)[-1])  # (vocabulary,)
    kept = (logits > least) | ((logits == least) & (ids <= least_id))
    return tf.where(kept, logits, -math.inf)


def _divide_by_temperature(logits: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
    """Logits / temperature, (batch, vocabulary); in the limit 0 for the first best token, -inf elsewhere."""
    ids = tf.range(tf.shape(logits)[-1])  # (vocabulary,)
    is_best = ids == tf.argmax(logits, -1, output_type=tf.int32)[:, tf.newaxis]
    greedy = temperature < GREEDY_BELOW
    divided = logits / tf.where(greedy, 1.0, temperature)
    return tf.where(greedy, tf.where(is_best, 0.0, -math.inf), divided)


def _least_probable_kept(logits: tf.Tensor, top_k: int | None, top_p: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """The logit and the id of the last token kept in each row, each (batch, 1).

    `tf.math.top_k` puts equal logits in the order of their ids, so this pair marks the cut exactly.
    """
    count = tf.shape(logits)[-1] if top_k is None else top_k
    logits = tf.where(logits == 0.0, 0.0, logits)  # XLA would rank 0.0 above -0.0
    values, ids = tf.math.top_k(logits, count)  # (batch, count), falling
    if top_p is None:
        # Not `[:, -1:]`, which makes XLA sort the whole vocabulary.
        least = tf.reduce_min(values, axis=-1, keepdims=True)  # (batch, 1)
        return least, tf.reduce_max(tf.where(values == least, ids, 0), axis=-1, keepdims=True)
    top_p = tf.cast(top_p, tf.float32)
    before = tf.cumsum(tf.nn.softmax(values), axis=-1, exclusive=True)  # probability of the tokens ahead
    # Rounding can take `before` to 1 early: a `top_p` of 1 keeps every token all the same.
    inside = tf.cast((before < top_p) | (top_p >= 1.0), tf.int32)
    last = tf.reduce_sum(inside, axis=-1, keepdims=True) - 1  # (batch, 1)
    return tf.gather(values, last, batch_dims=1), tf.gather(ids, last, batch_dims=1)


def sample(logits: Any, seed: Any, temperature: Any = 1.0, top_k: int | None = None, top_p: Any = None) -> tf.Tensor:
    """One token for each row, drawn from the softmax of `filter_logits(logits, temperature, top_k, top_p)`.

    By inverting the cumulative distribution, from one random number a row: the draw of row i depends on
    `seed`, i and the row's logits, not on the other rows or on how many there are. A token at minus infinity
    is never drawn, nor is one with less than 2**-30 of the best token's probability.

    Args:
        logits: (batch, vocabulary).
        seed: (2,), int32. The same seed draws the same tokens.
        temperature, top_k, top_p: as in `filter_logits`. A temperature of 0 draws the best token, the
            lowest id of equals.

    Returns:
        ids, (batch,), int32.
    """
    filtered = filter_logits(logits, temperature, top_k, top_p)
    return _token_at(filtered, _uniform(tf.shape(filtered)[0], seed))


def _uniform(rows: tf.Tensor, seed: Any) -> tf.Tensor:
    """Random numbers in [0, 1), (rows, 1), float64.

    Made from random bits because XLA turns the same bits into other floats than TensorFlow does.
    """
    bits = tf.random.stateless_uniform((rows, 1), seed, None, None, tf.uint32, alg="philox")
    return tf.cast(bits, tf.float64) * 2.0**-32


def _token_at(logits: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """The token at which the probabilities, summed by rising id, pass `share`, (batch, 1) -> (batch,), int32.

    The weights are whole numbers of up to 2**30: float64 adds those exactly, in whatever order a device
    adds, so the sums never fall, and one that stands still marks a token of no weight, which is passed over.
    """
    weights = tf.exp(logits - tf.reduce_max(logits, axis=-1, keepdims=True))  # (batch, vocabulary), best is 1
    sums = tf.cumsum(tf.cast(tf.floor(weights * 2.0**30), tf.float64), axis=-1)
    return tf.reduce_sum(tf.cast(sums <= share * sums[:, -1:], tf.int32), axis=-1)


def generate(
    next_fn: Callable[[tf.Tensor, Any], tuple[tf.Tensor, Any]],
    states: Any,
    prompt: Any,
    length: Any,
    *,
    temperature: Any = 1.0,
    top_k: int | None = None,
    top_p: Any = None,
    seed: Any,
    capacity: int | None = None,
) -> tf.Tensor:
    """`length` tokens to follow each prompt, each drawn by `sample` given all before it; one compiled loop.

    `prompt` holds the tokens that `states` have not seen. A model with a faster way through a whole sequence
    runs it over all but the last token and passes the states that result with `prompt[:, -1:]`.

    Token t of the result is drawn with `seed` folded with t: the same seed gives the same text, and a longer
    text begins with the shorter one. Going on from a generated text takes a new seed. Row i does not depend
    on the other rows or on their number, where that is true of `next_fn` (to float rounding).

    Call it inside a `tf.function`; numbers passed to that as tensors (`temperature`, `top_p`, `seed`, `length`; under
    XLA with a `capacity`) change without a new trace.

    Args:
        next_fn: `(ids (batch,) int32, states) -> (logits (batch, vocabulary), states)`.
        states: what `next_fn` takes with the first token of `prompt`.
        prompt: (batch, prompt_length) ids; at least one token each.
        length: number of tokens to generate; a Python int under XLA, or a tensor with a `capacity`.
        temperature, top_k, top_p: as in `filter_logits`.
        seed: (2,), int32.
        capacity: room for the tokens, for a `length` that is not known when traced: at least `length`.

    Returns:
        ids, (batch, length), int32, without the prompt; with a `capacity` (batch, capacity), 0 from `length` on.

    Raises:
        ValueError: if the prompt is not of two dimensions, or empty.
    """
    prompt = tf.cast(prompt, tf.int32)
    shape = prompt.shape
    require(shape.rank == 2 and shape[1] != 0, "prompt", "(batch, prompt_length) ids, one or more a row", shape)
    states = _read(next_fn, states, prompt[:, :-1])

    def step(t, ids, states, written):
        logits, states = next_fn(ids, states)  # (batch, vocabulary)
        ids = sample(logits, fold_in(seed, t), temperature, top_k, top_p)
        return t + 1, ids, states, written.write(t, ids)

    written = tf.TensorArray(tf.int32, size=capacity or length, element_shape=shape[:1])
    start = (tf.constant(0), prompt[:, -1], states, written)
    *_, written = tf.while_loop(lambda t, *_: t < length, step, start)
    return tf.transpose(written.stack())  # (length, batch) -> (batch, length)


def _read(next_fn: Callable[[tf.Tensor, Any], tuple[tf.Tensor, Any]], states: Any, ids: tf.Tensor) -> Any:
    """The states after `next_fn` has been given every token of `ids`, (batch, time), in turn."""
    if ids.shape[1] == 0:
        return states

    def step(t, states):
        return t + 1, next_fn(ids[:, t], states)[1]

    return tf.while_loop(lambda t, _: t < tf.shape(ids)[1], step, (tf.constant(0), states))[1]


def fold_in(seed: Any, number: tf.Tensor) -> tf.Tensor:
    """A seed, (2,), for each number, of the same kind on every device."""
    return tf.random.experimental.stateless_fold_in(seed, number, alg="philox")
