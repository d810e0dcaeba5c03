"""Operations that give the same bits each time."""

import tensorflow as tf


def make_deterministic(seed: int) -> None:
    """Lets TensorFlow use only operations that give the same bits each time, for the rest of the process."""
    tf.config.experimental.enable_op_determinism()
    tf.random.set_seed(seed)
    keep_order_of_sums()


def keep_order_of_sums() -> None:
    """Switches off TensorFlow's rewriting of arithmetic.

    It orders the terms of a sum by the names of operations, which differ from process to process and from run to run:
    equal trainings then differ in the last bit.
    """
    options = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({**options, "arithmetic_optimization": False})
