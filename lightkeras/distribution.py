"""Strategies, workers, and sums over replicas."""

import functools
import json
import os
import socket
from collections.abc import Callable

import keras
import tensorflow as tf

from lightkeras.checks import check, check_choice

STRATEGIES = ("auto", "mirrored", "multi_worker")
SEED_STRIDE = 0x1E3779B1  # far from the seeds that a user gives to neighbouring layers


def _available() -> list[tf.config.LogicalDevice]:
    """The GPUs, or else the logical CPUs."""
    return tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")


def _chosen(devices: int | str | list[int]) -> list[str]:
    """Names of the devices meant by `devices`."""
    names = [device.name for device in _available()]
    present = f"{len(names)} present: {', '.join(names)}"
    if devices == "auto":
        return names if "GPU" in names[0] else names[:1]
    if isinstance(devices, list):
        check(max(devices) < len(names), "devices", f"indices below {len(names)} ({present})", devices)
        return [names[i] for i in devices]
    check(devices <= len(names), "devices", f"at most {len(names)} ({present})", devices)
    return names[:devices]


def check_devices(devices: int | str | list[int], strategy: str | tf.distribute.Strategy) -> None:
    """Refuses values that no machine could have; `make_strategy` looks at this machine."""
    if isinstance(strategy, tf.distribute.Strategy):
        check(
            devices == "auto",
            "devices",
            '"auto" beside a `tf.distribute.Strategy`, which has its own',
            devices,
        )
        return
    check_choice("strategy", strategy, STRATEGIES)
    if strategy == "multi_worker":
        check(devices == "auto", "devices", '"auto" with strategy="multi_worker": all of each worker', devices)
    if isinstance(devices, list):
        ok = devices and all(_is_index(i) for i in devices) and len(set(devices)) == len(devices)
    else:
        ok = devices == "auto" or (_is_index(devices) and devices >= 1)
    check(bool(ok), "devices", 'a positive int, a list of distinct indices or "auto"', devices)


def _is_index(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def make_strategy(devices: int | str | list[int] = "auto", strategy: str | tf.distribute.Strategy = "auto"):
    """The `tf.distribute.Strategy` for `devices`.

    Args:
        devices: How many devices, which (indices), or "auto": every GPU, or one CPU.
        strategy: "auto" (none for one device, else "mirrored"), "mirrored", "multi_worker" (see `workers`), or a
            strategy of your own.

    Raises:
        ValueError: More devices than present, or an unknown strategy; the message lists the devices.
    """
    check_devices(devices, strategy)
    if isinstance(strategy, tf.distribute.Strategy):
        return strategy
    if strategy == "multi_worker":
        return workers()
    names = _chosen(devices)
    if strategy == "auto" and len(names) == 1:
        return tf.distribute.get_strategy()
    return _mirrored(tuple(names))


@functools.cache
def _mirrored(names: tuple[str, ...]) -> tf.distribute.MirroredStrategy:
    """One strategy for a set of devices: a second one would number its collectives from the start again, and TensorFlow
    takes two of one number for the same ("Shape mismatch in the collective instance").
    """
    return tf.distribute.MirroredStrategy(names)


@functools.cache
def workers() -> tf.distribute.MultiWorkerMirroredStrategy:
    """The strategy over all worker processes, as `TF_CONFIG` or Slurm's environment lists them.

    Every worker runs the same program. It must be made before TensorFlow runs anything.

    Raises:
        ValueError: The environment names no cluster, or `TF_CONFIG` no task of it.
        OSError: The port of this worker is in use.
        RuntimeError: TensorFlow has run something already.
    """
    resolver = _resolver()
    _check_port(resolver)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except RuntimeError as error:
        raise RuntimeError(
            'Expected Trainer(strategy="multi_worker") to be made before TensorFlow runs any operation. '
            f"Received: {error}"
        ) from error


def _resolver() -> tf.distribute.cluster_resolver.ClusterResolver:
    if "TF_CONFIG" in os.environ:
        config = json.loads(os.environ["TF_CONFIG"])
        listed, task = config.get("cluster", {}), config.get("task", {})
        found = len(listed.get(task.get("type"), ())) > task.get("index", -1) >= 0
        check(found, "TF_CONFIG", "a cluster and this process's task of it (type and index)", config)
        return tf.distribute.cluster_resolver.TFConfigClusterResolver()
    if "SLURM_PROCID" in os.environ:
        return tf.distribute.cluster_resolver.SlurmClusterResolver()
    raise ValueError(
        'Expected TF_CONFIG or Slurm\'s environment for strategy="multi_worker" (`lightkeras launch --workers 2 ...` '
        "sets it for workers on this machine). Received: neither is set"
    )


def _check_port(resolver) -> None:
    """A port in use is found here: TensorFlow would wait for the other workers first."""
    address = resolver.cluster_spec().task_address(resolver.task_type, resolver.task_id)
    port = int(address.rpartition(":")[2])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise OSError(f"Expected port {port} of this worker ({address}) to be free. Received: {error}") from error


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the run's files: the only one, or the first worker."""
    resolver = strategy.cluster_resolver
    if resolver is None or not strategy.extended._in_multi_worker_mode():
        return True
    chief = resolver.cluster_spec().as_dict().get("chief")
    return resolver.task_type == "chief" or (not chief and resolver.task_id == 0)


def any_worker(strategy: tf.distribute.Strategy, flag: bool) -> bool:
    """Whether any worker says so: all of them must stop at the same update. One process just asks itself."""
    if not strategy.extended._in_multi_worker_mode():
        return flag
    votes = strategy.run(_vote, args=(tf.constant(float(flag)),))
    return float(strategy.experimental_local_results(votes)[0]) > 0


@tf.function
def _vote(flag):
    return all_reduce_sum(tf.identity(flag))


def replicas(strategy: tf.distribute.Strategy) -> int:
    """Replicas over all workers."""
    return strategy.num_replicas_in_sync


def all_reduce_sum(values):
    """Sums a structure of tensors over all replicas; called in the replica context, on every replica."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return values
    flat = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.nest.flatten(values))
    return tf.nest.pack_sequence_as(values, flat)


def draw_by_replica(generator: keras.random.SeedGenerator) -> None:
    """Makes each replica draw seeds of its own: Keras gives all of them the same, so the same dropout masks.

    Their one state goes on alike, so a checkpoint holds it; replica 0 draws what a single device draws.
    """
    draw = generator.next

    def of_replica(ordered: bool = True):
        seed, context = draw(ordered), tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return seed
        replica = tf.cast(context.replica_id_in_sync_group, seed.dtype)
        return seed + tf.stack([replica * SEED_STRIDE, tf.zeros_like(replica)])

    generator.next = of_replica


def on_every_replica(strategy: tf.distribute.Strategy, function: Callable, *args):
    """Runs `function` on every replica and returns the first local result (the replicas' results are equal)."""
    result = strategy.run(function, args=args)
    return tf.nest.map_structure(lambda value: strategy.experimental_local_results(value)[0], result)
