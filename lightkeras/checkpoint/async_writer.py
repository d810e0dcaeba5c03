"""Writes checkpoints beside the training: a thread hashes and waits for the disk."""

import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from lightkeras.checkpoint import prepare_checkpoint


class CheckpointWriter:
    """Writes one checkpoint at a time in another thread; errors are raised in the thread that saves.

    A process waits for the thread before it ends. If it is killed, the previous checkpoint stays.
    """

    def __init__(self):
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def save(
        self,
        folder: str | os.PathLike,
        step: int,
        arrays: dict[str, np.ndarray],
        state: dict[str, Any],
        keep: int | None = None,
        protect: Iterable[str] = (),
    ) -> str:
        """Starts to save a checkpoint, once the previous one is written. The arrays must not change meanwhile.

        Returns:
            The path of the checkpoint, which is there after `wait()`.

        Raises:
            ValueError: A checkpoint cannot hold an array or a value; raised at once.
            CheckpointError: The previous checkpoint could not be written.
        """
        self.wait()
        path, write = prepare_checkpoint(folder, step, arrays, state, keep, protect)
        self._thread = threading.Thread(target=self._run, args=(write,), name="checkpoint writer")
        self._thread.start()
        return path

    def _run(self, write: Callable[[], str]) -> None:
        try:
            write()
        except BaseException as error:
            self._error = error

    def wait(self) -> None:
        """Returns when everything is on the disk; raises as `raise_error` does."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.raise_error()

    def raise_error(self) -> None:
        """Raises, once, the CheckpointError of the other thread."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error
