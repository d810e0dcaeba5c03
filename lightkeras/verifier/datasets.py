"""The data of the checks: a few examples, more padding, and hashes of examples."""

import hashlib
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from lightkeras.data.batched import BatchedDataset
from lightkeras.data.batches import Batch, map_batch, named_entries, row_count, unpacked, weights_of
from lightkeras.data.dataset import AddressedDataset
from lightkeras.data.py_dataset import ItemBatches

MAX_ROWS = 8  # of a batch, if the task's own batches have as many
MAX_HASHED = 2000  # examples of a split


def read_examples(dataset: BatchedDataset, count: int) -> AddressedDataset:
    """Reads `count` examples (or a few more) of data that comes in batches into memory; leaves other data as it is."""
    if isinstance(dataset, AddressedDataset) and not isinstance(dataset, ItemBatches):
        return dataset
    read, batches = 0, []
    for batch in dataset.as_keras(epochs=1):
        batches.append(batch)
        read += row_count(batch) or 0
        if read >= count:
            break
    arrays = keras.tree.map_structure(lambda *parts: np.concatenate(parts), *batches)
    return AddressedDataset.from_arrays(arrays, dataset.batch_size, dataset.shuffle)


def first_examples(dataset: BatchedDataset) -> AddressedDataset:
    """Takes the first examples: two whole batches of an even number of rows, and a short one."""
    dataset = read_examples(dataset, 3 * MAX_ROWS)
    most = max(2, min(MAX_ROWS, dataset.batch_size // 2 * 2))
    sizes = {rows: 2 * rows + min(rows // 2 + 1, rows - 1) for rows in range(2, most + 1, 2)}  # each half has a row
    rows = max((rows for rows, size in sizes.items() if size <= dataset.size), default=2)
    return dataset.replace(size=min(dataset.size, sizes[rows]), batch_size=rows)


class Padded(AddressedDataset):
    """A dataset with more rows of padding in each batch; all padding has the content of other examples.

    Args:
        dataset: Batches of `dataset.batch_size` rows.
        extra_rows: The rows added to each batch.
    """

    def __init__(self, dataset: AddressedDataset, extra_rows: int):
        def load(rows: tf.data.Dataset) -> tf.data.Dataset:
            return dataset.load(rows).map(lambda *batch: _fill_padding(unpacked(batch)))

        grouped = (dataset.lengths, dataset.widths)
        super().__init__(dataset.size, dataset.batch_size + extra_rows, load, dataset.shuffle, *grouped)
        self._dataset, self._extra_rows = dataset, extra_rows

    def __len__(self) -> int:
        return len(self._dataset)

    def indices(self, seed: int, epoch: int) -> np.ndarray:
        # (batches, rows) -> (batches, rows + extra_rows)
        return np.pad(self._dataset.indices(seed, epoch), ((0, 0), (0, self._extra_rows)), constant_values=-1)


def _fill_padding(batch: Batch) -> Batch:
    """Copies rows from the other end of the batch into rows of weight 0 (invented content might be invalid)."""
    weights = weights_of(batch)
    rows = tf.range(weights.shape[0])
    order = tf.where(weights > 0, rows, rows[::-1])
    return map_batch(lambda entry: entry if entry is weights else tf.gather(entry, order), batch)


def hash_examples(dataset: BatchedDataset, group: str | None) -> set[bytes]:
    """Hashes up to `MAX_HASHED` examples (or their groups), drawn from the whole dataset if it is read by index."""
    dataset = read_examples(dataset, MAX_HASHED)
    drawn = dataset.replace(shuffle=True)
    steps = min(len(drawn), -(-MAX_HASHED // drawn.batch_size))
    batches = drawn.stream(epochs=1, steps=steps).as_numpy_iterator()
    return {code for batch in batches for code in _hash_rows(batch, group, dataset.lengths is not None)}


def _hash_rows(batch: Batch, group: str | None, padded: bool) -> Iterator[bytes]:
    weights, entries = weights_of(batch), named_entries(batch)
    names = [group] if group else sorted(name for name in entries if entries[name] is not weights)
    for row in np.flatnonzero(weights):
        parts = [entries[name][row] for name in names]
        if padded:  # to the width of this batch; the same example is elsewhere padded to another width
            parts = [np.trim_zeros(part, "b") if np.ndim(part) == 1 else part for part in parts]
        content = [repr(p).encode() if np.asarray(p).dtype == object else np.asarray(p).tobytes() for p in parts]
        yield hashlib.blake2b(b"\0".join(content), digest_size=16).digest()
