"""Checkpoints written beside the training: hashing and the disk take a thread of their own."""

import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from lightkeras.checkpoint import prepare_checkpoint


class CheckpointWriter:
    """Writes one checkpoint at a time in another thread; its errors are raised in the thread that saves.

    A process that ends waits for the thread. A killed one leaves the checkpoint before, as after any killed save.
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
        """Begins what `save_checkpoint` does, once the one before is written. The arrays must stay as they are.

        Returns:
            The path of the checkpoint, which is there after `wait()`.

        Raises:
            ValueError: What a checkpoint cannot hold, at once.
            CheckpointError: The checkpoint before could not be written.
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
        """Raises, once, what went wrong in the other thread: a CheckpointError."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error
