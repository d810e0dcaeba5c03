"""Devices and strategies."""

import functools

import tensorflow as tf

from lightkeras.distribution import rendezvous
from lightkeras.distribution.cluster import _cluster, _is_index
from lightkeras.utils.checks import require, require_choice
from lightkeras.version import __version__

STRATEGIES = ("auto", "mirrored", "multi_worker")


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
        require(max(devices) < len(names), "devices", f"indices below {len(names)} ({present})", devices)
        return [names[i] for i in devices]
    require(int(devices) <= len(names), "devices", f"at most {len(names)} ({present})", devices)
    return names[: int(devices)]


def check_devices(devices: int | str | list[int], strategy: str | tf.distribute.Strategy) -> None:
    """Refuses values that no machine could have; `make_strategy` looks at this machine."""
    if isinstance(strategy, tf.distribute.Strategy):
        require(
            devices == "auto",
            "devices",
            '"auto" beside a `tf.distribute.Strategy`, which has its own',
            devices,
        )
        return
    require_choice("strategy", strategy, STRATEGIES)
    if strategy == "multi_worker":
        require(devices == "auto", "devices", '"auto" with strategy="multi_worker": all of each worker', devices)
    if isinstance(devices, list):
        ok = devices and all(_is_index(i) for i in devices) and len(set(devices)) == len(devices)
    else:
        ok = devices == "auto" or (_is_index(devices) and int(devices) >= 1)
    require(bool(ok), "devices", 'a positive int, a list of distinct indices or "auto"', devices)


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
