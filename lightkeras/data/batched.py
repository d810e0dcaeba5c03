"""What every data set has, whether its batches have addresses or are streamed: batches for replicas and workers."""

import abc
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import numpy as np
import tensorflow as tf

from lightkeras.data.addressing import WHOLE, Shard
from lightkeras.data.batches import batch_spec
from lightkeras.data.forms import Form
from lightkeras.data.passes import Passes
from lightkeras.utils import internals
from lightkeras.utils.checks import lightkeras_error, nearest_multiples, require


class Reading(NamedTuple):
    """How data is read, and what that promises.

    Attributes:
        how: Says how.
        condition: On what the promises depend: " if ...".
        instead: The sentence of data for which they do not hold.
    """

    how: str
    condition: str = ""
    instead: str = ""

    def describe(self, promise: str) -> str:
        """Says it in a line; `promise` is the beginning of the sentence of what holds."""
        return f"{self.how}. {self.instead or f'{promise}{self.condition}.'}"


class BatchedDataset(abc.ABC):
    """A data set of global batches, in epochs.

    Attributes:
        batch_size: Rows of a global batch.
        shuffle: Whether each epoch has an order of its own.
        gather_from_memory: None, or a function of a row of indices (rows,) that gathers a batch from arrays in memory.
        form: The form in which the data was brought; None where it is not known.
        identity: What identifies data that was brought, in JSON's types.
        passes: Keeps digests, for data that may differ from pass to pass.
        reading: How data that was brought is read; None for data sets of the library's own making.
    """

    batch_size: int
    shuffle: bool
    gather_from_memory: Callable | None = None
    form: Form | None = None
    identity: dict[str, Any] | None = None
    reading: Reading | None = None
    passes: Passes | None = None

    @abc.abstractmethod
    def __len__(self) -> int:
        """Global batches in one epoch, a short last one included."""

    @abc.abstractmethod
    def replace(self, **arguments) -> Self:
        """The same examples with other `arguments` of the constructor."""

    @abc.abstractmethod
    def repeat_first_epoch(self, steps: int) -> Self:
        """The first `steps` batches of the first epoch, in every epoch."""

    @abc.abstractmethod
    def in_order(self, rows: np.ndarray) -> np.ndarray:
        """Puts one row per row of every batch, padding included, into the order of the examples."""

    @abc.abstractmethod
    def stream(
        self, seed: int = 0, *, epoch: int = 0, step: int = 0, epochs: int | None = None, steps: int | None = None,
        shard: Shard = WHOLE, micro_batches: int = 1, addresses: bool = False,
    ) -> tf.data.Dataset:  # fmt: skip
        """The batches from (epoch, step) on; with `addresses`, pairs: a batch, and int64 (rows, 2).

        The address of a row keys its random numbers: (example, epoch), where examples have no number that of the row in
        the epoch (`addressing.number_rows`).
        """

    @abc.abstractmethod
    def as_keras(self, **address) -> tf.data.Dataset:
        """The batches of `stream(**address)` as Keras' `fit` has them: as they were brought, the last one short."""

    def index_table(self, seed: int, epoch: int, steps: int | None = None, micro_batches: int = 1) -> np.ndarray:
        """The rows of indices that `gather_from_memory` takes for the batches of an epoch: int64 (steps, rows)."""
        raise lightkeras_error(NotImplementedError)(f"{type(self).__name__} is not in memory.")

    def require_multiple(self, parts: int) -> None:
        """Raises ValueError unless a batch can be cut into `parts` equal parts (replicas times micro-batches)."""
        near = nearest_multiples(self.batch_size, parts)
        expected = f"a multiple of {parts} (replicas x micro_batches), such as {near}"
        require(self.batch_size % parts == 0, "batch_size", expected, self.batch_size)

    def replica_stream(self, strategy: tf.distribute.Strategy, **address):
        """`stream(**address)` for every replica of `strategy`, each with its rows of the global batch.

        Elements are pairs: a batch, and the addresses of its rows, int64 (rows, 2).
        """
        address["addresses"] = True
        total = strategy.num_replicas_in_sync
        if total == 1 and not internals.has_workers(strategy):
            return self.stream(**address)
        return strategy.distribute_datasets_from_function(lambda context: self._local_stream(context, total, address))

    def worker_stream(self, strategy: tf.distribute.Strategy, **address) -> tf.data.Dataset:
        """`stream(**address)` with this worker's rows of every batch, one replica's at a time; all in one process.

        Elements are pairs, as in `replica_stream`.
        """
        address["addresses"] = True
        if not internals.has_workers(strategy):
            return self.stream(**address)
        return self._local_stream(internals.input_context(strategy), strategy.num_replicas_in_sync, address)

    def _local_stream(self, context: tf.distribute.InputContext, total: int, address: dict) -> tf.data.Dataset:
        local = total // context.num_input_pipelines
        return self.stream(**address, shard=Shard(context.input_pipeline_id * local, local, total))

    def prediction_stream(self, strategy: tf.distribute.Strategy, steps: int) -> Any:
        """The first `steps` batches, whose outputs `in_order` puts in order."""
        return self.replica_stream(strategy, epochs=1, steps=steps)

    @functools.cached_property
    def _streams(self) -> dict[tuple, Any]:
        return {}

    def cached_stream(self, strategy: tf.distribute.Strategy, steps: int, by_replica: bool) -> Any:
        """The first `steps` batches of epoch 0, kept for later evaluations: a new pipeline would be traced anew.

        Args:
            strategy: Strategy whose replicas or workers take the batches.
            steps: Number of batches.
            by_replica: True for `replica_stream`, False for `worker_stream`.
        """
        key = (strategy, steps, by_replica)
        if key not in self._streams:
            make = self.replica_stream if by_replica else self.worker_stream
            self._streams[key] = make(strategy, epochs=1, steps=steps)
        return self._streams[key]

    @functools.cached_property
    def element_spec(self) -> Any:
        """A structure of `tf.TensorSpec` of a global batch. The first access builds a pipeline; later ones do not."""
        return batch_spec(self.stream(epochs=1).element_spec)
