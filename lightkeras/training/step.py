"""One update: micro-batches -> sums -> reduce -> clip -> apply.

Losses are sums with weights. Only `minimize` divides, once, by the weight of the whole global batch: over all replicas,
workers and micro-batches. Then it clips, then it applies. In float16 (see loss_scale.py), gradients are scaled from the
loss on, and the reduced ones decide whether they are applied.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from lightkeras.distribution.replicas import all_reduce_sum, num_replicas
from lightkeras.metrics import WeightedMean
from lightkeras.training import compiled_update as update
from lightkeras.training.loss_scale import all_finite
from lightkeras.utils import internals

LOSS = "loss"


GRADIENT_NORM = "gradient_norm"


Sums = dict[str, WeightedMean]


LossFunction = Callable[..., Any]


def loss_name(name: str) -> str:
    """The name of an optimizer's loss: `NAME_loss`, or "loss" of an optimizer that was given no name."""
    return LOSS if name == LOSS else f"{name}_{LOSS}"


def as_metrics(outputs: Any) -> Sums:
    """The outputs of a loss function as named sums: a bare (sum, weight) is the loss."""
    named = outputs if isinstance(outputs, dict) else {LOSS: outputs}
    return {name: _float32(name, value) for name, value in named.items()}


def _float32(name: str, value: Any) -> WeightedMean:
    if not isinstance(value, tuple) or len(value) != 2:
        raise TypeError(
            f"Expected a loss function to return (sum, weight), or a dict of them by name. Received: {name}={value!r}"
        )
    kind = type(value) if isinstance(value, WeightedMean) else WeightedMean
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
    internals.clear_losses(task)
    sums = as_metrics(loss_function(batch, training=training))
    hidden = [layer.path or layer.name for layer in internals.flatten_layers(task) if internals.added_losses(layer)]
    if hidden:
        raise ValueError(
            "Expected every loss to be returned by the loss function, as a sum beside its weight. Received: `add_loss` "
            f"or `activity_regularizer` in {', '.join(hidden)}"
        )
    return sums


def minimize(task, loss_function: LossFunction, batch) -> Sums:
    """One update of every optimizer whose loss `loss_function` gives; returns this replica's sums.

    Args:
        task: The `TaskModule`: its optimizers, their variables and loss scales, micro-batches and clipping.
        loss_function: `(batch, training) -> ` (sum, weight), or a dict of them: `NAME_loss` is the loss of optimizer
            NAME, other names are metrics.
        batch: This replica's rows of the global batch.
    """
    gradients, sums = accumulate(task, loss_function, batch)
    weights = {name: sums[loss_name(name)].weight for name in gradients}
    gradients, weights = all_reduce_sum((gradients, weights))
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


def _once(task, value: tf.Tensor) -> WeightedMean:
    """What every replica knows, as sums that all replicas' add up to: it counts once an update."""
    count = num_replicas(task.distribute_strategy)
    return WeightedMean(tf.cast(value, tf.float32) / count, tf.constant(1 / count))


def _excuse(sums: Sums, skipped: tf.Tensor) -> Sums:
    """The sums, without those that are not finite if an update was skipped: it changed nothing, and so ends no run."""
    finite = tf.reduce_all(tf.math.is_finite(all_reduce_sum(pack(sums, sums))), axis=1)  # (metrics,)
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

    if tf.executing_eagerly() or num_replicas(task.distribute_strategy) > 1:
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
        losses = {name: sums[loss_name(name)] for name in task.optimizers if loss_name(name) in sums}
        totals = {name: loss.total + task.regularization(name) * loss.weight for name, loss in losses.items()}
    if not losses:
        expected = ", ".join(loss_name(name) for name in task.optimizers)
        raise ValueError(f"Expected a loss for an optimizer: one of {expected}. Received: {', '.join(sums)}")
    gradients = {name: _gradient(tape, totals[name], name, task) for name in losses}
    return gradients, {**sums, **{loss_name(n): loss._replace(total=totals[n]) for n, loss in losses.items()}}


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


def pack(sums: Sums, names) -> tf.Tensor:
    """Named sums as one tensor: (metrics, 2)."""
    return tf.stack([tf.stack([sums[name].total, sums[name].weight]) for name in names])
