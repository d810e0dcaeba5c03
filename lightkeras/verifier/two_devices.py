"""Two devices for the check of replicas: two GPUs, or two logical CPUs."""

import functools
from typing import Any

import tensorflow as tf

ONE_DEVICE = (
    "only one device. `lightkeras check` makes two of the CPU; in Python, before TensorFlow starts: "
    'lk.Trainer(accelerator="cpu", devices=2)'
)


@functools.cache
def two_device_arguments() -> dict[str, Any]:
    """Returns the Trainer's arguments for two replicas; none if there is only one device."""
    gpus, cpus = (tf.config.list_logical_devices(kind) for kind in ("GPU", "CPU"))
    if len(gpus or cpus) >= 2:
        return {"devices": 2}
    names = [device.name for device in cpus[:2]]  # beside a single GPU
    return {"strategy": tf.distribute.MirroredStrategy(names)} if len(names) == 2 else {}
