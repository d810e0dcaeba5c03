"""Iterables of batches: generators, and objects that give an iterator for each pass, such as torch's DataLoader."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

import tensorflow as tf

from lightkeras.data.forms import weigh_classes
from lightkeras.data.items import ItemSpec, to_arrays
from lightkeras.data.streamed import StreamedDataset
from lightkeras.utils.checks import ArgumentError, require

FIRST = 2  # batches that show which axes differ


def from_iterable(source: Iterable, class_weight: dict[int, float] | None = None) -> StreamedDataset:
    """Makes a data set of an iterable of batches (in the forms of Keras' `fit`).

    A generator is read once, through all epochs; anything else that can be iterated over is begun anew for each epoch.

    Raises:
        ValueError: It is empty, or its batches have no common form.
    """
    what, once = type(source).__name__, iter(source) is source
    iterator = iter(source)
    first = [_as_arrays(what, number, batch) for number, batch in enumerate(itertools.islice(iterator, FIRST))]
    require(bool(first), "data", "data with batches", f"an empty {what}")
    spec = ItemSpec(what, first, batched=True)
    passes: Callable[[], Iterator] = lambda: itertools.chain(first, iterator) if once else iter(source)  # noqa: E731

    def batches():
        for number, batch in enumerate(_named(what, passes())):
            yield tuple(spec.flatten(number, _as_arrays(what, number, batch)))

    entries = tuple(tf.TensorSpec(one.shape, one.dtype) for one in spec.entries.values())
    made = tf.data.Dataset.from_generator(batches, output_signature=entries)
    weigh = weigh_classes(class_weight)
    made = made.map(lambda *entries: weigh(spec.pack(entries)))
    length = len(source) if isinstance(source, Sized) and not once else None
    return StreamedDataset(made, length, what, one_pass=once)


def _named(what: str, batches: Iterator) -> Iterator:
    """Passes batches on; an error names the batch."""
    for number in itertools.count():
        try:
            batch = next(batches)
        except StopIteration:
            return
        except Exception as error:
            text = " ".join(str(error).split())
            raise ArgumentError(
                f"Expected batch {number} of the {what} to be readable. Received: {type(error).__name__}: {text}"
            ) from error
        yield batch


def _as_arrays(what: str, number: int, batch: Any) -> Any:
    """Converts a batch to arrays; a list is a tuple, as in Keras."""
    arrays = to_arrays(tuple(batch) if isinstance(batch, list) else batch)
    flat = tf.nest.flatten(arrays)
    if any(one is not None and one.ndim == 0 for one in flat):
        raise ArgumentError(
            f"Expected item {number} of the {what} to be a batch, rows first. Received: an entry without axes"
        )
    return arrays
