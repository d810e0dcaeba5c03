"""Errors of reading examples: said in one sentence, with the example and its address.

A pipeline of `tf.data` raises errors without saying which example was read. After an error, the batches in question are
read once more, one example at a time.
"""

import contextlib
import re
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from lightkeras.data.batched import BatchedDataset
from lightkeras.data.dataset import AddressedDataset
from lightkeras.utils.checks import ArgumentError

_NODE = re.compile(  # where in TensorFlow's graph
    r"\{\{[^}]*\}\}\s*|\s*\[\[[^\]]*\]\]|\s*\[Op:.*"
    r"|Error in user-defined function passed to \S+ transformation with iterator: \S+?:\s"
)

_CARDINALITY = re.compile(  # of `tf.data.experimental.assert_cardinality`
    r"dataset was expected to contain (\d+) elements? but contained (?:only |at least )?(\d+)"
)
_OWN = re.compile(r"ArgumentError: (Expected .*)")  # raised by a reader of ours, in Python


@contextlib.contextmanager
def name_example(
    dataset: BatchedDataset, seed: int, address: Callable[[], tuple[int, int, int | None]]
) -> Iterator[None]:
    """Names the example where an error in the `with` block comes from reading `dataset`; leaves other errors alone.

    Args:
        dataset: The data that the block reads.
        seed: The seed of its stream.
        address: Returns (epoch, step, number) of the batches that were read as the error came; None for all others.

    Raises:
        ValueError: An example cannot be read; the message names it, its epoch and its batch.
    """
    try:
        yield
    except tf.errors.OpError as error:
        own = _OWN.search(error.message)
        if own:
            raise ArgumentError(_add_address(own[1], dataset, seed, *address())) from error
        fewer = _CARDINALITY.search(error.message)
        if fewer:
            raise ArgumentError(
                f"Expected the data to have {fewer[1]} batches in every epoch, as it says. Received: {fewer[2]}"
            ) from error
        if not isinstance(dataset, AddressedDataset):
            raise
        found = _find_unreadable(dataset, seed, *address())
        if found is None:
            raise
        raise ArgumentError(found) from error


def _add_address(sentence: str, dataset: BatchedDataset, seed: int, epoch: int, step: int, number: int | None) -> str:
    """Adds the batch and the epoch to a sentence that names an item."""
    item = re.search(r"^Expected item (\d+) ", sentence)
    if item is None or not isinstance(dataset, AddressedDataset):
        return sentence
    table = dataset.indices(seed, epoch)[step : None if number is None else step + number] // dataset.item_rows
    steps = np.flatnonzero((table == int(item[1])).any(axis=1))
    where = f", in batch {step + steps[0]} of epoch {epoch}" if len(steps) else ""
    return re.sub(r"\. Received: ", f"{where}. Received: ", sentence, count=1)


def _find_unreadable(dataset: AddressedDataset, seed: int, epoch: int, step: int, number: int | None) -> str | None:
    table = dataset.indices(seed, epoch)[step : None if number is None else step + number]
    steps, columns = np.nonzero(table >= 0)
    examples = table[steps, columns]
    rows = (examples[:, None], np.full(len(examples), epoch))  # batches of one example
    widths = () if dataset.lengths is None else (dataset.batch_widths(table)[steps],)
    place = 0
    try:
        stream = dataset.load(tf.data.Dataset.from_tensor_slices((*rows, *widths)))
        for _ in stream:  # in order: the error comes after the examples before it
            place += 1
    except tf.errors.OpError as error:
        reason, batch = first_line(error.message), step + steps[place]
        return (
            f"Expected every example to be readable. Received: example {examples[place]}, in batch {batch} of epoch "
            f"{epoch}: {reason}"
        )
    except (TypeError, ValueError):  # a function that makes whole batches only
        return None
    return None


def first_line(message: str) -> str:
    """Returns the first line of TensorFlow's error message that says something, without places in its graph."""
    lines = (_NODE.sub("", line).strip() for line in message.split("\n"))
    return next((line for line in lines if line), "an error without a message")
