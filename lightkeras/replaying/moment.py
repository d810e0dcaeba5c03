"""A past moment of a run: the task as it stood right before an update, and the batch of that update."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from lightkeras.data.batched import BatchedDataset
from lightkeras.data.brought import BroughtData, as_data_module
from lightkeras.data.dataset import AddressedDataset
from lightkeras.data.module import DataModule
from lightkeras.data.streamed import StreamedDataset
from lightkeras.keras_models.accept import as_task
from lightkeras.replaying.recorded import Arguments, Recorded, make_data, make_task
from lightkeras.replaying.traveller import Arrived, Traveller, Unguarded
from lightkeras.runs import state
from lightkeras.task import TaskModule
from lightkeras.trainer import Trainer
from lightkeras.utils.checks import ArgumentError, require
from lightkeras.utils.messages import logger as messages


@dataclasses.dataclass(frozen=True)
class Moment:
    """A run right before an update.

    Attributes:
        task: The task, with the weights, optimizers and all other state of that moment. Of a plain Keras model, what
            stands in the place of a task; `task.model` is the model.
        data: The data module.
        step: The update that comes next, counted from 1.
        epoch, batch_number: Its address, both from 0.
        batch: The whole global batch of the update, as the step gets it.
        examples: The number of each row's example in the training data, int64 (rows,); -1 for padding. None of streamed
            data, whose examples have no numbers.
        addresses: What keys the draws of each row, int64 (rows, 2); None of a plain Keras model, whose draws have no
            keys.
        trainer: The Trainer of the replay.
        began: The update of the checkpoint from which the run was executed again; 0 for the beginning.
    """

    task: Any
    data: DataModule
    step: int
    epoch: int
    batch_number: int
    batch: Any
    examples: np.ndarray | None
    addresses: Any
    trainer: Trainer
    began: int


def replay(
    run: str | os.PathLike, step: int, *, task: Any = None, data: Any = None, batch_size: int | None = None,
    shuffle: bool = True, class_weight: dict[int, float] | None = None, validation_data: Any = None,
    trust: Iterable[str] = (), **trainer: Any,
) -> Moment:  # fmt: skip
    """Returns a run as it stood right before an update: the task is ready for a debugger.

    The run is executed again from the newest checkpoint before the update, or from its beginning, by the very loop that
    trained it. Nothing is written.

    Args:
        run: The run's folder.
        step: The update, counted from 1 as in metrics.csv.
        task: The task or the compiled Keras model; needed of a plain Keras model. None makes that of the folder.
        data, validation_data, batch_size, shuffle, class_weight: As they were given to `fit`; needed of data that was
            no `DataModule`.
        trust: Packages whose classes the folder may name; see `utils.trust`.
        trainer: Arguments of the Trainer in place of the run's: a `strategy` or `callbacks` made in Python.

    Raises:
        ValueError: The run has no such update, or its batches cannot be read again; or the data has changed.
        CheckpointError: Task or data differ from those of the run; the differences are listed.
    """
    recorded = Recorded(run)
    recorded.require_step(step)
    brought = {"validation_data": validation_data, "batch_size": batch_size, "class_weight": class_weight}
    journey = Journey(recorded, step, task, as_given(data, shuffle=shuffle, **brought), trust, trainer)
    with quietly():
        journey.travel(Traveller(step, None, journey.data))
    return journey.moment()


def as_given(data: Any, **how: Any) -> DataModule | None:
    """Returns the data module of data that is given, or None."""
    return None if data is None else as_data_module(data, **how)


class Journey:
    """A run that is executed again up to an update.

    Args:
        recorded: The run.
        step: The update.
        task, data: Those of the run; None makes them from its folder.
        trust: Packages whose classes the folder may name.
        given: Arguments of the Trainer in place of the run's.
    """

    def __init__(
        self, recorded: Recorded, step: int, task: Any, data: DataModule | None, trust: Iterable[str],
        given: dict[str, Any],
    ):  # fmt: skip
        self.recorded, self.step = recorded, step
        self.start = recorded.open_before(step)
        self.known = recorded.open_after(step) or self.start
        arguments = recorded.arguments(self.known)
        self.trust = tuple(trust)
        if task is None:
            self.task, self.trust = make_task(arguments.task, self.trust)
        else:
            self.task = as_task(task)
        self.data = self._make_data(arguments) if data is None else data
        self.trainer = self._make_trainer(given)
        for one in recorded.say_left_out(given):
            messages.warning("Not executed again, as the run's folder does not hold it: %s", one)
        self._require_same()

    def _make_data(self, arguments: Arguments) -> DataModule:
        made = make_data(arguments.data, self.trust)
        expected = "given: the run was trained on data as it is, of which its folder has only what identifies it"
        require(not isinstance(made, BroughtData), "data", expected, None)
        return made

    def _make_trainer(self, given: dict[str, Any]) -> Trainer:
        arguments = {**self.recorded.trainer_arguments(self.step, self.trust), **given}
        states = self.start.state["callbacks"].get("callbacks", {}) if self.start else {}
        decided = states.get("Compilation-1", {}).get("decision")
        if arguments.get("jit_compile", "auto") == "auto" and self.task.prefer_jit_compile is None:
            arguments["jit_compile"] = bool(decided)  # what the run found out; it is not timed again
        return Trainer(**arguments)

    def _require_same(self) -> None:
        """Raises before anything is executed if task, data or seed are not those of the run."""
        if self.known is None:
            return
        self._require_equal(state.identity(self.task, self.data, self.trainer.seed))

    def _require_same_data(self) -> None:
        """Raises before the first update if the data, which is read by now, is not that of the run."""
        require_readable(self.dataset)
        if self.known is None:
            return
        now = {"data_state": self.data.state_dict(), "steps_per_epoch": self.task.steps_per_epoch}
        self._require_equal(json.loads(json.dumps(now)))

    def _require_equal(self, now: dict[str, Any]) -> None:
        assert self.known is not None
        then = {name: self.known.state[name] for name in now}
        if found := [f"{name}: {what}" for name, what in state.differences(now, then)]:
            raise ArgumentError(
                f"Expected task and data to be those of the run {self.recorded.folder}. Received: "
                f"{'; '.join(found[:10])}"
            )

    # ---- on the way

    def travel(self, traveller: Traveller, path: str | None = None) -> None:
        """Executes the run until `traveller` has arrived: from another checkpoint, if a `path` is given."""
        traveller.check = self._require_same_data
        added = [traveller, Unguarded()]
        self.trainer.callbacks += added
        allowed = self._changes() if path is None else []
        path = self.start.path if self.start and path is None else path
        try:
            self.trainer.fit(self.task, self.data, path, allow_changes=allowed)
        except Arrived:
            return
        finally:
            for callback in added:
                self.trainer.callbacks.remove(callback)
        raise ArgumentError(
            f"Expected the run to reach update {self.step} again. Received: it ended at update {self.task.global_step}"
        )

    def _changes(self) -> list[str]:
        """Lists the arguments with which the run was resumed after the checkpoint."""
        if self.start is None or self.known is None:
            return []
        now, then = ({part: one.state[part] for part in ("task", "data")} for one in (self.known, self.start))
        return [name for name, _ in state.differences(now, then)]

    @property
    def dataset(self) -> BatchedDataset:
        """The training data, as the run uses it."""
        dataset, overfit = self.data.trained_on, self.trainer.overfit_batches
        assert dataset is not None
        return dataset.repeat_first_epoch(self.task.steps_per_epoch) if overfit else dataset

    def moment(self) -> Moment:
        """Returns the run right before its update `step`."""
        epoch, number = divmod(self.step - 1, self.task.steps_per_epoch)
        batch, addresses = self._read_batch(epoch, number)
        examples = self._examples(epoch, number)
        began = self.start.step if self.start else 0
        return Moment(
            self.task, self.data, self.step, epoch, number, batch, examples, addresses, self.trainer, began
        )  # fmt: skip

    def _read_batch(self, epoch: int, number: int) -> tuple[Any, Any]:
        at = {"seed": self.trainer.seed, "epoch": epoch, "step": number, "steps": self.task.steps_per_epoch}
        if not isinstance(self.task, TaskModule):
            return next(iter(self.dataset.as_keras(**at))), None
        stream = self.dataset.stream(**at, micro_batches=self.trainer.micro_batches, addresses=True)
        return next(iter(stream))

    def _examples(self, epoch: int, number: int) -> np.ndarray | None:
        if not isinstance(self.data.trained_on, AddressedDataset):
            return None
        table = self.data.trained_on.indices(self.trainer.seed, 0 if self.trainer.overfit_batches else epoch)
        return table[number][table[number] >= -1]


def require_readable(dataset: BatchedDataset) -> None:
    """Raises a ValueError unless batches of the past can be read again."""
    if not isinstance(dataset, StreamedDataset) or not (dataset.one_pass or dataset.unseeded):
        return
    why = "can be read only once" if dataset.one_pass else "shuffles without a seed"
    raise ArgumentError(
        "Expected data whose batches have addresses, or that gives the same batches again, to look at a past one. "
        f"Received: a {dataset.what} that {why}. What is still possible: the weights of a checkpoint, by --ckpt_path"
    )


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keeps the messages of a run that is executed again to itself."""
    before = messages.level
    messages.setLevel("WARNING")
    try:
        yield
    finally:
        messages.setLevel(before)
