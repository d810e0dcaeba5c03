"""What devices can compute at most, from the makers' data sheets."""

import tensorflow as tf

from lightkeras.distribution.replicas import num_replicas
from lightkeras.utils import internals

PEAKS = {  # TFLOP/s of dense products: float32 without and with TF32 (where the card has it), bfloat16 or float16
    "T4": (8.1, 8.1, 65.0),  # NVIDIA T4 data sheet (2019)
    "V100": (15.7, 15.7, 125.0),  # NVIDIA V100 data sheet (2020), SXM2
    "L4": (30.3, 60.0, 121.0),  # NVIDIA L4 data sheet (2023), halved where it counts zeros that are skipped
    "A10": (31.2, 62.5, 125.0),  # NVIDIA A10 data sheet (2021)
    "A100": (19.5, 156.0, 312.0),  # NVIDIA A100 data sheet (2021)
    "H100": (67.0, 494.0, 989.0),  # NVIDIA H100 data sheet (2023), SXM, halved as above
    "H200": (67.0, 494.0, 989.0),  # NVIDIA H200 data sheet (2024), SXM, halved as above
}


def peak_of(device: str, half: bool = False, tf32: bool = True) -> float | None:
    """Returns the FLOP/s that a device of this name is capable of; None where the name is not known.

    Args:
        device: "NVIDIA A100-SXM4-40GB".
        half: In bfloat16 or float16, else in float32.
        tf32: float32 products may be rounded to TF32, as TensorFlow does unless told otherwise.
    """
    words = device.replace("-", " ").split()
    found = [rates for name, rates in PEAKS.items() if name in words]
    return found[0][2 if half else 1 if tf32 else 0] * 1e12 if found else None


def peak_of_strategy(strategy: tf.distribute.Strategy, half: bool = False) -> float | None:
    """Returns the FLOP/s that this process's devices of a strategy are capable of; None where a name is not known."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus or not tf.config.list_logical_devices("GPU"):
        return None
    several = num_replicas(strategy) > 1 or internals.has_workers(strategy)
    devices = strategy.extended.worker_devices if several else ("GPU:0",)
    if not all("GPU" in device for device in devices):
        return None
    tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
    details = tf.config.experimental.get_device_details(gpus[0])  # the replicas of a strategy are of a kind
    peak = peak_of(details.get("device_name", ""), half, tf32)
    return peak and peak * len(devices)
