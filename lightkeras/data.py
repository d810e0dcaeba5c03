"""Data that is addressed, not iterated: batch k of epoch e is a pure function of (seed, e, k).

The order of an epoch is a NumPy Philox permutation keyed by (seed, epoch), cut into global batches; a short last
batch is padded with rows of weight 0. So a run resumes by starting the stream at (epoch, step), and a replica or
worker takes its rows of every global batch. `tf.data` does the reading, decoding, mapping and prefetching.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from lightkeras.checks import check, check_int
from lightkeras.hyperparameters import Hyperparameters

Batch = dict[str, tf.Tensor]
WEIGHT = "weight"
PADDING = -1


class Shard(NamedTuple):
    """The rows of a global batch that one worker reads: blocks `first` to `first + count` of `total` equal blocks.

    A block is what one replica takes in one step.
    """

    first: int = 0
    count: int = 1
    total: int = 1


WHOLE = Shard()


def permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    """The order of an epoch: a permutation of `range(size)`, int64 (size,), keyed by (seed, epoch) alone.

    Philox is counter-based (Salmon et al. 2011), so neighbouring keys give unrelated orders.
    """
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(size)


class AddressedDataset:
    """A data set cut into global batches, each with an address (epoch, step).

    Make one with `from_arrays` (in memory), `from_batches` (a function of many indices) or `from_examples` (a function
    of one index, such as the reading of a file). A batch is a dict of tensors with the batch axis first, plus
    `"weight"` (batch_size,) float32: 1 for an example, 0 for a row of padding in a short last batch. Shapes are static.

    Args:
        size: Number of examples.
        batch_size: Examples of one update, over all replicas, workers and micro-batches: the *global* batch.
        load: Function of `(dataset of index rows, epoch tensors)`; see the three constructors.
        shuffle: Whether each epoch has an order of its own.
    """

    def __init__(self, size: int, batch_size: int, load: Callable, shuffle: bool = True):
        check_int("batch_size", batch_size)
        check_int("size", size)
        self.size, self.batch_size, self.shuffle = size, batch_size, shuffle
        self.load = load

    @classmethod
    def from_arrays(cls, arrays: dict[str, Any], batch_size: int, shuffle: bool = True) -> "AddressedDataset":
        """Examples in memory: arrays by name, the example axis first and of one length in all of them."""
        check(isinstance(arrays, dict), "arrays", "a dict of arrays by name", type(arrays).__name__, TypeError)
        sizes = {name: len(array) for name, array in arrays.items()}
        check(len(set(sizes.values())) == 1, "arrays", "arrays with one common first axis", sizes)
        with tf.device("CPU"):  # it is gathered from there, and fills no GPU
            tensors = {name: tf.convert_to_tensor(array) for name, array in arrays.items()}

        def fetch(indices, epoch):
            return {name: tf.gather(tensor, indices) for name, tensor in tensors.items()}

        return cls.from_batches(fetch, next(iter(sizes.values())), batch_size, shuffle)

    @classmethod
    def from_batches(
        cls, fetch: Callable[[tf.Tensor, tf.Tensor], Batch], size: int, batch_size: int, shuffle: bool = True
    ) -> "AddressedDataset":
        """Examples made many at a time: `fetch(indices (rows,), epoch ())` gives a dict of (rows, ...) tensors."""

        def load(rows: tf.data.Dataset) -> tf.data.Dataset:
            def batch(indices, epoch):
                made = _weighted(fetch(tf.maximum(indices, 0), epoch), indices)
                _check_rows(made, indices.shape[0])
                return made

            return rows.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

        return cls(size, batch_size, load, shuffle)

    @classmethod
    def from_examples(
        cls, read: Callable[[tf.Tensor, tf.Tensor], Batch], size: int, batch_size: int, shuffle: bool = True
    ) -> "AddressedDataset":
        """Examples made one at a time: `read(index (), epoch ())` gives a dict of tensors of static shape.

        They are read in parallel and stay in order.
        """

        def load(rows: tf.data.Dataset) -> tf.data.Dataset:
            def example(index, epoch):
                return _weighted(read(tf.maximum(index, 0), epoch), index)

            def examples(indices, epoch):
                return tf.data.Dataset.from_tensor_slices((indices, tf.fill(tf.shape(indices), epoch)))

            width = rows.element_spec[0].shape[0]
            flat = rows.flat_map(examples).map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            return flat.batch(width, drop_remainder=True)

        return cls(size, batch_size, load, shuffle)

    def __len__(self) -> int:
        """Global batches in one epoch, a padded last one included."""
        return -(-self.size // self.batch_size)

    def indices(self, seed: int, epoch: int) -> np.ndarray:
        """The examples of every batch of an epoch: int64 (steps, batch_size), -1 where a row is padding."""
        order = permutation(seed, epoch, self.size) if self.shuffle else np.arange(self.size)
        table = np.full(len(self) * self.batch_size, PADDING, np.int64)
        table[: self.size] = order
        return table.reshape(len(self), self.batch_size)

    def stream(
        self, seed: int = 0, *, epoch: int = 0, step: int = 0, epochs: int | None = None, steps: int | None = None,
        shard: Shard = WHOLE,
    ) -> tf.data.Dataset:  # fmt: skip
        """The batches from address (epoch, step) on, as a `tf.data.Dataset` of dicts.

        Args:
            seed: Keys the order of every epoch.
            epoch: Epoch to begin in.
            step: Batch of that epoch to begin at.
            epochs: Epoch to end before; None goes on forever.
            steps: Batches of each epoch that are used; None for all.
            shard: The rows of each batch to give; every element holds one block of them.
        """
        check(
            self.batch_size % shard.total == 0, "batch_size",
            f"a multiple of {shard.total} (replicas): a global batch is cut into equal parts", self.batch_size,
        )  # fmt: skip
        width = self.batch_size // shard.total

        def rows(number):
            table = self.indices(seed, int(number))[step if number == epoch else 0 : steps]
            blocks = table.reshape(len(table), shard.total, width)  # (steps, blocks, rows of a block)
            return blocks[:, shard.first : shard.first + shard.count].reshape(-1, width)

        def of_epoch(number):
            table = tf.numpy_function(rows, [number], tf.int64, stateful=False)
            table = tf.ensure_shape(table, (None, width))
            return tf.data.Dataset.from_tensor_slices(table).map(lambda indices: (indices, number))

        numbers = tf.data.Dataset.range(epoch, np.iinfo(np.int64).max if epochs is None else epochs)
        return self.load(numbers.flat_map(of_epoch)).prefetch(tf.data.AUTOTUNE)

    def distributed(self, strategy: tf.distribute.Strategy, **address):
        """`stream(**address)` for every replica of `strategy`, each with its rows of the global batch."""
        total = strategy.num_replicas_in_sync
        if total == 1 and not strategy.extended._in_multi_worker_mode():
            return self.stream(**address)

        def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
            local = total // context.num_input_pipelines
            return self.stream(**address, shard=Shard(context.input_pipeline_id * local, local, total))

        return strategy.distribute_datasets_from_function(of_worker)

    @property
    def element_spec(self) -> dict[str, tf.TensorSpec]:
        """Shapes and dtypes of a global batch."""
        return self.stream(epochs=1).element_spec


def _weighted(batch: Batch, indices: tf.Tensor) -> Batch:
    """`batch` with the weight of its rows: 0 where the index is padding."""
    if not isinstance(batch, dict):
        raise TypeError(f"Expected a batch to be a dict of tensors. Received: {type(batch).__name__}")
    if WEIGHT in batch:
        raise ValueError(f'Expected a batch without "{WEIGHT}", which is added. Received: {sorted(batch)}')
    return {**batch, WEIGHT: tf.cast(indices >= 0, tf.float32)}


def _check_rows(batch: Batch, rows: int) -> None:
    wrong = [f"{name} with shape {tensor.shape}" for name, tensor in batch.items() if tensor.shape[:1] != (rows,)]
    if wrong:
        raise ValueError(f"Expected every entry of a batch to have {rows} rows. Received: {', '.join(wrong)}")


class DataModule(Hyperparameters):
    """A task's data: where it comes from, its splits, its batches.

    A subclass overrides what it has. The constructor's arguments are recorded (`hparams`), so they must be plain
    values (numbers, strings, lists): the run folder makes the data again from them.
    """

    def prepare_data(self) -> None:
        """Downloads and caches; called once per machine, so it must set no attributes."""

    def setup(self, stage: str) -> None:
        """Reads the data and makes the splits; `stage` is "fit", "validate", "test" or "predict"."""

    def train_dataset(self) -> AddressedDataset:
        """The training batches."""
        raise NotImplementedError(f"{type(self).__name__} has no `train_dataset()`.")

    def val_dataset(self) -> AddressedDataset | None:
        """The validation batches, or None for a task without validation."""
        return None

    def test_dataset(self) -> AddressedDataset | None:
        """The test batches, or None."""
        return None

    def predict_dataset(self) -> AddressedDataset | None:
        """The batches for `Trainer.predict`, or None."""
        return self.test_dataset()

    def state_dict(self) -> dict[str, Any]:
        """What a trained task needs to know of its data (a vocabulary): small, JSON values only."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes what `state_dict` gave, in the place of `setup`: the data itself may be absent."""
