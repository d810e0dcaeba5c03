"""Devices and strategies."""

import functools

import tensorflow as tf

from lightkeras.distribution import rendezvous
from lightkeras.distribution.cluster import is_index, read_cluster
from lightkeras.utils.checks import lightkeras_error, require, require_choice
from lightkeras.version import __version__

STRATEGIES = ("auto", "mirrored", "multi_worker")


def available_devices() -> list[tf.config.LogicalDevice]:
    """Returns the GPUs, or else the logical CPUs."""
    return tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")


def device_names(devices: int | str | list[int]) -> list[str]:
    """Returns the names of the devices that the Trainer's argument `devices` means."""
    names = [device.name for device in available_devices()]
    present = f"{len(names)} present: {', '.join(names)}"
    if devices == "auto":
        return names if "GPU" in names[0] else names[:1]
    if isinstance(devices, list):
        require(max(devices) < len(names), "devices", f"indices below {len(names)} ({present})", devices)
        return [names[i] for i in devices]
    most = f'at most {len(names)} ({present}; accelerator="cpu" makes more of a CPU, for trying)'
    require(int(devices) <= len(names), "devices", most, devices)
    return names[: int(devices)]


def check_devices(devices: int | str | list[int], strategy: str | tf.distribute.Strategy) -> None:
    """Rejects values that no machine could have; `make_strategy` looks at this machine."""
    if isinstance(strategy, tf.distribute.Strategy):
        require(devices == "auto", "devices", '"auto" beside a `tf.distribute.Strategy`, which has its own', devices)
        return
    ddp = isinstance(strategy, str) and strategy.startswith(("ddp", "dp", "fsdp", "deepspeed"))
    require(
        not ddp, "strategy", "one of 'auto', 'mirrored' (replicas in one process), 'multi_worker' (several)", strategy
    )
    require_choice("strategy", strategy, STRATEGIES)
    if strategy == "multi_worker":
        require(devices == "auto", "devices", '"auto" with strategy="multi_worker": all of each worker', devices)
    if isinstance(devices, list):
        ok = devices and all(is_index(i) for i in devices) and len(set(devices)) == len(devices)
    else:
        ok = devices == "auto" or (is_index(devices) and int(devices) >= 1)
    require(bool(ok), "devices", 'a positive int, a list of distinct indices or "auto"', devices)


def make_strategy(devices: int | str | list[int] = "auto", strategy: str | tf.distribute.Strategy = "auto"):
    """Makes the `tf.distribute.Strategy` for `devices`.

    Args:
        devices: A number of devices, a list of indices, or "auto": every GPU, or one CPU.
        strategy: "auto" (none for one device, else "mirrored"), "mirrored", "multi_worker" (see
            `make_worker_strategy`), or a strategy of your own.

    Raises:
        ValueError: More devices than present, or an unknown strategy; the message lists the devices.
    """
    check_devices(devices, strategy)
    if isinstance(strategy, tf.distribute.Strategy):
        return strategy
    if strategy == "multi_worker":
        return make_worker_strategy()
    names = device_names(devices)
    if strategy == "auto" and len(names) == 1:
        return tf.distribute.get_strategy()
    return _mirrored(tuple(names))


@functools.cache
def _mirrored(names: tuple[str, ...]) -> tf.distribute.MirroredStrategy:
    """Makes one strategy for a set of devices.

    A second one would number its collectives from the start again, and TensorFlow takes two with the same number for
    one ("Shape mismatch in the collective instance").
    """
    return tf.distribute.MirroredStrategy(names)


@functools.cache
def make_worker_strategy() -> tf.distribute.MultiWorkerMirroredStrategy:
    """Makes the strategy over all worker processes that `TF_CONFIG` or Slurm's environment lists, once per process.

    Every worker runs the same program, and calls this before TensorFlow runs any operation. The workers first meet and
    compare their lists (see `rendezvous.meet`).

    Raises:
        ArgumentError: The environment names no cluster, or another worker has another one.
        TimeoutError: A worker did not come within `rendezvous.MEETING_SECONDS`.
        OSError: The port of this worker is in use.
        RuntimeError: TensorFlow has run something already.
    """
    cluster, task = read_cluster()
    listed = [(kind, index) for kind in ("chief", "worker") for index in range(len(cluster.get(kind, ())))]
    addresses = [cluster[kind][index] for kind, index in listed]
    config = {"cluster": cluster, "lightkeras": __version__, "tensorflow": tf.__version__}
    rendezvous.meet(addresses, listed.index(task), config)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise lightkeras_error(RuntimeError)(
            'Expected fit(), validate(), test() or predict() of Trainer(strategy="multi_worker") to be called before '
            f"TensorFlow runs any operation. Received: {error}"
        ) from error
