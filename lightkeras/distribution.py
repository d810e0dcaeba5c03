"""Strategies, workers, and sums over replicas."""

import functools
import json
import os
import re
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.distribute.cluster_resolver import slurm_cluster_resolver as slurm

from lightkeras import rendezvous
from lightkeras.checks import check, check_choice
from lightkeras.version import __version__

STRATEGIES = ("auto", "mirrored", "multi_worker")
_ADDRESS = re.compile(r"\S+:\d+")
_SLURM_PORTS = range(20000, 30000)  # below those that Linux gives to clients
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

    Every worker runs the same program. It must be made before TensorFlow runs anything. The workers first meet and
    compare their lists (see `rendezvous.meet`).

    Raises:
        ValueError: The environment names no cluster, or `TF_CONFIG` no task of it, or another worker was told another.
        TimeoutError: A worker did not come within `rendezvous.PATIENCE` seconds.
        OSError: The port of this worker is in use.
        RuntimeError: TensorFlow has run something already.
    """
    cluster, task = _cluster()
    listed = [(kind, index) for kind in ("chief", "worker") for index in range(len(cluster.get(kind, ())))]
    addresses = [cluster[kind][index] for kind, index in listed]
    told = {"cluster": cluster, "lightkeras": __version__, "tensorflow": tf.__version__}
    rendezvous.meet(addresses, listed.index(task), told)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise RuntimeError(
            'Expected Trainer(strategy="multi_worker") to be made before TensorFlow runs any operation. '
            f"Received: {error}"
        ) from error


def _cluster() -> tuple[dict[str, list[str]], tuple[str, int]]:
    """The cluster, and this process's (type, index) in it; Slurm's is put into `TF_CONFIG`."""
    if "TF_CONFIG" not in os.environ and "SLURM_PROCID" in os.environ:
        os.environ["TF_CONFIG"] = json.dumps(slurm_config(os.environ))
    if "TF_CONFIG" not in os.environ:
        raise ValueError(
            'Expected TF_CONFIG or Slurm\'s environment for strategy="multi_worker" (`lightkeras launch --workers 2 '
            "...` sets it for workers on this machine). Received: neither is set"
        )
    config = _json(os.environ["TF_CONFIG"])
    cluster, task = config.get("cluster", {}), config.get("task", {})
    addresses = [address for kind in cluster.values() for address in kind]
    index = task.get("index")
    found = task.get("type") in ("chief", "worker") and _is_index(index) and index < len(cluster.get(task["type"], ()))
    check(found, "TF_CONFIG", 'a cluster and this process\'s task of it, a "worker" or "chief" by index', config)
    check(len(set(addresses)) == len(addresses), "TF_CONFIG", "a cluster with no address twice", config)
    check(all(_ADDRESS.fullmatch(a) for a in addresses), "TF_CONFIG", 'a cluster of "host:port" addresses', config)
    return cluster, (task["type"], index)


def _json(text: str) -> dict:
    try:
        config = json.loads(text)
    except ValueError as error:
        raise ValueError(f"Expected `TF_CONFIG` to be JSON ({error}). Received: TF_CONFIG={text!r}") from error
    parts = [config, *(config.get(name, {}) for name in ("cluster", "task"))] if isinstance(config, dict) else [None]
    check(all(isinstance(part, dict) for part in parts), "TF_CONFIG", "a dict of dicts", text)
    return config


def slurm_config(environment: Mapping[str, str]) -> dict:
    """`TF_CONFIG` of a process that `srun` started, with the node's hosts in Slurm's order.

    TensorFlow's `SlurmClusterResolver` needs `nvidia-smi`, and sorts the hosts by name (n10 before n9), so that
    addresses and ranks part ways. The ports come from the job's number: jobs on one node do not meet.

    Args:
        environment: SLURM_PROCID, SLURM_STEP_NODELIST, SLURM_STEP_TASKS_PER_NODE and SLURM_JOB_ID are read.

    Raises:
        ValueError: One is missing: the process was not started by `srun`.
    """
    names = ("SLURM_PROCID", "SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE", "SLURM_JOB_ID")
    missing = [name for name in names if name not in environment]
    check(not missing, "SLURM_...", "those of a process that `srun` started", f"no {', '.join(missing)}")
    rank, nodes, tasks, job = (environment[name] for name in names)
    counts = zip(slurm.expand_hostlist(nodes), slurm.expand_tasks_per_node(tasks), strict=True)
    port = _SLURM_PORTS.start + int(job) % len(_SLURM_PORTS)
    hosts = [f"{host}:{port + local}" for host, count in counts for local in range(count)]
    return {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": int(rank)}}


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


def one_cpu(strategy: tf.distribute.Strategy) -> bool:
    """Whether all training is on one CPU of one process."""
    alone = replicas(strategy) == 1 and not strategy.extended._in_multi_worker_mode()
    return alone and not tf.config.list_logical_devices("GPU")


def all_reduce_sum(values):
    """Sums a structure of tensors over all replicas; called in the replica context, on every replica."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return values
    flat = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.nest.flatten(values))
    return tf.nest.pack_sequence_as(values, flat)


def run_if(condition: tf.Tensor, function: Callable[[list[tf.Tensor]], None], tensors: list[tf.Tensor]) -> None:
    """`function(tensors)` where `condition` holds; called in the replica context, on every replica alike.

    A branch within the replica context must not wait for other replicas, as an optimizer does: so the branch lies
    outside of it (Keras' `LossScaleOptimizer` does the same).
    """
    if tf.__internal__.distribute.strategy_supports_no_merge_call():
        tf.cond(condition, lambda: function(tensors), lambda: None)
        return

    def branch(strategy, condition, tensors):
        def run():
            strategy.extended.call_for_each_replica(function, args=(tensors,))

        tf.cond(strategy.experimental_local_results(condition)[0], run, lambda: None)

    tf.distribute.get_replica_context().merge_call(branch, args=(condition, tensors))


def sum_over_workers(strategy: tf.distribute.Strategy, sums: np.ndarray) -> np.ndarray:
    """Each worker's `sums` (k,) added up over all workers."""
    if not strategy.extended._in_multi_worker_mode():
        return sums
    local = len(strategy.extended.worker_devices)

    def of_replica(context):  # each worker's sums once, however many replicas it has
        return tf.constant(np.zeros_like(sums) if context.replica_id_in_sync_group % local else sums)

    parts = strategy.experimental_distribute_values_from_function(of_replica)
    return on_every_replica(strategy, _sum, parts).numpy()


@tf.function
def _sum(part):
    return all_reduce_sum(tf.identity(part))  # a function's argument has no device, which collectives want


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
