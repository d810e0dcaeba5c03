"""Competitors for the benchmarks' own tests: none imports TensorFlow but the last."""

import time


def sleeper(gate, milliseconds: float = 1.0) -> None:
    """Sleeps in every stretch, in the first one longer."""
    gate()
    time.sleep(10 * milliseconds / 1e3)
    while True:
        gate(milliseconds)
        time.sleep(milliseconds / 1e3)


def dies(gate) -> None:
    """Fails in its second stretch."""
    gate()
    gate()
    raise ArithmeticError("no more")


def tracer(gate) -> None:
    """Traces a function and compiles it with XLA in its first and in its third stretch, and waits for its input."""
    import tensorflow as tf

    @tf.function(jit_compile=True)
    def square(x):
        return x * x

    def slow(number):
        return tf.py_function(lambda number: (time.sleep(0.02), number)[1], [number], tf.int64)

    numbers = iter(tf.data.Dataset.range(10**6).map(slow))
    for size in (2, 2, 3, 3, 3, 3):
        gate()
        square(tf.ones((size,)))
        next(numbers)
    gate()
