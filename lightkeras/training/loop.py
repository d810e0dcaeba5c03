"""The training loop, as Keras' `fit()` drives it::

    for epoch in epochs:                                  # keras.Model.fit
        callbacks.on_epoch_begin(epoch)                   #   the source finds the epoch's batches
        for step in range(steps_per_epoch):
            if step is made already: continue             #   StepsPerCall: one call made several steps
            callbacks.on_train_batch_begin(step)
            for _ in range(count):                        #   Loop: in the graph, on every replica
                sums += train_step(source.next())         #   step.py; the sums stay on the device
            callbacks.on_train_batch_end(step + count - 1)
        callbacks.on_epoch_end(epoch)                     #   validation, logs, checkpoint

`fit()` calls once per step. The first call makes several steps at once, and the calls for these steps return at once.
"""

import copy
import functools
import time
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

import numpy as np
import tensorflow as tf

from lightkeras.data.addressing import row_addresses
from lightkeras.distribution.replicas import on_every_replica
from lightkeras.random.keys import keyed_draws
from lightkeras.training.logs import Carried
from lightkeras.utils.checks import lightkeras_error


class StepsPerCall:
    """Plans how many steps each of Keras' calls makes.

    The number may change during a run, and a resumed epoch starts in its middle. Calls end at the multiples of `stops`
    (updates of the run) and of `epoch_stops` (updates of an epoch), where a callback must be called.

    Args:
        steps_per_execution: Steps per call; "auto" fills `TARGET` seconds.

    Attributes:
        done: Steps of the epoch that are made.
        count: Steps of the last call, and during one, of this.
        seconds: Time until the last call returned (the device may still be busy).
        stops: Calls end at multiples of these numbers of updates of the run.
        epoch_stops: Calls end at multiples of these numbers of updates of an epoch.
        cuts: Calls end at these numbers of updates of the run.
    """

    TARGET = 0.05

    def __init__(self, steps_per_execution: int | str):
        self._auto = steps_per_execution == "auto"
        self._steps = 1 if self._auto else int(steps_per_execution)
        self._timed, self.count, self.seconds = 0, 0, 0.0
        self.stops: tuple[int, ...] = ()
        self.epoch_stops: tuple[int, ...] = ()
        self.cuts: tuple[int, ...] = ()

    def begin(self, total: int, done: int = 0, before: int = 0) -> None:
        """Begins an epoch (or evaluation) of `total` steps, of which `done` are made, after `before` other steps."""
        self.total, self.done, self._before, self._call, self._ran = total, done, before, 0, -1

    @property
    def starts(self) -> bool:
        """Whether the next call is the first of an epoch."""
        return self._call == 0

    def due(self, call: int) -> bool:
        """Returns whether the call of this number has a step to make."""
        return call >= self.done

    def made(self, call: int) -> bool:
        """Returns whether the call of this number made steps."""
        return call == self._ran

    def run(self, function: Callable[[int], None]) -> None:
        """Handles Keras' next call: `function(count)`, or nothing where its step is made already."""
        call, self._call = self._call, self._call + 1
        if not self.due(call):
            return
        count = min(self._steps, self.total - self.done, self._steps_to_stop())
        self.count, began = count, time.perf_counter()
        function(count)
        self.seconds = time.perf_counter() - began
        self.done, self._ran = self.done + count, call
        if self._auto:
            self._adapt(count, self.seconds)

    def _steps_to_stop(self) -> int:
        now = self._before + self.done
        of_run = [stop - now % stop for stop in self.stops] + [cut - now for cut in self.cuts if cut > now]
        return min([self.total, *of_run, *(stop - self.done % stop for stop in self.epoch_stops)])

    def _adapt(self, count: int, seconds: float) -> None:
        """Adapts the number of steps from the second call on: the first one traces and compiles."""
        self._timed += 1
        if self._timed > 1 and count == self._steps:
            wanted = max(1, int(self.TARGET * count / seconds))
            self._steps = min(wanted, 8 * self._steps)


class Source(Protocol):
    """Where a loop's batches come from."""

    dataset: Any  # `fit()` iterates over it
    compiles_whole_loop: bool

    def begin_epoch(self, epoch: int) -> None:
        """Prepares the batches of an epoch."""

    def open(self, iterator: Any, done: int) -> Any:
        """Returns the argument of the compiled loop, `done` steps into the epoch."""

    def next(self, opened: Any, index: tf.Tensor) -> Any:
        """Returns batch `index` of the call and the addresses of its rows, int64 (rows, 2), in the graph."""


def as_unreadable(dataset: Any) -> Any:
    """Makes the conversion of the data set to NumPy raise: it has no end, and MLflow's autolog would read all of it."""

    def raise_error() -> NoReturn:
        raise lightkeras_error(TypeError)("Expected a data set that ends. Received: the endless one of a Trainer")

    if isinstance(dataset, tf.data.Dataset):
        vars(dataset)["as_numpy_iterator"] = raise_error
    return dataset


class StreamSource:
    """Batches of a `tf.data` pipeline.

    Args:
        dataset: A (distributed) `tf.data.Dataset` of pairs: a batch, and the addresses of its rows.
    """

    compiles_whole_loop = False

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def begin_epoch(self, epoch: int) -> None:
        """Does nothing: the pipeline runs through all epochs."""

    def open(self, iterator: Any, done: int) -> Any:
        return iterator

    def next(self, opened: Any, index: tf.Tensor) -> Any:
        return next(opened)


class MemorySource:
    """Batches gathered inside the compiled loop from arrays in memory; nothing passes through `tf.data`.

    Args:
        gather: Makes the batch of a row of indices (rows,).
        index_table: `epoch -> ` the rows of all of its batches, int64 (steps, rows).
    """

    compiles_whole_loop = True

    def __init__(self, gather: Callable[[tf.Tensor], Any], index_table: Callable[[int], np.ndarray]):
        self._gather, self._index_table = gather, index_table
        self.dataset = tf.data.Dataset.range(np.iinfo(np.int64).max)  # `fit()` wants one; nobody reads it

    def begin_epoch(self, epoch: int) -> None:
        self._table, self._epoch = tf.constant(self._index_table(epoch)), tf.constant(epoch, tf.int64)

    def open(self, iterator: Any, done: int) -> Any:
        return self._table, self._epoch, tf.constant(done, tf.int64)

    def next(self, opened: Any, index: tf.Tensor) -> Any:
        table, epoch, first = opened
        rows = tf.gather(table, first + index)  # `table[...]` would be compiled for each `first`
        return self._gather(rows), row_addresses(rows, epoch)


class Loop:
    """Makes several steps per call and adds up their metrics on the device.

    Args:
        step: `train_step` or `test_step`: a batch in, what `sums` takes out.
        sums: Carries the metrics from step to step.
        calls: Plans the calls.
        source: Gives the batches.
        strategy: Runs the step on its replicas.
        seed, stage: Key the draws of the step, beside the addresses of the rows; see `random.keys`.
        run_eagerly: Run op by op.
        jit_compile: Let XLA compile the step, or the whole loop where the source allows it. May change between calls.

    Attributes:
        graph: The graph of the function that was traced last, of `count` steps; None before, and where steps run op by
            op.
    """

    def __init__(
        self, step: Callable[[Any], Any], sums: Carried, calls: StepsPerCall, source: Source,
        strategy: tf.distribute.Strategy, seed: int = 0, stage: str = "train", run_eagerly: bool = False,
        jit_compile: bool = False,
    ):  # fmt: skip
        self.calls, self.source, self.jit_compile = calls, source, jit_compile
        self._step, self._sums, self._strategy, self._run_eagerly = step, sums, strategy, run_eagerly
        self._seed, self.stage = seed, stage
        self.forget()

    def forget(self) -> None:
        """Drops the compiled functions: the next call traces the step again."""
        self._runs, self.graph = functools.cache(self._make), None

    def counting(self, sums: Carried, calls: StepsPerCall) -> "Loop":
        """Returns a loop with the same compiled functions, and with `sums` and `calls` of its own."""
        loop = copy.copy(self)
        loop._sums, loop.calls = sums, calls
        return loop

    def call(self, iterator: Any, update: int = 0) -> int:
        """Handles one call of Keras.

        Args:
            iterator: Over the source's data set.
            update: The number of updates before this call.

        Returns:
            The steps made: 0 where an earlier call made the step of this one.
        """
        made = 0

        def make_steps(count: int) -> None:
            nonlocal made
            made, sums = count, self._sums
            opened = self.source.open(iterator, self.calls.done)
            at = (tf.constant(count, tf.int64), tf.constant(update, tf.int64))
            sums.carried = self._runs(self.jit_compile)(opened, *at, sums.carried)

        self.calls.run(make_steps)
        return made

    def trace_step(self, batch: Any, addresses: tf.TensorSpec) -> Any:
        """Returns the graph of the step on one replica, traced anew for a batch of these specs; runs nothing."""

        def step(batch, addresses):
            with keyed_draws(addresses, self._seed, self.stage):
                return self._step(batch)

        return tf.function(step, autograph=False).get_concrete_function(batch, addresses).graph

    def _make(self, jit_compile: bool) -> Callable:
        """Makes `run(opened, count, update, carried)`, which returns what is carried on."""
        whole = jit_compile and self.source.compiles_whole_loop

        def on_replica(batch, address, carried):
            with keyed_draws(address, self._seed, self.stage):
                return self._sums.make(self._step, batch, carried)

        if jit_compile and not whole:
            on_replica = tf.function(on_replica, jit_compile=True, autograph=False)

        def make_step(opened, index, update, carried):
            reduced = on_every_replica(self._strategy, on_replica, *self.source.next(opened, index), carried)
            return index + 1, self._sums.add(carried, reduced, update + index)

        if self._run_eagerly:
            return functools.partial(_run_eagerly, make_step)

        def run(opened, count, update, carried):
            self.graph = tf.compat.v1.get_default_graph()
            return _run_in_graph(make_step, opened, count, update, carried)

        return tf.function(run, autograph=False, reduce_retracing=True, jit_compile=whole or None)


def _run_in_graph(make_step: Callable, opened, count, update, carried):
    def next_step(index, carried):
        return make_step(opened, index, update, carried)

    start = (tf.constant(0, tf.int64), carried)
    return tf.while_loop(lambda index, _: index < count, next_step, start, parallel_iterations=1)[1]


def _run_eagerly(make_step: Callable, opened, count, update, carried):
    index = tf.constant(0, tf.int64)
    while index < count:
        index, carried = make_step(opened, index, update, carried)
    return carried
