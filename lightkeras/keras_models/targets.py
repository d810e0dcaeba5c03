"""Targets that a model cannot learn from: said before training."""

from typing import Any

import keras
import tensorflow as tf

from lightkeras.data.batches import named_entries
from lightkeras.utils import internals
from lightkeras.utils.checks import ArgumentError

NUMBER = "`keras.layers.StringLookup`, or pandas' `column.astype('category').cat.codes`"


def require_targets(model: keras.Model, spec: Any) -> None:
    """Raises ArgumentError if a batch of `spec` has no targets, and Keras' own step is to compute a loss of them."""
    own = all(getattr(type(model), name) is getattr(keras.Model, name) for name in ("train_step", "compute_loss"))
    if own and model.loss is not None and keras.utils.unpack_x_y_sample_weight(spec)[1] is None:
        raise ArgumentError(
            "Expected data with targets, (x, y), as the model is compiled with a loss. Received: batches without y"
        )


def require_numbers(graph: Any, spec: Any) -> None:
    """Raises ArgumentError if a traced step takes text for numbers, which fails when it runs."""
    casts = [one for one in internals.operations(graph) if one.type == "Cast" and one.inputs[0].dtype == tf.string]
    if casts:
        text = [name for name, one in named_entries(spec).items() if getattr(one, "dtype", None) == tf.string]
        raise ArgumentError(
            f"Expected numbers where the model computes with them. Received: text, in {', '.join(text) or 'its step'}. "
            f"Number it first: {NUMBER}"
        )
