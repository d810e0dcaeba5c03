"""A learning-rate schedule that the tasks share."""

import keras

__all__ = ["warmup_cosine"]


def warmup_cosine(peak: float, warmup_steps: int, total_steps: int | None):
    """Makes a learning rate that rises from 0 to `peak`, then falls to 0 by a cosine (Loshchilov and Hutter 2017).

    Args:
        peak: The highest learning rate.
        warmup_steps: Updates in which it rises; 0 starts at the peak.
        total_steps: Updates of the run (`TaskModule.total_steps`). None for a run of unknown length: after the
            rise it stays at the peak.

    Returns:
        A Keras schedule, or `peak` itself where it never changes.
    """
    schedules = keras.optimizers.schedules
    if total_steps is None:
        return schedules.PolynomialDecay(0.0, warmup_steps, peak) if warmup_steps else peak
    rest = max(total_steps - warmup_steps, 1)
    if not warmup_steps:
        return schedules.CosineDecay(peak, rest)
    return schedules.CosineDecay(0.0, rest, warmup_target=peak, warmup_steps=warmup_steps)
