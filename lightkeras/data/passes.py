"""Passes over streamed data: whether a pass gives the same batches again, and how long a resume reads."""

import time
from typing import Any

import numpy as np
import tensorflow as tf

from lightkeras.data.batches import map_batch, named_entries
from lightkeras.data.fingerprint import digest
from lightkeras.utils.messages import logger


class Passes:
    """Digests of the first batches of passes.

    Args:
        what: Names the data in messages.
        equal: Whether passes of one run should begin with the same batch: nothing in the data shuffles anew.
    """

    def __init__(self, what: str, equal: bool = False):
        self._what, self._equal = what, equal
        self._digests: dict[int, str] = {}
        self._expected: dict[int, str] = {}
        self._began = 0.0

    def state(self, number: int) -> dict[str, str]:
        """The digests of pass 0 and of pass `number`, in JSON's types; without those that are not known."""
        return {str(one): self._digests[one] for one in sorted({0, number}) if one in self._digests}

    def expect(self, state: dict[str, str]) -> None:
        """Takes the digests that the resumed run has seen: a pass that differs raises a warning."""
        self._expected = {int(number): value for number, value in state.items()}

    def noted(self, batches: tf.data.Dataset, number: Any, done: int) -> tf.data.Dataset:
        """The batches of a pass from batch `done` on, as (number of the pass, of the batch, batch).

        The first batch of all is noted; so is how long it took to read those before `done`.
        """
        number = tf.cast(number, tf.int64)
        numbered = batches.enumerate().map(lambda index, item: self._note(number, index, item))
        if not done:
            return numbered
        logger.info("Resuming at batch %d of the %s: the batches before are read again.", done, self._what)
        return numbered.skip(done).map(lambda *numbered: self._report(done, *numbered))

    def _note(self, number: tf.Tensor, index: tf.Tensor, item: Any) -> tuple:
        entries = list(named_entries(item).values())
        return number, index, _at(index, 0, self._keep, [number, *entries], item)

    def _report(self, done: int, number: tf.Tensor, index: tf.Tensor, item: Any) -> tuple:
        return number, index, _at(index, done, self._say_time, [index], item)

    def _say_time(self, done: np.ndarray) -> np.int64:
        logger.info("Read past %d batches in %.1f s.", done, time.perf_counter() - self._began)
        return np.int64(0)

    def _keep(self, number: np.ndarray, *entries: np.ndarray) -> np.int64:
        self._began = time.perf_counter()
        self.note(int(number), entries)
        return np.int64(0)

    def note(self, number: int, entries: Any) -> None:
        """Keeps the digest of the first batch of a pass, and says so if it is not that of the resumed run, or differs
        from pass 0 where passes should be equal.
        """
        found = digest(entries)
        if self._expected.pop(number, found) != found:
            logger.warning(
                "The %s differs from that of the run that is resumed: pass %d begins with another batch. The run goes "
                "on, but not to the same bits. Give every shuffle a seed, and `reshuffle_each_iteration=False` where "
                "training and validation share one.",
                self._what, number,
            )  # fmt: skip
        if self._equal and self._digests.get(0, found) != found:
            self._equal = False  # once
            logger.warning(
                "The %s begins with another batch in pass %d than in pass 0, and no `shuffle` is in it: something "
                "draws at random (an augmentation, a generator of its own). A stopped run resumes to the same bits "
                "only if that draws the same in another process: give it a seed, as `tf.random.stateless_uniform` has.",
                self._what, number,
            )  # fmt: skip
        self._digests = {one: value for one, value in self._digests.items() if one in (0, number - 1)}
        self._digests[number] = found


def _at(index: tf.Tensor, wanted: int, function: Any, arguments: list[tf.Tensor], item: Any) -> Any:
    """Returns `item`, after a call of `function` (in Python) if the index is the wanted one."""

    def call():
        return tf.ensure_shape(tf.numpy_function(function, arguments, tf.int64), ())

    called = tf.cond(index == wanted, call, lambda: tf.constant(0, tf.int64))
    with tf.control_dependencies([called]):
        return map_batch(tf.identity, item)
