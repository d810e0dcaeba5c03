"""Dynamic loss scaling for float16 (Micikevicius et al. 2018): a scale of its own for every named optimizer.

The gradient of a loss *sum* is multiplied, so that small numbers in it stay above float16's smallest, and the reduced
gradient is divided again in float32. Both are powers of two: where nothing underflows or overflows, no bit changes.
"""

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from lightkeras.distribution.replicas import run_if

INITIAL = 2.0**15  # with Keras' and PyTorch's 2000 below: too high a scale falls in a few updates
GROWTH = 2000
LEAST = 1.0


class LossScale:
    """The scale of one optimizer's loss: halved when an update is skipped, doubled after `GROWTH` good ones.

    Every replica holds and changes it alike, since all of them judge the same reduced gradient.

    Args:
        rows: Examples of a global batch. The scale is that of the mean over them, as it is elsewhere; the sum is
            multiplied by `scale / rows` (`rows` rounded up to a power of two), which does not depend on how the batch
            is cut.

    Attributes:
        scale: float32 ().
        good_updates: int32 (), those since the scale changed.
        skipped_updates: int32 (), of the whole run.
    """

    def __init__(self, rows: int):
        self._rows = 2.0 ** math.ceil(math.log2(rows))
        self.scale = _variable(INITIAL, "float32", "scale")
        self.good_updates = _variable(0, "int32", "good_updates")
        self.skipped_updates = _variable(0, "int32", "skipped_updates")

    @property
    def variables(self) -> list[keras.Variable]:
        """All of its state."""
        return [self.scale, self.good_updates, self.skipped_updates]

    @property
    def exhausted(self) -> bool:
        """Whether an update was skipped at a scale of 1: smaller ones will not help."""
        return float(self.scale.numpy()) < LEAST

    def factor(self) -> tf.Tensor:
        """What the gradient of the loss sum is multiplied by now: float32 ()."""
        return tf.convert_to_tensor(self.scale) / self._rows

    def apply(
        self, optimizer: keras.optimizers.Optimizer, gradients: list[tf.Tensor], finite: tf.Tensor,
        variables: Sequence[keras.Variable] | None = None,
    ) -> None:  # fmt: skip
        """Applies the gradients if they are `finite`, and else changes nothing of the optimizer; sets the next scale.

        Called in the replica context, with what is the same on every replica.
        """
        run_if(finite, lambda tensors: optimizer.apply(tensors, variables), gradients)
        scale, good = tf.convert_to_tensor(self.scale), tf.convert_to_tensor(self.good_updates) + 1
        grows = good >= GROWTH
        self.scale.assign(tf.where(finite, tf.where(grows, 2 * scale, scale), scale / 2))
        self.good_updates.assign(tf.where(finite & ~grows, good, 0))
        self.skipped_updates.assign_add(tf.cast(~finite, "int32"))


def all_finite(gradients: list[tf.Tensor]) -> tf.Tensor:
    """Whether every element is a finite number: bool ()."""
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])


def _variable(value, dtype: str, name: str) -> keras.Variable:
    return keras.Variable(
        value, dtype=dtype, trainable=False, autocast=False, aggregation="only_first_replica", name=name
    )
