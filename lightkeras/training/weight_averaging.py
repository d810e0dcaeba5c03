"""Moving averages of the weights, kept by Keras' optimizers with `use_ema=True` (Polyak and Juditsky 1992).

An optimizer updates them in the graph, on every replica alike, and they are among its variables:
average = momentum * average + (1 - momentum) * weight; after its first update, the weight. Only trained weights have
one: batch normalisation's statistics are moving averages already.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import keras
import numpy as np
import tensorflow as tf

from lightkeras.utils import internals
from lightkeras.utils.checks import require

Pairs = list[tuple[keras.Variable, keras.Variable]]  # a weight and its average


def prepare(optimizer: keras.optimizers.Optimizer) -> None:
    """Starts the averages of a built optimizer at the weights; only `finish` ends them."""
    internals.leave_averages_alone(optimizer)  # Keras would finish those of a single optimizer only
    start(pairs([optimizer]))


def pairs(optimizers: Iterable[keras.optimizers.Optimizer]) -> Pairs:
    """Returns the averaged weights, each with its average.

    Raises:
        ValueError: Two optimizers average one weight.
    """
    found = [pair for optimizer in optimizers for pair in internals.weights_and_averages(optimizer)]
    counts = Counter(id(weight) for weight, _ in found)
    twice = {weight.path for weight, _ in found if counts[id(weight)] > 1}
    require(not twice, "use_ema", "True of one optimizer alone for a weight", f"several for {', '.join(twice)}")
    return found


def start(found: Pairs) -> None:
    """Assigns the weights' values to their averages."""
    for weight, average in found:
        average.assign(weight)


def finish(found: Pairs) -> None:
    """Assigns the averages' values to their weights."""
    for weight, average in found:
        weight.assign(average)


@contextlib.contextmanager
def follow(found: Pairs) -> Iterator[None]:
    """Assigns to its average each weight that is given another value in the `with` block."""
    before = [np.array(weight) for weight, _ in found]
    yield
    start([pair for pair, value in zip(found, before, strict=True) if not np.array_equal(pair[0], value)])


def make_swap(strategy: tf.distribute.Strategy, found: Pairs) -> Callable[[], None]:
    """Makes a function that exchanges weights and averages, to the bit (Keras' callback adds and subtracts).

    It is one call in the graph: an interrupt comes before it or after it, never when some of them are exchanged.
    """

    def swap():
        for weight, average in found:
            strategy.extended.update(weight.value, _swap_one, args=(average.value,), group=False)

    return tf.function(swap, autograph=False)


def _swap_one(weight, average) -> None:
    kept = tf.identity(weight)
    weight.assign(average)
    average.assign(kept)
