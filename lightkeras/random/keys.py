"""What a draw is keyed by: within a step the seed of the run, the stage and the addresses of the rows; else given keys.

A loop calls its step within `keyed_draws`, in the thread of each replica. The address of a row is int64 (index, epoch):
the example's number in its data set (the row's number in an epoch, where examples have none), -1 for padding.
"""

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import tensorflow as tf

from lightkeras.utils import internals
from lightkeras.utils.checks import ArgumentError, require, require_int

WORD = 2**32
_ODD = 0x9E3779B1  # multiplied by it, different seeds stay different words of 32 bits, far from each other
_thread = threading.local()


class Key(NamedTuple):
    """The words that a draw's numbers are a function of: uint32 (rows, 1) twice, and the word of the stream."""

    row: tuple[tf.Tensor, tf.Tensor]
    stream: int


class KeyedStep:
    """The step that a thread runs.

    Args:
        address: Address of every row, int64 (rows, 2).
        seed: The run's seed.
        stage: "train", "val", "test" or "predict".
        unnamed: Draws without a stream that the step has made before.
    """

    def __init__(self, address: tf.Tensor, seed: int, stage: str, unnamed: int = 0):
        self.address, self.seed, self.stage, self.unnamed = address, seed, stage, unnamed
        self.named_only = False
        self._graph = internals.current_graph()

    def key(self, batch: Any, stream: int | str | None, seed: int | None) -> Key:
        """Returns the key of the next draw; see `draw_key`."""
        self._require_rows(batch)
        self._require_place(stream)
        place = ("unnamed", self.unnamed) if stream is None else stream
        self.unnamed += stream is None
        word = hashlib.blake2b(f"{self.stage} {place!r}".encode(), digest_size=4).digest()
        return _key(self.address, int.from_bytes(word, "little"), self.seed if seed is None else seed)

    def _require_rows(self, batch: Any) -> None:
        flat = [one for one in tf.nest.flatten(batch) if one is not None]
        require(bool(flat), "batch", "the batch of the step", batch)
        if tf.is_tensor(batch) and _may_be_keys(batch):
            raise ArgumentError(
                "Expected `batch` to be the batch of the step: its addresses key the draw, and keys are for draws "
                f"outside of a step. Received: one tensor of integers, shape {batch.shape}, which looks like keys"
            )
        rows, known = tf.TensorShape(flat[0].shape)[:1], self.address.shape[:1]
        require(rows.is_compatible_with(known), "batch", f"rows of the step's batch, {known[0]}", rows[0])

    def _require_place(self, stream: int | str | None) -> None:
        """Rejects a draw whose number in the step depends on how often Python runs the code around it."""
        graphs = internals.graphs_within(self._graph)
        if any(internals.is_function_graph(graph) for graph in graphs):
            raise ArgumentError(
                "Expected draws outside of a `tf.function` of your own, which keeps those of its first call. Received: "
                "a draw within one. The Trainer compiles the whole step: leave the decorator out"
            )
        if stream is None and (graphs or self.named_only):
            where = "a function that is computed again for its gradient" if self.named_only else "a loop or branch"
            raise ArgumentError(
                f"Expected a `stream` for a draw within {where} of TensorFlow: give it a name, or draw before. "
                "Received: stream=None"
            )


def current_step() -> KeyedStep | None:
    """Returns the step that this thread runs; None outside of a step."""
    return getattr(_thread, "step", None)


@contextlib.contextmanager
def _entered(step: KeyedStep | None) -> Iterator[None]:
    before, _thread.step = current_step(), step
    try:
        yield
    finally:
        if current_step() is step:
            _thread.step = before


def keyed_draws(address: tf.Tensor | None, seed: int = 0, stage: str = "train") -> contextlib.AbstractContextManager:
    """Keys the draws in its `with` block, which is one step. The library's loops do so; do it to try a loss function.

    Args:
        address: Address of every row, int64 (rows, 2): (index, epoch). None for the step of a plain Keras model, whose
            draws are not keyed.
        seed: The run's seed.
        stage: "train", "val", "test" or "predict".
    """
    if address is None:
        return contextlib.nullcontext()
    return _entered(KeyedStep(address, seed, stage))


def split_draws(split: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[Any], contextlib.AbstractContextManager]:
    """Cuts the step into parts, whose draws are those of the whole.

    Args:
        split: Cuts the address (rows, 2) as the batch is cut: (parts, rows of a part, 2).

    Returns:
        A function of a part's index that keys the draws in its `with` block by the addresses of that part. However
        often it is called, the draws of a part are numbered from where the step was before the first.
    """
    whole = current_step()
    if whole is None:
        return lambda index: contextlib.nullcontext()
    addresses, before = split(whole.address), whole.unnamed

    @contextlib.contextmanager
    def keyed_part(index):
        part = KeyedStep(addresses[index], whole.seed, whole.stage, before)
        with _entered(part):
            yield
        whole.unnamed = part.unnamed

    return keyed_part


class KeyedBatches:
    """The batches of an evaluation: while one of them is in use, draws are keyed by the addresses of its rows.

    Iterating gives the batches; methods of a `tf.data.Dataset`, such as `take`, give data sets without addresses.

    Args:
        pairs: A `tf.data.Dataset` of pairs: a batch, and the addresses of its rows.
        seed, stage: As of `KeyedStep`.
    """

    def __init__(self, pairs: tf.data.Dataset, seed: int, stage: str):
        self._pairs, self._seed, self._stage = pairs, seed, stage

    def __iter__(self) -> Iterator[Any]:
        for batch, address in self._pairs:
            with keyed_draws(address, self._seed, self._stage):
                yield batch

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._pairs.map(lambda batch, address: batch), name)


@contextlib.contextmanager
def named_draws_only() -> Iterator[None]:
    """Rejects draws without a stream in its `with` block: gradients, which may run code of the step once more."""
    step = current_step()
    if step is None:
        yield
        return
    before, step.named_only = step.named_only, True
    try:
        yield
    finally:
        step.named_only = before


def draw_key(batch: Any, stream: int | str | None, seed: int | None) -> Key:
    """Returns the key of a draw.

    Args:
        batch: Within a step its batch, or anything with the same rows. Elsewhere keys: integers (rows, 2).
        stream: Names the draw; None numbers it within the step, and is 0 elsewhere.
        seed: None for the run's within a step, and 0 elsewhere.

    Raises:
        ValueError: A wrong argument, or a draw at a place where its number is not certain.
    """
    if stream is not None and not isinstance(stream, str):
        _require_word("stream", stream)
    if seed is not None:
        _require_word("seed", seed)
    step = current_step()
    if step is not None:
        return step.key(batch, stream, seed)
    if not (tf.is_tensor(batch) or hasattr(batch, "__array__")) or not _may_be_keys(
        batch := tf.convert_to_tensor(batch)
    ):
        given = f"shape {batch.shape}, {batch.dtype.name}" if tf.is_tensor(batch) else type(batch).__name__
        raise ArgumentError(
            "Expected `batch` to be keys outside of a step, integers (rows, 2): only within `train_step`, `test_step`, "
            "`predict_step` and the loop over the batches of `score` has a row an address (to call a loss function "
            f"yourself, do it within `lk.random.keyed_draws`). Received: {given}"
        )
    if isinstance(stream, str):
        stream = int.from_bytes(hashlib.blake2b(stream.encode(), digest_size=4).digest(), "little")
    return _key(batch, stream or 0, seed or 0)


def _may_be_keys(tensor: tf.Tensor) -> bool:
    return tensor.dtype.is_integer and tensor.shape.rank == 2 and tensor.shape[1] == 2


def _require_word(name: str, value: Any) -> None:
    require_int(name, value, minimum=0)
    require(value < WORD, name, "below 2**32", value)


def _key(address: tf.Tensor, stream: int, seed: int) -> Key:
    words = tf.cast(address, tf.uint32)
    return Key((words[:, :1], words[:, 1:] ^ tf.constant(seed * _ODD % WORD, tf.uint32)), stream)
