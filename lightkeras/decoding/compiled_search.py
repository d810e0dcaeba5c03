"""A network's greedy and beam searches as compiled functions, and their results as plain arrays."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from lightkeras.decoding.beams import beam_search
from lightkeras.decoding.search import Hypotheses, check_search, greedy_search
from lightkeras.text.ids import END, PAD, START

ROWS = 32  # examples that are searched at once


class FoundSequence(NamedTuple):
    """A sequence that a search found.

    Attributes:
        ids: int32 (steps,): its tokens, then the end unless the sequence was cut at its greatest length.
        score: Its log-probability in nats, the end included; of a beam search divided by the length penalty.
        attention: float32 (steps, slots): the weights with which each token was chosen.
    """

    ids: np.ndarray
    score: float
    attention: np.ndarray


class CompiledSearch:
    """Searches the sequences of a network, in functions that are compiled once and kept.

    There is one function for each combination of `beam_size`, `n_best` and the use of a coverage penalty. It is traced
    once: batches of other shapes and other penalties need no new trace. A `beam_size` of 1 searches greedily, unless
    coverage counts. A row's result depends neither on the other rows nor on padding::

        searcher = lk.decoding.CompiledSearch(network, tf.TensorSpec((None, None), tf.int32), max_length=60)
        for ranked in searcher.search([ids, other_ids], beam_size=5, n_best=2):
            best, second = ranked  # `FoundSequence`s

    Args:
        network: An object with `encode(inputs) -> states` and with `next(ids, states) -> (logits, states, attention)`,
            the function that `lightkeras.decoding.search` describes. They are traced without autograph: conditions and
            loops over tensors are `tf.cond` and `tf.while_loop`.
        inputs: The spec of a batch's inputs, rows first. If its second dimension is None, the inputs are ids, (rows,
            slots), padded with `PAD` at the right.
        max_length: The most tokens of a sequence, its end included: an int or, for inputs that are ids, a function of
            their lengths (rows,) that returns such ints (rows,).
        forbidden: Ids that are never chosen.
        start_id: The token before the first one.
        end_id: The token that ends a sequence.
    """

    def __init__(
        self,
        network: Any,
        inputs: tf.TensorSpec,
        max_length: int | Callable[[tf.Tensor], tf.Tensor],
        forbidden: Sequence[int] = (PAD, START),
        start_id: int = START,
        end_id: int = END,
    ) -> None:
        self.network, self.inputs, self.max_length = network, inputs, max_length
        self.forbidden, self.start_id, self.end_id = forbidden, start_id, end_id
        self._functions = {}

    def search(self, examples: Sequence[np.ndarray], **options) -> list[list[FoundSequence]]:
        """Searches for any number of examples, `ROWS` at once, those of similar lengths together.

        Args:
            examples: The inputs of one row each, such as ids (slots,) of different lengths.
            **options: `beam_size`, `n_best`, `length_penalty`, `coverage_penalty`: see `search_batch`.

        Returns:
            Of every example, the sequences found, the best first.

        Raises:
            ValueError: An option is out of its range.
        """
        check_search(1, **options)
        order = sorted(range(len(examples)), key=lambda place: len(examples[place]))
        found = {}
        for first in range(0, len(order), ROWS):
            places = order[first : first + ROWS]
            batch = _pad([examples[place] for place in places], self.inputs.dtype)
            found.update(zip(places, self.search_batch(batch, **options), strict=True))
        return [found[place] for place in range(len(examples))]

    def search_batch(self, inputs: np.ndarray, **options) -> list[list[FoundSequence]]:
        """Searches for the rows of one batch.

        Args:
            inputs: The inputs, as the spec describes them.
            **options: Those of `beam_search`: `beam_size`, `n_best` (both 1 by default), `length_penalty` and
                `coverage_penalty` (both 0 by default).

        Returns:
            Of every row, up to `n_best` sequences, the best first. Their attention has the slots of the row alone.
        """
        slots = np.count_nonzero(inputs != PAD, axis=1) if self._pads else [None] * len(inputs)
        return _unpack(self(inputs, **options), slots)

    def __call__(
        self,
        inputs: Any,
        beam_size: int = 1,
        n_best: int = 1,
        length_penalty: Any = 0.0,
        coverage_penalty: Any = 0.0,
    ) -> Hypotheses:
        """Returns the `Hypotheses` of a batch, (rows, n_best, ...) each, for the arguments of `search_batch`.

        Penalties may be tensors, within a graph; then coverage counts, even if its penalty is 0.
        """
        function = self._function(beam_size, n_best, tf.is_tensor(coverage_penalty) or coverage_penalty > 0)
        return function(inputs, *(tf.cast(penalty, tf.float32) for penalty in (length_penalty, coverage_penalty)))

    def max_lengths(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the most tokens of the sequence of each row, int32 (rows,)."""
        if callable(self.max_length):
            return self.max_length(tf.reduce_sum(tf.cast(inputs != PAD, tf.int32), axis=1))
        return tf.fill(tf.shape(inputs)[:1], self.max_length)

    @property
    def _pads(self) -> bool:
        """Whether the inputs are padded ids."""
        return self.inputs.shape[1] is None

    def _function(self, beam_size: int, n_best: int, covers: bool) -> Callable:
        key = (beam_size, n_best, covers)
        if key not in self._functions:
            function = functools.partial(self._search, beam_size=beam_size, n_best=n_best, covers=covers)
            penalty = tf.TensorSpec((), tf.float32)
            self._functions[key] = tf.function(
                function, input_signature=[self.inputs, penalty, penalty], autograph=False
            )
        return self._functions[key]

    def _search(self, inputs, length_penalty, coverage_penalty, beam_size, n_best, covers) -> Hypotheses:
        mask = inputs != PAD if self._pads else None  # (rows, slots)
        max_length = self.max_lengths(inputs) if callable(self.max_length) else self.max_length
        start = (self.network.next, self.network.encode(inputs), tf.fill(tf.shape(inputs)[:1], self.start_id))
        common = {"max_length": max_length, "end_id": self.end_id, "forbidden": self.forbidden}
        if beam_size == 1 and not covers:
            found = greedy_search(*start, **common)
            return tf.nest.map_structure(lambda part: part[:, None], found)  # (rows, 1, ...)
        return beam_search(
            *start, **common, beam_size=beam_size, n_best=n_best, length_penalty=length_penalty,
            coverage_penalty=coverage_penalty if covers else 0.0, attention_mask=mask,
        )  # fmt: skip


def _pad(rows: list[np.ndarray], dtype: tf.DType) -> np.ndarray:
    """Stacks rows, padded with `PAD` at the right to the longest one."""
    return keras.utils.pad_sequences(rows, dtype=dtype.as_numpy_dtype, padding="post", value=PAD)


def _unpack(found: Hypotheses, slots: Sequence[int | None]) -> list[list[FoundSequence]]:
    """Cuts every sequence to its own steps, and its attention to the slots of its row."""
    ids, _, scores, attention = (np.asarray(part) for part in found)
    steps = np.count_nonzero(attention.sum(axis=-1), axis=-1)  # (rows, n_best): no attention after the last step
    return [
        [
            FoundSequence(ids[row, n, :count], float(scores[row, n]), attention[row, n, :count, : slots[row]])
            for n, count in enumerate(steps[row])
            if np.isfinite(scores[row, n])
        ]
        for row in range(len(ids))
    ]
