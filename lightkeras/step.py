"""One update: micro-batches -> sums -> reduce -> clip -> apply; and many updates in one call.

Losses are sums with weights. Only `descend` divides, once, by the weight of the whole global batch: over all replicas,
workers and micro-batches. Then it clips, then it applies. In float16 (see loss_scale.py), gradients are scaled from the
loss on, and the reduced ones decide whether they are applied.
"""

import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from lightkeras import distribution, update
from lightkeras.loss_scale import all_finite
from lightkeras.metrics import Mean

LOSS = "loss"
GRADIENT_NORM = "gradient_norm"
Sums = dict[str, Mean]
LossFunction = Callable[..., Any]


def loss_of(name: str) -> str:
    """The name of an optimizer's loss: `NAME_loss`, or "loss" of an optimizer that was given no name."""
    return LOSS if name == LOSS else f"{name}_{LOSS}"


def sums_of(outputs: Any) -> Sums:
    """The outputs of a loss function as named sums: a bare (sum, weight) is the loss."""
    named = outputs if isinstance(outputs, dict) else {LOSS: outputs}
    return {name: _float32(name, value) for name, value in named.items()}


def _float32(name: str, value: Any) -> Mean:
    if not isinstance(value, tuple) or len(value) != 2:
        raise TypeError(
            f"Expected a loss function to return (sum, weight), or a dict of them by name. Received: {name}={value!r}"
        )
    kind = type(value) if isinstance(value, Mean) else Mean
    total, weight = (tf.cast(part, tf.float32) for part in value)
    if total.shape.rank or weight.shape.rank:
        raise ValueError(
            "Expected a loss function to return scalar sums: reduce over the batch with a sum, and return the weights' "
            f"sum beside it. Received: {name} with shapes {total.shape} and {weight.shape}"
        )
    return kind(total, weight)


def call(task, loss_function: LossFunction, batch, training: bool) -> Sums:
    """The named sums of `loss_function(batch, training)`.

    Raises:
        ValueError: A layer keeps a loss to itself (`add_loss`, `activity_regularizer`), which nobody would count.
    """
    task._clear_losses()
    sums = sums_of(loss_function(batch, training=training))
    hidden = [layer.path or layer.name for layer in task._flatten_layers() if layer._losses]
    if hidden:
        raise ValueError(
            "Expected every loss to be returned by the loss function, as a sum beside its weight. Received: `add_loss` "
            f"or `activity_regularizer` in {', '.join(hidden)}"
        )
    return sums


def descend(task, loss_function: LossFunction, batch) -> Sums:
    """One update of every optimizer whose loss `loss_function` gives; returns this replica's sums.

    Args:
        task: The `TaskModule`: its optimizers, their variables and loss scales, micro-batches and clipping.
        loss_function: `(batch, training) -> ` (sum, weight), or a dict of them: `NAME_loss` is the loss of optimizer
            NAME, other names are metrics.
        batch: This replica's rows of the global batch.
    """
    gradients, sums = accumulate(task, loss_function, batch)
    weights = {name: sums[loss_of(name)].weight for name in gradients}
    gradients, weights = distribution.all_reduce_sum((gradients, weights))
    skipped = []
    for name, of_variables in gradients.items():
        if update.pays(task, name):
            norm = update.apply(task, name, of_variables, weights[name])
            if task.log_gradient_norm:
                sums[task.label(name, GRADIENT_NORM)] = _once(task, norm)
            continue
        scale = task.loss_scales.get(name)
        weight = weights[name] * scale.factor() if scale else weights[name]
        mean = [tf.math.divide_no_nan(gradient, tf.cast(weight, gradient.dtype)) for gradient in of_variables]
        if task.log_gradient_norm:
            sums[task.label(name, GRADIENT_NORM)] = _once(task, tf.linalg.global_norm(mean))
        clipped = update.clip(mean, task.gradient_clip_val, task.gradient_clip_algorithm)
        if scale:
            finite = all_finite(of_variables)
            skipped.append(~finite)
            scale.apply(task.optimizers[name], clipped, finite)
        else:
            task.optimizers[name].apply(clipped)
    return _excuse(sums, tf.reduce_any(skipped)) if skipped else sums


def _once(task, value: tf.Tensor) -> Mean:
    """What every replica knows, as sums that all replicas' add up to: it counts once an update."""
    count = distribution.replicas(task.distribute_strategy)
    return Mean(tf.cast(value, tf.float32) / count, tf.constant(1 / count))


def _excuse(sums: Sums, skipped: tf.Tensor) -> Sums:
    """The sums, without those that are not finite if an update was skipped: it changed nothing, and so ends no run."""
    finite = tf.reduce_all(tf.math.is_finite(distribution.all_reduce_sum(pack(sums, sums))), axis=1)  # (metrics,)
    kept = dict(zip(sums, tf.unstack(finite | ~skipped), strict=True))
    return {
        name: type(value)(*(tf.where(kept[name], part, tf.zeros_like(part)) for part in value))
        for name, value in sums.items()
    }


def accumulate(task, loss_function: LossFunction, batch) -> tuple[dict[str, list[tf.Tensor]], Sums]:
    """Gradients of the loss sums by optimizer name, and the sums, added up over the micro-batches."""
    count = task.micro_batches
    if count == 1:
        return gradients_of(task, loss_function, batch)
    parts = {name: _split(name, rows, count) for name, rows in batch.items()}

    def of_part(index):
        return gradients_of(task, loss_function, {name: rows[index] for name, rows in parts.items()})

    if tf.executing_eagerly() or distribution.replicas(task.distribute_strategy) > 1:
        return _add_up(of_part, range(count))  # synchronised batch norm may not meet other replicas inside a loop
    return _loop(of_part, count)


def _split(name: str, rows: tf.Tensor, count: int) -> tf.Tensor:
    known = rows.shape.rank and rows.shape[0]  # None: batches differ in size, and the data's are multiples
    if known == 0 or (known or 0) % count:
        raise ValueError(
            f"Expected every entry of a batch to have a first axis that is a multiple of micro_batches={count}. "
            f'Received: "{name}" with shape {rows.shape}'
        )
    parts = tf.reshape(rows, tf.concat([(count, known // count if known else -1), tf.shape(rows)[1:]], axis=0))
    return tf.ensure_shape(parts, (count, known and known // count, *rows.shape[1:]))  # (micro-batches, rows, ...)


def _add_up(function, indices):
    total = function(indices[0])
    for index in indices[1:]:
        total = tf.nest.map_structure(tf.add, total, function(index))
    return total


def _loop(function, count: int):
    """`function(0) + ... + function(count - 1)` as a loop in the graph."""
    shapes = (
        tf.function(function, autograph=False).get_concrete_function(tf.TensorSpec((), tf.int32)).structured_outputs
    )
    zeros = tf.nest.map_structure(lambda like: tf.zeros(like.shape, like.dtype), shapes)

    def body(index, total):
        return index + 1, tf.nest.map_structure(tf.add, total, function(index))

    return tf.while_loop(lambda index, _: index < count, body, (0, zeros), maximum_iterations=count)[1]


def gradients_of(task, loss_function: LossFunction, batch) -> tuple[dict[str, list[tf.Tensor]], Sums]:
    """Gradients of the loss sums by optimizer name, dense and scaled, and the sums; one shared forward pass."""
    with tf.GradientTape(persistent=len(task.optimizers) > 1) as tape:
        sums = call(task, loss_function, batch, training=True)
        losses = {name: sums[loss_of(name)] for name in task.optimizers if loss_of(name) in sums}
        totals = {name: loss.total + task.regularization(name) * loss.weight for name, loss in losses.items()}
    if not losses:
        expected = ", ".join(loss_of(name) for name in task.optimizers)
        raise ValueError(f"Expected a loss for an optimizer: one of {expected}. Received: {', '.join(sums)}")
    gradients = {name: _gradient(tape, totals[name], name, task) for name in losses}
    return gradients, {**sums, **{loss_of(n): loss._replace(total=totals[n]) for n, loss in losses.items()}}


def _gradient(tape, total, name, task) -> list[tf.Tensor]:
    variables, scale = task.optimizer_variables(name), task.loss_scales.get(name)
    gradients = tape.gradient(total, [variable.value for variable in variables], scale and scale.factor())
    missing = [variable.path for variable, gradient in zip(variables, gradients, strict=True) if gradient is None]
    if missing:
        raise ValueError(
            f"Expected the loss of optimizer {name!r} to depend on all its variables. Received: no gradient for "
            f"{', '.join(missing)}. Set `trainable = False` on what is not trained."
        )
    dense = [tf.convert_to_tensor(gradient) for gradient in gradients]  # an embedding's loses its static shape
    return [tf.ensure_shape(gradient, v.shape) for gradient, v in zip(dense, variables, strict=True)]


class Calls:
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


class Totals:
    """Sums and weights of the metrics over many steps: (metrics, 2) float64, kept on the device.

    `non_finite` holds, for each metric, the first update whose sum was not a finite number, or -1.
    """

    def __init__(self, kinds: dict[str, type[Mean]]):
        self.kinds = kinds
        self.reset()

    def reset(self) -> None:
        """Back to nothing counted."""
        self.values = tf.zeros((len(self.kinds), 2), tf.float64)
        self.non_finite = tf.fill((len(self.kinds),), tf.constant(-1, tf.int64))

    def results(self, values) -> dict[str, float]:
        """The metrics' values from sums (metrics, 2): `self.values`, or a difference of two such."""
        return {name: kind.result(*row) for (name, kind), row in zip(self.kinds.items(), values, strict=True)}


def pack(sums: Sums, names) -> tf.Tensor:
    """Named sums as one tensor: (metrics, 2)."""
    return tf.stack([tf.stack([sums[name].total, sums[name].weight]) for name in names])


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
        A function that returns the new (values, non_finite); both have the shapes of `Totals`.
    """
    strategy = task.distribute_strategy

    def on_replica(batch):
        return distribution.all_reduce_sum(pack(sums_of(step(batch)), names))

    if jit_compile and not gather:
        on_replica = tf.function(on_replica, jit_compile=True, autograph=False)

    def batch_of(source, index):
        if not gather:
            return next(source)
        table, first = source
        return gather(tf.gather(table, first + index))  # `table[...]` would be compiled for each `first`

    def body(source, index, update, values, non_finite):
        sums = distribution.on_every_replica(strategy, on_replica, batch_of(source, index))
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
