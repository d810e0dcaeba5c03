"""The verifier: the promise "the same training however you split the run", tried on a task and its data."""

import contextlib
import tempfile
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from rich.console import Console

from lightkeras.callbacks import NonFiniteLossError
from lightkeras.data import stages
from lightkeras.data.brought import as_data_module
from lightkeras.task import TaskModule
from lightkeras.trainer_arguments import require_task
from lightkeras.utils.checks import require, require_choice
from lightkeras.verifier.checks import CHECKS, Finding
from lightkeras.verifier.datasets import first_examples
from lightkeras.verifier.report import Report, Result
from lightkeras.verifier.subjects import Subject

MIN_EXAMPLES = 5  # two batches of two and one of one


def check(
    task: TaskModule, data: Any, *, only: list[str] | None = None, group: str | None = None,
    deterministic: bool = False,
) -> Report:  # fmt: skip
    """Tries the promise on a task and its data: what lightkeras relies on, and what the task's author can get wrong.

    For every training, both are made again from their constructors' arguments; the two given stay as they are.

    - `same_seed`: two runs with one seed are equal. Draws outside Keras' seed generators differ between the two.
    - `replicas`, `micro_batches`: two halves of a batch, on two devices or one after the other, make the same update.
    - `eager`, `xla`, `steps_per_execution`: the step does the same op by op, compiled, and many times in a call.
    - `padding`: more rows of weight 0, with the content of other examples, change nothing.
    - `evaluation`: validation changes no weight and no seed state, and gives the same twice.
    - `retrace`: after the first epoch, nothing is traced again.
    - `overfit`: the loss of one batch falls (of one optimizer at least, where there are several).
    - `resume`: a run resumed from a checkpoint within an epoch ends as the uninterrupted run does.
    - `splits`: training, validation and test data share no example.

    `same_seed`, `evaluation`, `retrace` and `resume` take the task as it is. In `replicas`, `micro_batches`, `eager`,
    `xla`, `steps_per_execution` and `padding`, dropout is off (layers with a seed generator have their `rate`,
    `stddev`, `dropout` or `recurrent_dropout` set to 0) and every optimizer is SGD; `overfit` has dropout off.

    Args:
        task: The task.
        data: Its data: a `DataModule`, or the data itself, as for `Trainer.fit`.
        only: The names of the checks to make; None for all.
        group: Entry of a batch that no two splits may share (the number of a caption's image); None for the example
            as a whole.
        deterministic: As the Trainer's: TensorFlow uses deterministic operations for the rest of the process, and
            `same_seed` and `resume` require equality to the bit.

    Raises:
        ValueError: There are fewer than five training examples, or `only` names no check.
        Exception: The task's own error, if it cannot be trained for a few updates as it is.
    """
    require_task(task)
    data = as_data_module(data)
    for name in only or ():
        require_choice("only", name, CHECKS)
    with tempfile.TemporaryDirectory() as folder, _exact_and_quiet(), Console(stderr=True).status("") as status:
        subject, results = Subject(task, data, group, deterministic, folder), []
        _require_examples(subject)
        for name in only or CHECKS:
            status.update(f"{name}: {CHECKS[name].claim}")
            results.append(_run_check(name, subject))
    return Report(f"{type(task).__name__} on {type(data).__name__}", results)


@contextlib.contextmanager
def _exact_and_quiet() -> Iterator[None]:
    """Turns off TensorFloat-32 (it rounds to 3 digits on a GPU) and TensorFlow's warning of many traces."""
    config, logger = tf.config.experimental, tf.get_logger()
    before = config.tensor_float_32_execution_enabled(), logger.level
    config.enable_tensor_float_32_execution(False)
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        config.enable_tensor_float_32_execution(before[0])
        logger.setLevel(before[1])


def _require_examples(subject: Subject) -> None:
    size = first_examples(stages.require_dataset(subject.prepare_data("fit"), "train_dataset")).size
    require(size >= MIN_EXAMPLES, "train_dataset", f"of {MIN_EXAMPLES} examples or more", size)


def _run_check(name: str, subject: Subject) -> Result:
    """Runs one check; an error that the task raises in it, and not as it is, is a failure."""
    claim, function = CHECKS[name]
    try:
        finding = function(subject)
    except Exception as error:
        if error is subject.reference_error:
            raise
        finding = _from_error(name, error)
    return Result(name, claim, *finding)


def _from_error(name: str, error: Exception) -> Finding:
    """Fails; but a task need not be one that XLA can compile."""
    note = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if isinstance(error, NonFiniteLossError):
        note = f"a loss divides by the weight of its part of a batch, which may be 0: return (sum, weight). {note}"
    return Finding("SKIP" if name == "xla" else "FAIL", note=note)
