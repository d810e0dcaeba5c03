"""RunSaver: the whole run into a checkpoint, beside the training."""

from typing import TYPE_CHECKING

from lightkeras.checkpoint.async_writer import CheckpointWriter
from lightkeras.runs import state
from lightkeras.runs.folder import CHECKPOINTS
from lightkeras.utils.checks import require
from lightkeras.utils.paths import Folder

if TYPE_CHECKING:
    from lightkeras.data import DataModule
    from lightkeras.runs.run import Run
    from lightkeras.task import TaskModule


class RunSaver:
    """Collects the state of task, data and callbacks; a thread writes it.

    Args:
        task, data, seed: The run's.
    """

    def __init__(self, task: "TaskModule", data: "DataModule", seed: int):
        self._task, self._data, self._seed = task, data, seed
        self._writer = CheckpointWriter()

    def save(self, run: "Run", keep: int | None = None, wait: bool = True, folder: Folder | None = None) -> str:
        """Saves the run after every callback's `before_save()`; the checkpoints that callbacks protect stay.

        Args:
            run: The run.
            keep: The newest checkpoints to keep; None keeps all.
            wait: Return when everything is on the disk.
            folder: Where to write; None for the run's checkpoints.

        Returns:
            The path of the checkpoint.

        Raises:
            CheckpointError: This checkpoint (or with `wait=False` the one before) could not be written.
        """
        require(run.folder is not None, "enable_checkpointing", "True to save a checkpoint", False)
        callbacks = run.callbacks
        callbacks.call("before_save")
        arrays, values = state.capture(self._task, self._data, callbacks.state_dict(), self._seed)
        arrays |= callbacks.arrays()
        protected = callbacks.protected_checkpoints()
        values |= {"best": next(iter(protected), None), "stopped_by": run.stopped_by}
        target = folder or run.folder / CHECKPOINTS
        path = self._writer.save(target, self._task.global_step, arrays, values, keep, protected)
        if wait:
            self.wait()
        return path

    def wait(self) -> None:
        """Returns when everything is on the disk; raises as `raise_error` does."""
        self._writer.wait()

    def raise_error(self) -> None:
        """Raises, once, the CheckpointError of a checkpoint that could not be written."""
        self._writer.raise_error()
