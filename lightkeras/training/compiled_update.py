"""The optimizer's update as one XLA program: mean, clipping and Keras' optimizer in one pass over the weights.

In a graph, Keras' Adam is some twenty operations for every variable, each of which reads and writes as much memory as
the variable has. Compiled on a CPU, the update of 20 million weights takes a third of the time.
"""

import math

import tensorflow as tf

from lightkeras.distribution.replicas import one_cpu

FROM = 2**20  # weights; for fewer, the start of a program costs as much as it saves
_KNOWN = ("keras.", "lightkeras.")  # a user's own optimizer or schedule may have operations that XLA lacks
CLIPS = ("norm", "value", "norm_per_variable")


def clip(gradients: list[tf.Tensor], value: float | None, algorithm: str) -> list[tf.Tensor]:
    """Clips one optimizer's gradients; `value` None leaves them as they are.

    Args:
        gradients: Of its variables.
        value: The bound.
        algorithm: What it bounds: "norm" (over all variables), "norm_per_variable" or "value" (of each element).
    """
    if value is None:
        return gradients
    if algorithm == "value":
        return [tf.clip_by_value(gradient, -value, value) for gradient in gradients]
    if algorithm == "norm_per_variable":
        return [tf.clip_by_norm(gradient, value) for gradient in gradients]
    return tf.clip_by_global_norm(gradients, value)[0]


def pays(task, name: str) -> bool:
    """Whether the update of optimizer `name` is compiled: on one CPU, in a graph, where it has much to do."""
    optimizer = task.optimizers[name]
    kinds = [type(part).__module__ for part in (optimizer, getattr(optimizer, "_learning_rate", optimizer))]
    known = all(kind.startswith(_KNOWN) for kind in kinds)
    on_cpu = one_cpu(task.distribute_strategy) and not tf.executing_eagerly()
    weights = sum(math.prod(variable.shape) for variable in task.optimizer_variables(name))
    return known and on_cpu and weights >= FROM and name not in task.loss_scales


def apply(task, name: str, sums: list[tf.Tensor], weight: tf.Tensor) -> tf.Tensor | None:
    """Divides, clips and applies, as `step.minimize` does one after the other, to rounding.

    Args:
        task: The `TaskModule`: its optimizers and clipping.
        name: The optimizer's.
        sums: The reduced sums of its variables' gradients.
        weight: What they are divided by.

    Returns:
        The global norm of the mean gradients, if the clipping or the logs need it.
    """
    value, algorithm = task.gradient_clip_val, task.gradient_clip_algorithm
    by_norm = value is not None and algorithm == "norm"
    factor, norm = tf.math.divide_no_nan(1.0, weight), None
    if by_norm or task.log_gradient_norm:
        norm = tf.linalg.global_norm(sums) * factor  # not compiled: XLA's sums run on one core
    if by_norm:
        factor = factor * (value / tf.maximum(norm, value)) + (norm - norm)  # NaN, where the norm is not finite

    def divide_clip_apply(factor, *sums):
        scaled = [of_variable * tf.cast(factor, of_variable.dtype) for of_variable in sums]
        task.optimizers[name].apply(scaled if by_norm else clip(scaled, value, algorithm))

    tf.function(divide_clip_apply, jit_compile=True, autograph=False)(factor, *sums)
    return norm
