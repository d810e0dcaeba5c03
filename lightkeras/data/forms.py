"""The forms in which data is brought, as for Keras' `fit`: a dict, x, (x, y) or (x, y, sample_weight).

Steps get a dict with the entry "weight", or the tuple (x, y, sample_weight); see `batches`. Here stands the way back,
and what is done to a batch as it is brought.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from lightkeras.data.batches import WEIGHT, Batch
from lightkeras.utils.checks import ArgumentError, lightkeras_error, require

FORMS = "a dict, x, (x, y) or (x, y, sample_weight)"


class Form(NamedTuple):
    """The form of a batch or an example.

    Attributes:
        is_dict: Whether it is a dict.
        parts: Entries of the tuple; 0 for a dict, and for x alone.
        weighted: Whether it has weights.
    """

    is_dict: bool
    parts: int
    weighted: bool


def find_form(item: Any) -> Form:
    """Returns the form of a batch, an example, or the spec of one.

    Raises:
        TypeError: It is in none of the forms.
    """
    if isinstance(item, dict) and item:
        return Form(True, 0, WEIGHT in item)
    if not isinstance(item, dict | tuple):
        return Form(False, 0, False)
    if isinstance(item, dict) or not 1 <= len(item) <= 3 or item[0] is None:
        raise lightkeras_error(TypeError)(f"Expected data in the form of {FORMS}. Received: {item!r:.200}")
    return Form(False, len(item), len(item) == 3 and item[2] is not None)


def split_parts(batch: Batch, form: Form) -> Any:
    """Makes of a step's batch the batch as it was brought: without weights, unless weights were brought."""
    if form.is_dict:
        return {name: entry for name, entry in batch.items() if name != WEIGHT or form.weighted}
    parts = batch if form.weighted else batch[:2]
    alone = form.parts == 0 or (form.parts == 1 and not isinstance(batch[0], tuple))  # Keras takes (x,) for x
    return batch[0] if alone else tuple(parts[: form.parts])


def guess_form(batch: Batch) -> Form:
    """Returns a form for a step's batch: weights count as brought, except in a dict, where they might be an input."""
    return Form(True, 0, False) if isinstance(batch, dict) else Form(False, 3, True)


def weigh_classes(class_weight: dict[int, float] | None) -> Callable[[Any], Any]:
    """Makes a function that adds the weight of each row's class to a batch (x, y), as Keras' `fit` does.

    y has classes (rows,), (rows, 1), or one-hot rows (rows, classes). A class that is not in `class_weight` weighs 1.

    Raises:
        TypeError: `class_weight` is no dict of numbers.
        ValueError: The function gets a batch without y, with a structure as y, or with weights.
    """
    if class_weight is None:
        return lambda item: item
    by_class = isinstance(class_weight, dict) and all(isinstance(number, int) for number in class_weight)
    require(by_class, "class_weight", "a dict of weights by class (int)", class_weight, TypeError)

    def add(item):
        form = find_form(item)
        if form.parts < 2 or form.weighted or isinstance(item[1], dict | tuple | None):
            expected = "None, unless the data is (x, y) with one y and no sample_weight"
            raise ArgumentError(f"Expected `class_weight` to be {expected}. Received: class_weight={class_weight!r}")
        return item[0], item[1], _class_weights(item[1], class_weight)

    return add


def _class_weights(y: tf.Tensor, class_weight: dict[int, float]) -> tf.Tensor:
    """Returns float32 (rows,)."""
    if y.shape.rank and y.shape.rank > 1:
        y = tf.squeeze(y, -1) if y.shape[-1] == 1 else tf.argmax(y, -1)
    weights = tf.ones_like(y, tf.float32)
    for number, weight in class_weight.items():
        weights = tf.where(y == tf.cast(number, y.dtype), tf.cast(weight, tf.float32), weights)
    return weights
