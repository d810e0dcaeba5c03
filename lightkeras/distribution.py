"""Strategies, and the rows of a global batch that each worker reads."""

import functools
from collections.abc import Callable

import tensorflow as tf

from lightkeras.checks import check, check_choice
from lightkeras.data import AddressedDataset, Shard

STRATEGIES = ("auto", "mirrored")


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
        ok = (
            devices
            and all(isinstance(i, int) and 0 <= i < len(names) for i in devices)
            and len(set(devices)) == len(devices)
        )
        check(bool(ok), "devices", f"distinct indices below {len(names)} ({present})", devices)
        return [names[i] for i in devices]
    ok = isinstance(devices, int) and not isinstance(devices, bool) and devices >= 1
    check(ok, "devices", 'a positive int, a list of indices or "auto"', devices)
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
    else:
        check_choice("strategy", strategy, STRATEGIES)


def make_strategy(devices: int | str | list[int] = "auto", strategy: str | tf.distribute.Strategy = "auto"):
    """The `tf.distribute.Strategy` for `devices`.

    Args:
        devices: How many devices, which (indices), or "auto": every GPU, or one CPU.
        strategy: "auto" (none for one device, else "mirrored"), "mirrored", or a strategy of your own.

    Raises:
        ValueError: More devices than present, or an unknown strategy; the message lists the devices.
    """
    check_devices(devices, strategy)
    if isinstance(strategy, tf.distribute.Strategy):
        return strategy
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


def replicas(strategy: tf.distribute.Strategy) -> int:
    """Replicas over all workers."""
    return strategy.num_replicas_in_sync


def distributed_stream(strategy: tf.distribute.Strategy, dataset: AddressedDataset, **address):
    """`dataset.stream(**address)` for every replica of `strategy`, each with its rows of the global batch."""
    total = replicas(strategy)
    if not strategy.extended._in_multi_worker_mode() and total == 1:
        return dataset.stream(**address)

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        local = total // context.num_input_pipelines
        return dataset.stream(**address, shard=Shard(context.input_pipeline_id * local, local, total))

    return strategy.distribute_datasets_from_function(of_worker)


def all_reduce_sum(values):
    """Sums a structure of tensors over all replicas; called in the replica context, on every replica."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return values
    flat = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.nest.flatten(values))
    return tf.nest.pack_sequence_as(values, flat)


def on_every_replica(strategy: tf.distribute.Strategy, function: Callable, *args):
    """Runs `function` on every replica and returns the first local result (the replicas' results are equal)."""
    result = strategy.run(function, args=args)
    return tf.nest.map_structure(lambda value: strategy.experimental_local_results(value)[0], result)
