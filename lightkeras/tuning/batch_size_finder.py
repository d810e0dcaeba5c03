"""The largest global batch that fits into memory, found by trying sizes, each in a process of its own."""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from lightkeras.callbacks import Callback
from lightkeras.configuration import Configuration, to_written
from lightkeras.task import TaskModule
from lightkeras.utils.checks import lightkeras_error, require, require_int
from lightkeras.utils.files import read_json, write_json
from lightkeras.utils.processes import exit_with_parent, explain_exit, run_module, was_killed
from lightkeras.utils.trust import environment

MODULE = "lightkeras.tuning.batch_size_finder"
UPDATES = 3  # of a try: the first ones allocate the memory that stays in use
TRAINER = {
    "logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
    "limit_val_batches": 0, "num_sanity_val_steps": 0, "max_epochs": None, "max_steps": UPDATES, "callbacks": None,
    "steps_per_execution": 1, "overfit_batches": 0, "limit_train_batches": 1.0, "fast_dev_run": False,
}  # fmt: skip


class Try(NamedTuple):
    """The result of trying one size.

    Attributes:
        batch_size: Examples of a global batch.
        fits: Whether the updates succeeded.
        examples_per_second: Speed of the last update; None if the batch does not fit.
        all_data: Whether the whole training data is one batch.
    """

    batch_size: int
    fits: bool
    examples_per_second: float | None
    all_data: bool


def find_batch_size(
    task_class: type[TaskModule], *, data_class: type | None = None, task: dict | None = None, data: dict | None = None,
    trainer: dict | None = None, start: int = 32, most: int = 4096, refine: int = 3, isolate: bool = True,
    tried: Callable[[Try], None] | None = None,
) -> int:  # fmt: skip
    """Finds the largest `batch_size` of the data that fits into the memory of the Trainer's devices.

    The size is doubled until memory is exhausted, then the gap is halved `refine` times. It is the global batch: under
    MirroredStrategy, sizes are multiples of replicas and micro-batches.

    Args:
        task_class: The task.
        data_class: Its data's class, which takes `batch_size`; None for the task's.
        task, data, trainer: Their arguments that are not the defaults.
        start: The first size, rounded down to a multiple.
        most: The largest size to try.
        refine: How often to halve the gap between the largest size that fits and the smallest that does not.
        isolate: Whether each try has a process of its own: if not, exhausting the machine's main memory ends this
            process.
        tried: Called with each `Try`.

    Raises:
        MemoryError: Not even the smallest size fits.
        ChildProcessError: A try failed for another reason than memory.
    """
    require_int("start", start)
    require_int("most", most, minimum=start)
    require_int("refine", refine, minimum=0)
    data_class = data_class or task_class.data_module
    config = {"task": task or {}, "data": data or {}, "trainer": {**(trainer or {}), **TRAINER}}
    configuration = Configuration(task_class, data_class)
    config = configuration.validate(config)
    require("batch_size" in config["data"], "data_class", "one with a `batch_size`", data_class.__name__)
    job = to_written(config, task_class, data_class)

    def try_size(size: int) -> Try:
        found = _try_isolated(job, size, configuration.trust) if isolate else _try_size(job, size)
        if tried:
            tried(found)
        return found

    multiple = _required_multiple(config["trainer"])
    return _search(try_size, max(1, start // multiple) * multiple, most, multiple, refine)


def _required_multiple(trainer: dict) -> int:
    """Returns the number that must divide batch sizes, without occupying a GPU."""
    require(trainer["strategy"] != "multi_worker", "trainer.strategy", '"auto" or "mirrored"', trainer["strategy"])
    devices = trainer["devices"]
    if devices == "auto":
        devices = len(tf.config.list_physical_devices("GPU")) or 1
    replicas = len(devices) if isinstance(devices, list) else devices
    return replicas * trainer["micro_batches"]


def _search(try_size: Callable[[int], Try], start: int, most: int, multiple: int, refine: int) -> int:
    """Doubles the size until it does not fit, then halves the gap; returns the largest size that fits."""
    size, largest, too_large = start, 0, 0  # 0: none yet
    while not too_large and size <= most:
        found = try_size(size)
        if not found.fits:
            too_large = size
        else:
            largest, size = size, 2 * size
        if found.fits and found.all_data:
            return largest
    if not largest:
        refine = 99  # below the start, down to one multiple
    for _ in range(refine if too_large else 0):
        middle = (largest + too_large) // 2 // multiple * multiple
        if middle in (0, largest):
            break
        largest, too_large = (middle, too_large) if try_size(middle).fits else (largest, middle)
    if not largest:
        raise lightkeras_error(MemoryError)(f"Expected a batch of {multiple} to fit into memory. Received: it does not")
    return largest


class _Clock(Callback):
    """Measures the seconds of the last update."""

    accepts_many_steps = True
    seconds = 0.0

    def on_train_batch_begin(self, batch, logs=None):
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        dict(logs or {}).items()  # waits for the device
        self.seconds = time.perf_counter() - self._began


def _try_size(job: dict, size: int) -> Try:
    """Makes a few updates with batches of `size`."""
    configuration, arguments = Configuration.read(job)
    arguments["data"]["batch_size"] = size
    objects = configuration.build(arguments)
    clock = _Clock()
    objects.trainer.callbacks.append(clock)
    try:
        objects.trainer.fit(objects.task, objects.data)
    except Exception as error:
        if is_out_of_memory(error):
            return Try(size, False, None, False)
        raise
    finally:
        tf.keras.backend.clear_session()
    return Try(size, True, size / clock.seconds, objects.task.steps_per_epoch == 1)


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error says that memory is exhausted: of TensorFlow, XLA, CUDA or NumPy."""
    known = isinstance(error, MemoryError | tf.errors.ResourceExhaustedError)
    text = str(error)
    return known or any(sign in text for sign in ("RESOURCE_EXHAUSTED", "OOM when allocating", "OUT_OF_MEMORY"))


def _try_isolated(job: dict, size: int, trust: tuple[str, ...]) -> Try:
    """Does what `_try_size` does, in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_json(folder / "job.json", job)
        code, received = run_module(
            MODULE, str(folder), str(size), log=folder / "log.txt", environment=environment(trust)
        )
        if received:
            raise KeyboardInterrupt
        found = read_json(folder / "try.json")
        if found is None and was_killed(code):
            return Try(size, False, None, False)  # by the system, for its memory
        if found is None:
            why = explain_exit(code, folder / "log.txt")
            raise lightkeras_error(ChildProcessError)(f"Expected updates with batch_size={size}. Received: {why}")
    return Try(*found)


def main(arguments: list[str]) -> int:
    """Runs the process of a try: `FOLDER SIZE PARENT`; returns the exit code."""
    folder, size, parent = arguments
    exit_with_parent(int(parent))
    write_json(Path(folder) / "try.json", _try_size(read_json(Path(folder) / "job.json"), int(size)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
