"""Precision: the names of Lightning and Keras, and Keras' dtype policy for a `with` block."""

import contextlib
from collections.abc import Iterator

import keras

PRECISIONS = {
    "32": "float32", "32-true": "float32", "float32": "float32",
    "bf16-mixed": "mixed_bfloat16", "mixed_bfloat16": "mixed_bfloat16",
    "16-mixed": "mixed_float16", "mixed_float16": "mixed_float16",
}  # fmt: skip

ALIASES = {32: "32", 16: "16-mixed", "16": "16-mixed", "bf16": "bf16-mixed"}  # Lightning's older words


@contextlib.contextmanager
def use_precision(precision: str) -> Iterator[None]:
    """Sets Keras' dtype policy in the `with` block."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(PRECISIONS[precision])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
