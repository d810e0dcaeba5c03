"""Many updates in one call."""

import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from lightkeras.distribution.replicas import all_reduce_sum, on_every_replica
from lightkeras.metrics import WeightedMean
from lightkeras.training.step import Sums, as_metrics, pack


class StepsPerCall:
    """How many steps each of Keras' calls makes.

    `fit()` and `evaluate()` call once a step. The first call makes many steps at once, in the graph, and the calls
    for the steps that are made already do nothing; so the number may change as the run goes, and a resumed epoch
    begins in its middle. Calls end at the multiples of `stops` (of all steps of the run) and of `epoch_stops` (of an
    epoch's), where a callback wants to be called.

    Args:
        steps_per_execution: Steps a call; "auto" takes as many as fill `TARGET` seconds.

    Attributes:
        done: Steps of the epoch that are made.
        count, seconds: Steps of the last call, and what it took until it came back (the device may be at it still).
        stops, epoch_stops: Where calls end.
    """

    TARGET = 0.05

    def __init__(self, steps_per_execution: int | str):
        self._auto = steps_per_execution == "auto"
        self._steps = 1 if self._auto else steps_per_execution
        self._timed, self.count, self.seconds = 0, 0, 0.0
        self.stops: tuple[int, ...] = ()
        self.epoch_stops: tuple[int, ...] = ()

    def begin(self, total: int, done: int = 0, before: int = 0) -> None:
        """An epoch (or evaluation) of `total` steps begins, of which `done` are made, after `before` other steps."""
        self.total, self.done, self._before, self._call, self._ran = total, done, before, 0, -1

    def due(self, call: int) -> bool:
        """Whether the call of this number has a step to make."""
        return call >= self.done

    def made(self, call: int) -> bool:
        """Whether the call of this number made steps, rather than being idle."""
        return call == self._ran

    def run(self, function: Callable[[int], None]) -> None:
        """Keras' next call: `function(count)`, or nothing where its step is made."""
        call, self._call = self._call, self._call + 1
        if not self.due(call):
            return
        count = min(self._steps, self.total - self.done, self._to_stop())
        began = time.perf_counter()
        function(count)
        self.count, self.seconds = count, time.perf_counter() - began
        self.done, self._ran = self.done + count, call
        if self._auto:
            self._adapt(count, self.seconds)

    def _to_stop(self) -> int:
        ever = [stop - (self._before + self.done) % stop for stop in self.stops]
        return min([self.total, *ever, *(stop - self.done % stop for stop in self.epoch_stops)])

    def _adapt(self, count: int, seconds: float) -> None:
        """Takes the number of steps from the second call on: the first one traces and compiles."""
        self._timed += 1
        if self._timed > 1 and count == self._steps:
            wanted = max(1, int(self.TARGET * count / seconds))
            self._steps = min(wanted, 8 * self._steps)


class MetricSums:
    """Sums and weights of the metrics over many steps: (metrics, 2) float64, kept on the device.

    `non_finite` holds, for each metric, the first update whose sum was not a finite number, or -1.
    """

    def __init__(self, kinds: dict[str, type[WeightedMean]]):
        self.kinds = kinds
        self.reset()

    def reset(self) -> None:
        """Back to nothing counted."""
        self.values = tf.zeros((len(self.kinds), 2), tf.float64)
        self.non_finite = tf.fill((len(self.kinds),), tf.constant(-1, tf.int64))

    def results(self, values) -> dict[str, float]:
        """The metrics' values from sums (metrics, 2): `self.values`, or a difference of two such."""
        return {name: kind.result(*row) for (name, kind), row in zip(self.kinds.items(), values, strict=True)}


def make_loop(
    task, step: Callable[[Any], Sums], names: list[str], jit_compile: bool = False, gather: Callable | None = None
) -> Callable:
    """`run(source, count, update, values, non_finite)`: `count` steps in one call, sums added up on the device.

    Args:
        task: Gives strategy and `run_eagerly`.
        step: `train_step` or `test_step`.
        names: The metrics that `step` returns, in the order of the packed sums.
        jit_compile: Whether XLA compiles the step, or with `gather` the whole loop.
        gather: None: the source is an iterator over batches. Or a function of a row of indices, that gives the batch:
            the source is a table of all rows of the epoch, (steps, rows), and the number of the first one.

    Returns:
        A function that returns the new (values, non_finite); both have the shapes of `MetricSums`.
    """
    strategy = task.distribute_strategy

    def on_replica(batch):
        return all_reduce_sum(pack(as_metrics(step(batch)), names))

    if jit_compile and not gather:
        on_replica = tf.function(on_replica, jit_compile=True, autograph=False)

    def batch_of(source, index):
        if not gather:
            return next(source)
        table, first = source
        return gather(tf.gather(table, first + index))  # `table[...]` would be compiled for each `first`

    def body(source, index, update, values, non_finite):
        sums = on_every_replica(strategy, on_replica, batch_of(source, index))
        bad = ~tf.math.is_finite(sums[:, 0]) & (non_finite < 0)
        return index + 1, values + tf.cast(sums, tf.float64), tf.where(bad, update + index, non_finite)

    def in_graph(source, count, update, values, non_finite):
        def next_step(index, values, non_finite):
            return body(source, index, update, values, non_finite)

        start = (tf.constant(0, tf.int64), values, non_finite)
        return tf.while_loop(lambda index, *_: index < count, next_step, start, parallel_iterations=1)[1:]

    def eagerly(source, count, update, values, non_finite):
        index = tf.constant(0, tf.int64)
        while index < count:
            index, values, non_finite = body(source, index, update, values, non_finite)
        return values, non_finite

    if task.run_eagerly:
        return eagerly
    whole = (jit_compile and gather is not None) or None
    return tf.function(in_graph, autograph=False, reduce_retracing=True, jit_compile=whole)
