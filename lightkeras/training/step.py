"""One update: micro-batches -> sums -> reduce -> divide -> clip -> apply.

Losses are sums with weights (see per_example.py). Only `minimize` divides, once, by the weight of the whole global
batch: over all replicas, workers and micro-batches. In float16 (see loss_scale.py), the losses are scaled, and the
reduced gradients decide whether they are applied.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from lightkeras.data.batches import Batch, map_batch, named_entries
from lightkeras.distribution.replicas import all_reduce_sum
from lightkeras.metrics import WeightedMean
from lightkeras.random.keys import named_draws_only, split_draws
from lightkeras.training.added_losses import Added
from lightkeras.training.keras_metrics import set_step_states, step_states
from lightkeras.training.loss_scale import all_finite
from lightkeras.training.optimizers import NamedOptimizers, loss_name
from lightkeras.training.per_example import Metrics
from lightkeras.utils.checks import ArgumentError

GRADIENT_NORM = "gradient_norm"
Gradients = dict[str, list[Any]]  # by optimizer name, in the order of its variables; None where there is none


class Part(NamedTuple):
    """What a part of a batch gives: all of it adds up over micro-batches, and over replicas.

    Attributes:
        gradients: Of the loss sums.
        metrics: The sums.
        added: What layers added to the losses (see added_losses.py); empty where it is in the sums already.
        added_gradients: Of `added`: they are not divided by the weight of the loss.
    """

    gradients: Gradients
    metrics: Metrics
    added: Added
    added_gradients: Gradients


PartFunction = Callable[[Batch], tuple[Metrics, Added]]


def minimize(
    loss_function: PartFunction, batch: Batch, optimizers: NamedOptimizers, regularize: bool = True
) -> Metrics:
    """Makes one update with every optimizer whose loss the function returns; returns this replica's sums.

    Args:
        loss_function: `batch -> ` named sums, `NAME_loss` is the loss of optimizer NAME, other names are metrics; and
            what layers added to the losses, by optimizer.
        batch: This replica's rows of the global batch.
        optimizers: The task's optimizers.
        regularize: Count the weight regularizers.
    """
    states = step_states()
    gradients, metrics, added, added_gradients = accumulate(loss_function, batch, optimizers, regularize)
    weights = {name: metrics[loss_name(name)].weight for name in gradients}
    gradients, weights, added_gradients = _on_known(all_reduce_sum, (gradients, weights, added_gradients))
    for name, value in added.items():
        pairs = zip(gradients[name], added_gradients[name], strict=True)
        gradients[name] = [_add_times(gradient, other, weights[name]) for gradient, other in pairs]
        metrics[loss_name(name)] = _add_to(metrics[loss_name(name)], value * weights[name])
    updates = {name: optimizers.update(name, sums, weights[name]) for name, sums in gradients.items()}
    if optimizers.settings.log_gradient_norm:
        for name, update in updates.items():
            metrics[optimizers.log_name(name, GRADIENT_NORM)] = _count_once(update.norm, optimizers.replicas)
    skipped = [update.skipped for update in updates.values() if update.skipped is not None]
    if not skipped:
        return metrics
    _drop_non_finite_states(states, tf.reduce_any(skipped))
    return _drop_non_finite(metrics, tf.reduce_any(skipped))


def evaluate(metrics: Metrics, added: Added) -> Metrics:
    """Adds to this replica's sums of an evaluation what layers added to the losses."""
    names = {name: loss_name(name) for name in added if loss_name(name) in metrics}
    whole = {
        name: value * all_reduce_sum(metrics[names[name]].weight) for name, value in added.items() if name in names
    }
    return {**metrics, **{names[name]: _add_to(metrics[names[name]], value) for name, value in whole.items()}}


def _add_to(loss: WeightedMean, total: tf.Tensor) -> WeightedMean:
    return loss._replace(total=loss.total + total)


def _add_times(gradient: Any, other: Any, weight: tf.Tensor) -> Any:
    """Returns `gradient + other * weight`; either may be None."""
    other = None if other is None else other * tf.cast(weight, other.dtype)
    return other if gradient is None else gradient if other is None else gradient + other


def _count_once(value: tf.Tensor, replicas: int) -> WeightedMean:
    """Scales a value that is equal on all replicas, so that the all-reduced sum counts it once."""
    return WeightedMean(tf.cast(value, tf.float32) / replicas, tf.constant(1 / replicas))


def _drop_non_finite(metrics: Metrics, skipped: tf.Tensor) -> Metrics:
    """Zeroes sums that are not finite if an update was skipped: it changed nothing, and must not end the run."""
    finite = tf.reduce_all(tf.math.is_finite(all_reduce_sum(pack(metrics, metrics))), axis=1)  # (metrics,)
    kept = dict(zip(metrics, tf.unstack(finite | ~skipped), strict=True))
    return {
        name: type(value)(*(tf.where(kept[name], part, tf.zeros_like(part)) for part in value))
        for name, value in metrics.items()
    }


def _drop_non_finite_states(before: list[tf.Tensor], skipped: tf.Tensor) -> None:
    """Puts back the states of Keras' metrics if an update was skipped and one of them is not finite."""
    if not before:
        return
    after = step_states()
    drops = skipped & ~all_finite([state for state in after if state.dtype.is_floating])
    set_step_states([tf.where(drops, old, new) for old, new in zip(before, after, strict=True)])


def accumulate(loss_function: PartFunction, batch: Batch, optimizers: NamedOptimizers, regularize: bool) -> Part:
    """Adds up the gradients of the loss sums, and the sums, over the micro-batches."""
    count = optimizers.settings.micro_batches
    if count == 1:
        return differentiate(loss_function, batch, optimizers, regularize)
    for name, rows in named_entries(batch).items():
        _require_divisible(name, rows, count)
    parts = map_batch(lambda rows: _split(rows, count), batch)
    keyed_part = split_draws(lambda addresses: _split(addresses, count))

    def on_part(index):
        with keyed_part(index):
            return differentiate(loss_function, map_batch(lambda rows: rows[index], parts), optimizers, regularize)

    if tf.executing_eagerly() or optimizers.replicas > 1:
        return _add_up(on_part, range(count))  # synchronised batch norm cannot meet other replicas inside a loop
    return _add_up_in_graph(on_part, count)


def _require_divisible(name: str, rows: tf.Tensor, count: int) -> None:
    known = rows.shape.rank and rows.shape[0]  # None: batches differ in size, and the data's are multiples
    if known == 0 or (known or 0) % count:
        raise ArgumentError(
            f"Expected every entry of a batch to have a first axis that is a multiple of micro_batches={count}. "
            f'Received: "{name}" with shape {rows.shape}'
        )


def _split(rows: tf.Tensor, count: int) -> tf.Tensor:
    known = rows.shape[0]
    parts = tf.reshape(rows, tf.concat([(count, known // count if known else -1), tf.shape(rows)[1:]], axis=0))
    return tf.ensure_shape(parts, (count, known and known // count, *rows.shape[1:]))  # (micro-batches, rows, ...)


def _on_known(function: Callable[[list[tf.Tensor]], list[tf.Tensor]], structure: Any) -> Any:
    """Applies `function` to the list of the tensors in `structure`; what is None stays so."""
    flat = tf.nest.flatten(structure)
    done = iter(function(_known(flat)))
    return tf.nest.pack_sequence_as(structure, [None if one is None else next(done) for one in flat])


def _known(structure: Any) -> list[tf.Tensor]:
    return [one for one in tf.nest.flatten(structure) if one is not None]


def _add_up(function, indices):
    total = function(indices[0])
    for index in indices[1:]:
        part = _known(function(index))
        total = _on_known(lambda known, part=part: [tf.add(*pair) for pair in zip(known, part, strict=True)], total)
    return total


def _add_up_in_graph(function, count: int):
    """Computes `function(0) + ... + function(count - 1)` by a loop in the graph."""
    states = step_states()

    def on_part(index, states):
        set_step_states(states)
        return function(index), step_states()

    like = [tf.TensorSpec(state.shape, state.dtype) for state in states]
    traced = tf.function(on_part, autograph=False).get_concrete_function(tf.TensorSpec((), tf.int32), like)
    set_step_states(states)

    def body(index, total, states):
        part, states = traced(index, states)
        return index + 1, [tf.add(*pair) for pair in zip(total, _known(part), strict=True)], states

    def add_up(known):
        start = (0, [tf.zeros(like.shape, like.dtype) for like in known], states)
        _, total, after = tf.while_loop(lambda index, *_: index < count, body, start, maximum_iterations=count)
        set_step_states(after)
        return total

    return _on_known(add_up, traced.structured_outputs[0])


def differentiate(
    loss_function: PartFunction, batch: Batch, optimizers: NamedOptimizers, regularize: bool = True
) -> Part:
    """Computes the gradients of the loss sums, dense and scaled, and the sums, from one shared forward pass.

    Raises:
        ValueError: The function returns no loss of any optimizer, or the loss reaches no variable of its optimizer.
    """
    cut = optimizers.settings.micro_batches > 1  # the weight of the whole batch is known after the last part
    with tf.GradientTape(persistent=len(optimizers) > 1 or cut) as tape:
        metrics, added = loss_function(batch)
        losses = {name: metrics[loss_name(name)] for name in optimizers if loss_name(name) in metrics}
        added = {name: value for name, value in added.items() if name in losses}
        if regularize:
            losses = {
                name: _add_to(loss, optimizers.regularization(name) * loss.weight) for name, loss in losses.items()
            }
        if not cut:
            weights = {name: tf.stop_gradient(all_reduce_sum(losses[name].weight)) for name in added}
            losses |= {name: _add_to(losses[name], value * weights[name]) for name, value in added.items()}
            added = {}
    if not losses:
        expected = ", ".join(map(loss_name, optimizers))
        raise ArgumentError(f"Expected a loss for an optimizer: one of {expected}. Received: {', '.join(metrics)}")
    with named_draws_only():
        gradients = {name: _gradient(tape, loss.total, name, optimizers) for name, loss in losses.items()}
        added_gradients = {name: _gradient(tape, value, name, optimizers) for name, value in added.items()}
    for name, found in gradients.items():
        others = added_gradients.get(name, [None] * len(found))
        optimizers.note_reached(
            name, [one is not None or other is not None for one, other in zip(found, others, strict=True)]
        )
    return Part(
        gradients, {**metrics, **{loss_name(name): loss for name, loss in losses.items()}}, added, added_gradients
    )


def _gradient(tape: tf.GradientTape, total: tf.Tensor, name: str, optimizers: NamedOptimizers) -> list[Any]:
    variables, scale = optimizers.variables(name), optimizers.loss_scales.get(name)
    gradients = tape.gradient(total, [variable.value for variable in variables], scale and scale.factor())
    return [
        # an embedding's gradient loses its static shape when it is made dense
        None if gradient is None else tf.ensure_shape(tf.convert_to_tensor(gradient), variable.shape)
        for gradient, variable in zip(gradients, variables, strict=True)
    ]


def pack(metrics: Metrics, names) -> tf.Tensor:
    """Packs the metrics of `names`, in their order, into a tensor of sums and weights: float32 (names, 2)."""
    return tf.stack([tf.stack([metrics[name].total, metrics[name].weight]) for name in names])
