"""Endpoint: a function of a task that other programs call, with its signature, its trial and the task's own results."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from lightkeras.utils.checks import require

ROWS = 3  # of an example that is drawn
TEXTS = (b"a", b"", b"The second, longer text")  # of an example of texts


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """A function that is exported.

    Args:
        function: Takes a tensor for each argument of `signature`, by name, and returns tensors by name.
        signature: The `tf.TensorSpec` of each argument, by name.
        examples: Arguments by name for the trial of the export: lists, arrays, texts, bytes. Without any, the trial
            draws normal numbers (3 rows); integers are 0, texts short ones.
        reference: Takes an example and returns what the task itself gives for it, arrays by name. None: `function`.
        tracked: Objects that `function` uses beside variables, such as lookup tables.
        formats: The formats that have it, beside "keras"; those of texts and bytes are in a SavedModel alone. For ONNX,
            an output must not have the name of an argument.
    """

    function: Callable[..., dict[str, tf.Tensor]]
    signature: Mapping[str, tf.TensorSpec]
    examples: Sequence[Mapping[str, Any]] = ()
    reference: Callable[..., Mapping[str, Any]] | None = None
    tracked: Sequence[Any] = ()
    formats: Sequence[str] = ("saved_model", "onnx", "litert")

    def has_format(self, form: str) -> bool:
        """Whether an export of this format has the endpoint."""
        has_text = any(spec.dtype == tf.string for spec in self.signature.values())
        return form == "keras" or (form in self.formats and (form == "saved_model" or not has_text))

    def trace(self) -> Any:
        """Returns the function as a `tf.function` with the signature."""
        specs = [tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in self.signature.items()]

        def call(*values, **named):
            return self.function(**dict(zip(self.signature, values, strict=False)), **named)

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD  # so that the loaded function takes arguments by name
        vars(call)["__signature__"] = inspect.Signature([inspect.Parameter(name, kind) for name in self.signature])
        return tf.function(call, input_signature=specs, autograph=False)

    def trials(self) -> list[dict[str, np.ndarray]]:
        """Returns the arguments of every trial as arrays; texts are bytes."""
        examples = self.examples or [{name: _draw(spec) for name, spec in self.signature.items()}]
        return [
            {name: tf.constant(example[name], spec.dtype).numpy() for name, spec in self.signature.items()}
            for example in examples
        ]

    def expected(self) -> list[dict[str, np.ndarray]]:
        """Returns the task's own results for every trial."""
        if self.reference is None:
            traced = self.trace()
            found = [traced(*(tf.constant(value) for value in trial.values())) for trial in self.trials()]
        else:
            found = [self.reference(**example) for example in self.examples]
        return [{name: np.asarray(value) for name, value in one.items()} for one in found]


def _draw(spec: tf.TensorSpec) -> np.ndarray:
    shape = [ROWS if size is None else size for size in spec.shape]
    if spec.dtype == tf.string:
        return np.resize(np.array(TEXTS, object), shape)
    drawn = spec.dtype.is_floating or spec.dtype.is_integer or spec.dtype.is_bool
    require(drawn, "examples", f"given for arguments of type {spec.dtype.name}", ())
    values = np.random.default_rng(0).normal(size=shape) if spec.dtype.is_floating else np.zeros(shape)
    return values.astype(spec.dtype.as_numpy_dtype)
