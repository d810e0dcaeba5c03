"""The Trainer's `accelerator`: which kind of device TensorFlow sees, decided before it starts."""

import functools
from typing import Any

import tensorflow as tf

from lightkeras.utils.checks import lightkeras_error, require
from lightkeras.utils.messages import logger

ACCELERATORS = ("auto", "cpu", "gpu")


def check_accelerator(accelerator: Any, strategy: Any) -> None:
    """Rejects a word that is none of `ACCELERATORS`, and one beside a strategy that has its devices."""
    known = isinstance(accelerator, str) and accelerator in ACCELERATORS
    expected = 'one of "auto", "cpu", "gpu": lightkeras trains on CPUs, and on the GPUs that TensorFlow sees'
    require(known, "accelerator", expected, accelerator)
    own = isinstance(strategy, tf.distribute.Strategy) and accelerator != "auto"
    require(not own, "accelerator", '"auto" beside a `tf.distribute.Strategy`, which has its own devices', accelerator)


def prepare_devices(accelerator: str, devices: int | str | list[int]) -> None:
    """Hides GPUs from TensorFlow, and makes as many logical CPUs as `devices` asks for, if `accelerator` is "cpu".

    Raises:
        ValueError: There is no GPU for "gpu".
        RuntimeError: TensorFlow has started already, with other devices.
    """
    if accelerator == "gpu":
        gpus = tf.config.get_visible_devices("GPU")
        require(bool(gpus), "accelerator", '"auto" or "cpu" where TensorFlow sees no GPU', accelerator)
    if accelerator == "cpu":
        _hide_gpus()
        count = 1 if devices == "auto" else max(devices) + 1 if isinstance(devices, list) else int(devices)
        make_logical_cpus(count)
        if count > 1:
            _say_once()


def _hide_gpus() -> None:
    if not tf.config.get_visible_devices("GPU"):
        return
    try:
        tf.config.set_visible_devices([], "GPU")
    except RuntimeError as error:
        raise lightkeras_error(RuntimeError)(
            'Expected Trainer(accelerator="cpu") to be made before TensorFlow starts, so that it leaves GPUs alone. '
            "Received: TensorFlow has started with GPUs. Make the Trainer first, or start the process with "
            "CUDA_VISIBLE_DEVICES=-1."
        ) from error


def make_logical_cpus(count: int) -> None:
    """Makes `count` logical CPUs of the one that there is, unless there are as many already.

    Raises:
        RuntimeError: TensorFlow has started with fewer.
    """
    cpu = tf.config.list_physical_devices("CPU")[0]
    there = len(tf.config.get_logical_device_configuration(cpu) or [cpu])
    if there >= count:
        return
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError as error:
        raise lightkeras_error(RuntimeError)(
            f'Expected Trainer(accelerator="cpu", devices={count}) to be made before TensorFlow starts. Received: '
            f"TensorFlow has started with {there} CPU. Make the Trainer at the beginning of the program, before "
            "tensors and layers."
        ) from error


@functools.cache
def _say_once() -> None:
    logger.info('accelerator="cpu" with several devices is for trying replicas: they share the same cores.')
