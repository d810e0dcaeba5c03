"""Sums and decisions over replicas and workers."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from lightkeras.utils import internals

SEED_STRIDE = 0x1E3779B1  # far from the seeds that a user gives to neighbouring layers


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process writes the run's files: the only one, or the first worker."""
    resolver = strategy.cluster_resolver
    if resolver is None or not internals.has_workers(strategy):
        return True
    chief = resolver.cluster_spec().as_dict().get("chief")
    return resolver.task_type == "chief" or (not chief and resolver.task_id == 0)


def any_worker(strategy: tf.distribute.Strategy, flag: bool) -> bool:
    """Returns whether `flag` is True in any worker: all of them must stop at the same update."""
    if not internals.has_workers(strategy):
        return flag
    votes = strategy.run(_vote, args=(tf.constant(float(flag)),))
    return float(strategy.experimental_local_results(votes)[0]) > 0


@tf.function
def _vote(flag):
    return all_reduce_sum(tf.identity(flag))


def num_replicas(strategy: tf.distribute.Strategy) -> int:
    """Returns the number of replicas over all workers."""
    return strategy.num_replicas_in_sync


def one_cpu(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether all training is on one CPU of one process."""
    alone = num_replicas(strategy) == 1 and not internals.has_workers(strategy)
    return alone and not tf.config.list_logical_devices("GPU")


def all_reduce_sum(values):
    """Sums a structure of tensors over all replicas; called in the replica context, on every replica.

    Where a task is built, its steps are traced outside of replicas: the tensors then stay as they are.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return values
    flat = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.nest.flatten(values))
    return tf.nest.pack_sequence_as(values, flat)


def run_if(condition: tf.Tensor, function: Callable[[list[tf.Tensor]], None], tensors: list[tf.Tensor]) -> None:
    """Calls `function(tensors)` if `condition` holds; called in the replica context, on every replica alike.

    A branch within the replica context must not wait for other replicas, as an optimizer does. So the branch lies in
    the cross-replica context (Keras' `LossScaleOptimizer` does the same).
    """
    if internals.supports_no_merge_call():
        tf.cond(condition, lambda: function(tensors), lambda: None)
        return

    def branch(strategy, condition, tensors):
        def run():
            strategy.extended.call_for_each_replica(function, args=(tensors,))

        tf.cond(strategy.experimental_local_results(condition)[0], run, lambda: None)

    tf.distribute.get_replica_context().merge_call(branch, args=(condition, tensors))


def sum_over_workers(strategy: tf.distribute.Strategy, sums: np.ndarray) -> np.ndarray:
    """Adds up the `sums` (k,) of all workers."""
    if not internals.has_workers(strategy):
        return sums
    local = len(strategy.extended.worker_devices)

    def replica_sums(context):  # each worker's sums once, however many replicas it has
        return tf.constant(np.zeros_like(sums) if context.replica_id_in_sync_group % local else sums)

    parts = strategy.experimental_distribute_values_from_function(replica_sums)
    return on_every_replica(strategy, _sum, parts).numpy()


@tf.function
def _sum(part):
    return all_reduce_sum(tf.identity(part))  # a function's argument has no device, which collectives want


def draw_by_replica(generator: keras.random.SeedGenerator) -> None:
    """Makes each replica draw its own seeds: Keras gives all replicas the same, and so the same dropout masks.

    The state is the same on all replicas, so a checkpoint holds it. Replica 0 draws the same as a single device.
    """
    draw = generator.next

    def draw_on_replica(ordered: bool = True):
        seed, context = draw(ordered), tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return seed
        replica = tf.cast(context.replica_id_in_sync_group, seed.dtype)
        return seed + tf.stack([replica * SEED_STRIDE, tf.zeros_like(replica)])

    generator.next = draw_on_replica


def on_every_replica(strategy: tf.distribute.Strategy, function: Callable, *args):
    """Runs `function` on every replica and returns the first local result (the replicas' results are equal)."""
    result = strategy.run(function, args=args)
    return tf.nest.map_structure(lambda value: strategy.experimental_local_results(value)[0], result)
