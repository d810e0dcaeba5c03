"""Text from a model that scores the next token: sampling, and the compiled loop around it.

A model takes part through one function, `next_fn(ids, states) -> (logits, states)`: the ids of the newest
tokens, shape (batch,), and the model's states go in; the logits of the tokens that may follow, shape (batch,
vocabulary), and the new states come out. `states` is any nest of tensors whose shapes stay the same from step to step.

All functions work eagerly, in a `tf.function`, and under XLA, and draw the same random bits in each, so that one seed
gives one text. This holds to float rounding: if two tokens' scores, or a probability and `top_p`, are equal to the last
bits, the three modes may differ, as the models' own logits do.
"""

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from lightkeras.utils.checks import require, require_int, require_number

# Temperatures below this count as 0: after the division, only the last bits of float32 logits would differ.
GREEDY_BELOW = 1e-6


def check_sampling(temperature: Any, top_k: Any, top_p: Any, vocabulary_size: int) -> None:
    """Checks the options of the sampler, as Python numbers, before it is traced.

    Raises:
        ValueError: Unless `temperature` is finite and at least 0, `top_k` is None or an int from 1 to
            `vocabulary_size`, and `top_p` is None or above 0 and at most 1.
    """
    require_number("temperature", temperature, inclusive=True, below=math.inf)
    require_int("top_k", top_k, optional=True)
    at_most = f"at most the vocabulary's size ({vocabulary_size})"
    require(top_k is None or top_k <= vocabulary_size, "top_k", at_most, top_k)
    require_number("top_p", top_p, optional=True)
    require(top_p is None or top_p <= 1, "top_p", "a number above 0 and at most 1", top_p)


def filter_logits(logits: Any, temperature: Any = 1.0, top_k: int | None = None, top_p: Any = None) -> tf.Tensor:
    """Divides logits by the temperature, and sets tokens that may not be drawn to minus infinity.

    In the order of Hugging Face's transformers: temperature, then top-k (Fan, Lewis and Dauphin, 2018), then
    top-p among the tokens left, their probabilities rescaled (the nucleus of Holtzman et al., 2020: the
    fewest most probable tokens whose probabilities reach `top_p`, the one that crosses it included). Of
    equally probable tokens, the lower id counts as the more probable, so top-k keeps exactly `top_k` tokens.

    Args:
        logits: (batch, vocabulary); any float type, computed in float32. May contain minus infinity.
        temperature: Scalar, finite; 0 is the limit, which keeps only the most probable token.
        top_k: A Python int of at most the vocabulary's size, or None.
        top_p: Scalar in (0, 1], or None. 1 keeps every token. None, here and for `top_k`, costs nothing. Alone, it
            sorts the whole vocabulary; with `top_k`, only `top_k` tokens.

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
    """Returns logits / temperature, (batch, vocabulary); in the limit 0 for the first best token, else -inf."""
    ids = tf.range(tf.shape(logits)[-1])  # (vocabulary,)
    is_best = ids == tf.argmax(logits, -1, output_type=tf.int32)[:, tf.newaxis]
    greedy = temperature < GREEDY_BELOW
    divided = logits / tf.where(greedy, 1.0, temperature)
    return tf.where(greedy, tf.where(is_best, 0.0, -math.inf), divided)


def _least_probable_kept(logits: tf.Tensor, top_k: int | None, top_p: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the logit and the id of the last token kept in each row, each (batch, 1).

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
    # Rounding can raise `before` to 1 early, but a `top_p` of 1 must keep every token.
    inside = tf.cast((before < top_p) | (top_p >= 1.0), tf.int32)
    last = tf.reduce_sum(inside, axis=-1, keepdims=True) - 1  # (batch, 1)
    return tf.gather(values, last, batch_dims=1), tf.gather(ids, last, batch_dims=1)


def sample(logits: Any, seed: Any, temperature: Any = 1.0, top_k: int | None = None, top_p: Any = None) -> tf.Tensor:
    """Draws one token for each row from the softmax of `filter_logits(logits, temperature, top_k, top_p)`.

    Inverts the cumulative distribution at one random number per row: the draw of row i depends on `seed`, i and the
    row's logits, not on the other rows or on their number. A token at minus infinity is never drawn, nor is a token
    with less than 2**-30 of the best token's probability.

    Args:
        logits: (batch, vocabulary).
        seed: (2,), int32. The same seed draws the same tokens.
        temperature, top_k, top_p: As in `filter_logits`. A temperature of 0 draws the best token, of equals that with
            the lowest id.

    Returns:
        ids, (batch,), int32.
    """
    filtered = filter_logits(logits, temperature, top_k, top_p)
    return _token_at(filtered, _uniform(tf.shape(filtered)[0], seed))


def _uniform(rows: tf.Tensor, seed: Any) -> tf.Tensor:
    """Draws random numbers in [0, 1): float64 (rows, 1).

    Made from random bits because XLA converts the same bits to other floats than TensorFlow.
    """
    bits = tf.random.stateless_uniform((rows, 1), seed, None, None, tf.uint32, alg="philox")
    return tf.cast(bits, tf.float64) * 2.0**-32


def _token_at(logits: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Returns the token at which the probabilities, summed by rising id, pass `share` (batch, 1): int32 (batch,).

    The weights are whole numbers up to 2**30: float64 adds these exactly, in any order of a device. So the sums never
    fall, and a token of no weight, which does not change the sum, is skipped.
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
    """Draws `length` tokens after each prompt with `sample`, each given all tokens before it, in one compiled loop.

    `prompt` has the tokens that `states` do not include. A model that can read a whole sequence faster reads all but
    the last token and passes the resulting states with `prompt[:, -1:]`.

    Token t of the result is drawn with `seed` folded with t: the same seed gives the same text, and a longer text
    begins with the shorter one. To continue a generated text, use a new seed. Row i does not depend on the other
    rows or on their number, if that is true of `next_fn` (to float rounding).

    Call it inside a `tf.function`; numbers passed to that as tensors (`temperature`, `top_p`, `seed`, `length`; under
    XLA with a `capacity`) change without a new trace.

    Args:
        next_fn: `(ids (batch,) int32, states) -> (logits (batch, vocabulary), states)`.
        states: The states that `next_fn` takes with the first token of `prompt`.
        prompt: (batch, prompt_length) ids; at least one token each.
        length: Number of tokens to generate; a Python int under XLA, or a tensor with a `capacity`.
        temperature, top_k, top_p: As in `filter_logits`.
        seed: (2,), int32.
        capacity: The most tokens, at least `length`, for a `length` that is unknown when traced.

    Returns:
        ids, (batch, length), int32, without the prompt; with a `capacity` (batch, capacity), 0 from `length` on.

    Raises:
        ValueError: The prompt does not have two dimensions, or is empty.
    """
    prompt = tf.cast(prompt, tf.int32)
    shape = prompt.shape
    require(shape.rank == 2 and shape[1] != 0, "prompt", "(batch, prompt_length) ids, one or more a row", shape)
    states = _read(next_fn, states, prompt[:, :-1])
    draw = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
    return continue_text(next_fn, states, prompt[:, -1], 0, length, **draw, capacity=capacity)[0]


def continue_text(
    next_fn: Callable[[tf.Tensor, Any], tuple[tf.Tensor, Any]],
    states: Any,
    ids: tf.Tensor,
    first: Any,
    length: Any,
    *,
    temperature: Any = 1.0,
    top_k: int | None = None,
    top_p: Any = None,
    seed: Any,
    capacity: int | None = None,
) -> tuple[tf.Tensor, tf.Tensor, Any]:
    """Draws the tokens from number `first` on of a text that `generate` would draw: a long text in several parts.

    Args:
        next_fn, states, temperature, top_k, top_p, seed: As in `generate`.
        ids: (batch,) int32: the token before.
        first: Tokens that were drawn before.
        length, capacity: As in `generate`, of this part.

    Returns:
        The tokens, (batch, length) or (batch, capacity) int32; the last of them (batch,); the states after it.
    """

    def step(t, ids, states, written):
        logits, states = next_fn(ids, states)  # (batch, vocabulary)
        ids = sample(logits, fold_in(seed, first + t), temperature, top_k, top_p)
        return t + 1, ids, states, written.write(t, ids)

    written = tf.TensorArray(tf.int32, size=capacity or length, element_shape=ids.shape)
    start = (tf.constant(0), ids, states, written)
    _, ids, states, written = tf.while_loop(lambda t, *_: t < length, step, start)
    return tf.transpose(written.stack()), ids, states  # (length, batch) -> (batch, length)


def _read(next_fn: Callable[[tf.Tensor, Any], tuple[tf.Tensor, Any]], states: Any, ids: tf.Tensor) -> Any:
    """Calls `next_fn` with every token of `ids`, (batch, time), in turn, and returns the states."""
    if ids.shape[1] == 0:
        return states

    def step(t, states):
        return t + 1, next_fn(ids[:, t], states)[1]

    return tf.while_loop(lambda t, _: t < tf.shape(ids)[1], step, (tf.constant(0), states))[1]


def fold_in(seed: Any, number: tf.Tensor) -> tf.Tensor:
    """Derives a seed, (2,), from a seed and a number, the same on every device."""
    return tf.random.experimental.stateless_fold_in(seed, number, alg="philox")
