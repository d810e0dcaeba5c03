"""Random numbers for the rows of a batch, each a function of the row's address alone."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from lightkeras.random.keys import Key, draw_key
from lightkeras.random.threefry import Words, threefry
from lightkeras.utils.checks import require, require_int, require_number

Shape = int | Sequence[int | tf.Tensor]
MOST = 2**31  # integers to choose from


def normal(
    batch: Any, shape: Shape = (), mean: Any = 0.0, stddev: Any = 1.0, *, stream: int | str | None = None,
    seed: int | None = None,
) -> tf.Tensor:  # fmt: skip
    """Draws normal numbers for each row of a batch: float32 (rows, *shape).

    Within a step (`train_step`, `test_step`, `predict_step` and what they call, and the loop over the batches of
    `score`), a row's numbers are a function of the run's seed, the stage and the example's address (index, epoch):
    the same on one device or many, whole batches or micro-batches, eager or compiled, uninterrupted or resumed.

    Every draw of a step is independent of those before it. With a name for a `stream`, the numbers are the same
    wherever in the step that name is given, and do not change if draws are added before. In an evaluation the epoch is
    0: each validation draws the same.

    Outside of a step, give keys instead of a batch. A row is then a function of its key, `stream` and `seed`.

    Args:
        batch: The batch, or any tensor (structure of tensors) with its rows. Outside of a step: keys, integers
            (rows, 2) below 2**32.
        shape: The shape for a row: an int, or ints (scalar tensors too). The first numbers of a row do not depend on
            how many there are.
        mean, stddev: Numbers, or tensors that broadcast to the result.
        stream: Names a draw: a string, or an int below 2**32. None: the next unnamed draw of the step; outside of a
            step, 0.
        seed: Takes the place of the run's seed: an int below 2**32. None outside of a step: 0.

    Raises:
        ValueError: Wrong arguments, such as a batch outside of a step; a draw without a name within a loop or branch
            of TensorFlow; a draw within a `tf.function` of your own.
    """
    numbers = _draw(draw_key(batch, stream, seed), shape, _to_normals)
    return mean + stddev * numbers


def uniform(
    batch: Any, shape: Shape = (), minval: float = 0.0, maxval: float = 1.0, *, stream: int | str | None = None,
    seed: int | None = None,
) -> tf.Tensor:  # fmt: skip
    """Draws uniform numbers between `minval` and `maxval`, both excluded, for each row: float32 (rows, *shape).

    The other arguments and errors are those of `normal`. Draws of one name, seed and address use the same random words
    in all functions: give another name where two must be independent.
    """
    for name, bound in (("minval", minval), ("maxval", maxval)):
        require(isinstance(bound, int | float) and math.isfinite(bound), name, "a finite number", bound)
    require(bool(np.float32(minval) < np.float32(maxval)), "maxval", f"above minval={minval}", maxval)
    numbers = _draw(draw_key(batch, stream, seed), shape, _to_uniforms)
    return numbers if (minval, maxval) == (0, 1) else _stretch(numbers, minval, maxval)


def integers(
    batch: Any, shape: Shape, minval: int, maxval: int, *, stream: int | str | None = None, seed: int | None = None
) -> tf.Tensor:
    """Draws integers from `minval` to `maxval - 1` for each row: int32 (rows, *shape).

    The probability of each differs from the others' by less than 2**-32. The other arguments and errors are those of
    `normal`.
    """
    require_int("minval", minval, minimum=-MOST)
    require_int("maxval", maxval, minimum=minval + 1)
    require(maxval <= MOST, "maxval", "at most 2**31", maxval)
    require(maxval - minval <= MOST, "maxval", f"at most 2**31 above minval={minval}", maxval)
    words = tf.cast(_draw(draw_key(batch, stream, seed), shape, tuple), tf.int64)
    # the upper word of a product: below 2**63
    above = tf.bitwise.right_shift(words * (maxval - minval), tf.constant(32, tf.int64))
    return tf.cast(minval + above, tf.int32)


def bernoulli(
    batch: Any, shape: Shape = (), p: Any = 0.5, *, stream: int | str | None = None, seed: int | None = None
) -> tf.Tensor:
    """Draws 1 with the probability `p`, and 0 else, for each row: float32 (rows, *shape).

    Args:
        batch, shape, stream, seed: As of `normal`.
        p: A number, or a tensor that broadcasts to (rows, *shape).
    """
    if isinstance(p, int | float):
        require(0 <= p <= 1, "p", "a probability, from 0 to 1", p)
    return tf.cast(uniform(batch, shape, stream=stream, seed=seed) < p, tf.float32)


def dropout(inputs: tf.Tensor, rate: float, *, stream: int | str | None = None) -> tf.Tensor:
    """Sets a share `rate` of `inputs` (rows, ...) to 0 and divides the others by 1 - `rate`, as Keras' layer does.

    The mask is drawn as in `normal`: unlike that of `keras.layers.Dropout`, it does not depend on how a batch is cut.
    Call it in training only.
    """
    require_number("rate", rate, inclusive=True, below=1.0)
    shape = [size if size is not None else tf.shape(inputs)[axis] for axis, size in enumerate(inputs.shape)]
    kept = bernoulli(inputs, shape[1:], 1.0 - rate, stream=stream)
    return inputs * tf.cast(kept / (1.0 - rate), inputs.dtype)


# ---- words and shapes


def _sizes(shape: Any) -> list[int | tf.Tensor]:
    sizes: list[Any] = list(shape) if isinstance(shape, list | tuple | tf.TensorShape) else [shape]
    for size in sizes:
        if not tf.is_tensor(size):
            require_int("shape", size)
    return sizes


def _draw(key: Key, shape: Shape, convert: Callable[[Words], Words]) -> tf.Tensor:
    """Converts the words of a draw, two by two, and puts them in the order of their columns: (rows, *shape)."""
    sizes, rows = _sizes(shape), key.row[0].shape[0] or -1
    count = math.prod(sizes)
    columns = tf.cast(tf.range((count + 1) // 2)[None, :], tf.uint32)
    words = threefry(key.row, (columns, tf.constant(key.stream, tf.uint32)))  # (rows, pairs) each
    numbers = tf.stack(convert(words), axis=-1)  # (rows, pairs, 2)
    in_order = tf.reshape(numbers, (tf.shape(numbers)[0], -1))[:, :count]  # (rows, count)
    return tf.reshape(in_order, (rows, *sizes))


def _to_uniform(words: tf.Tensor) -> tf.Tensor:
    """Float32 in the open interval (0, 1), from the upper 23 bits: the 24th would round to 1."""
    upper = tf.bitwise.right_shift(words, tf.constant(9, tf.uint32))
    return (tf.cast(upper, tf.float32) + 0.5) * 2.0**-23


def _to_uniforms(words: Words) -> Words:
    return _to_uniform(words[0]), _to_uniform(words[1])


def _to_normals(words: Words) -> Words:
    """Box and Muller (1958)."""
    radius, angle = _to_uniforms(words)
    radius, angle = tf.sqrt(-2.0 * tf.math.log(radius)), 2.0 * math.pi * angle
    return radius * tf.cos(angle), radius * tf.sin(angle)


def _stretch(numbers: tf.Tensor, minval: float, maxval: float) -> tf.Tensor:
    """Maps (0, 1) to (minval, maxval); rounding must not reach a bound."""
    low, high = np.float32(minval), np.float32(maxval)
    return tf.clip_by_value(low + (high - low) * numbers, np.nextafter(low, high), np.nextafter(high, low))
