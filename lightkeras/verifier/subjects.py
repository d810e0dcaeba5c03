"""The subject of the checks: fresh copies of a task and its data, changed as a check needs, and trained briefly."""

import contextlib
import copy
import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from lightkeras import callbacks as cb
from lightkeras.data import stages
from lightkeras.data.brought import BroughtData
from lightkeras.data.module import DataModule
from lightkeras.data.named_sets import map_sets
from lightkeras.task import TaskModule
from lightkeras.trainer import seed_everything
from lightkeras.utils import internals
from lightkeras.utils.seeds import seeded
from lightkeras.verifier.comparison import Difference, compare_repeated
from lightkeras.verifier.datasets import Padded, first_examples
from lightkeras.verifier.short_run import ShortRun, train

STEPS_PER_EPOCH = 3  # two whole batches and a short one
UPDATES = 2 * STEPS_PER_EPOCH
LEARNING_RATE, CLIP_NORM = 0.1, 1.0  # of the SGD with which cuts are compared
REPEATED = 1e-6  # allowed difference of two equal runs; 0 with deterministic operations
RANDOM_ATTRIBUTES = ("rate", "stddev", "dropout", "recurrent_dropout")  # how random a layer is


@dataclasses.dataclass
class Subject:
    """A task and its data, from which fresh copies are made and trained.

    The two references are trained once, when a check first asks for them.

    Attributes:
        task: The task; it stays as it is.
        data: Its data; they stay as they are.
        group: Entry of a batch that no two splits may share, or None.
        deterministic: Whether all runs use deterministic operations.
        folder: An empty folder for checkpoints.
        reference_error: The error with which a reference could not be trained, or None.
    """

    task: TaskModule
    data: DataModule
    group: str | None
    deterministic: bool
    folder: str
    reference_error: Exception | None = None

    @property
    def has_evaluation(self) -> bool:
        """Whether the task has a `test_step`."""
        return type(self.task).test_step is not TaskModule.test_step

    @property
    def allowed_if_repeated(self) -> float:
        """The difference that two equal runs may have."""
        return 0.0 if self.deterministic else REPEATED

    # ---- copies

    def copy_task(self, process_seed: int = 0) -> TaskModule:
        """Makes the task again, in what is a new process to everything that draws from the global generators."""
        seed_everything(process_seed)
        return type(self.task)(**copy.deepcopy(self.task.init_args))

    def copy_data(self) -> DataModule:
        """Makes the data again; data that was brought stays the same."""
        if isinstance(self.data, BroughtData):
            return copy.copy(self.data)
        return type(self.data)(**copy.deepcopy(self.data.init_args))

    def copy_few_data(self, extra_rows: int = 0) -> DataModule:
        """Makes the data again with a few examples; every batch gets `extra_rows` rows of padding."""
        data = self.copy_data()
        train_dataset, val_dataset = data.train_dataset, data.val_dataset

        def shorten(dataset, name):
            dataset = stages.convert(dataset, data, name)
            return Padded(first_examples(dataset), extra_rows) if extra_rows else first_examples(dataset)

        def shorten_validation():
            given = val_dataset()
            if given is None:
                return shorten(train_dataset(), "train_dataset")
            like = stages.convert(train_dataset(), data, "train_dataset").element_spec
            return map_sets(lambda one: shorten(one, "val_dataset"), given, like)

        data.train_dataset = lambda: shorten(train_dataset(), "train_dataset")
        data.val_dataset = shorten_validation
        return data

    def prepare_data(self, stage: str) -> DataModule:
        """Makes the data again with all examples, ready for `stage`."""
        data = self.copy_data()
        data.prepare_data()
        with seeded(self.task.seed):  # as the Trainer does
            data.setup(stage)
        return data

    # ---- trainings

    def train(self, task: TaskModule, data: DataModule, **arguments: Any) -> ShortRun:
        """Trains for `UPDATES` updates, without validation if the task has none."""
        defaults = {"max_steps": UPDATES, "deterministic": self.deterministic}
        if not self.has_evaluation:
            defaults["limit_val_batches"] = 0
        return train(task, data, **{**defaults, **arguments})

    def train_unmodified(self, process_seed: int) -> ShortRun:
        """Trains a copy of the task as it is, in what is a new process to the global generators."""
        task = self.copy_task(process_seed)
        return self.train(task, self.copy_few_data(), callbacks=[ReseedGlobals(process_seed)])

    def train_comparable(self, extra_rows: int = 0, **cut: Any) -> ShortRun:
        """Trains a copy without randomness, by SGD; `cut` are the Trainer's arguments that cut the run."""
        task = self.copy_task()
        wrap_method(task, "configure_model", lambda configure, data: (configure(data), disable_randomness(task)))
        wrap_method(task, "configure_optimizers", lambda configure: use_sgd(configure()))
        return self.train(task, self.copy_few_data(extra_rows), gradient_clip_val=CLIP_NORM, **cut)

    def train_with_checkpoints(
        self, task: TaskModule, process_seed: int, *callbacks: cb.Callback, **resume: Any
    ) -> ShortRun:
        """Trains the task as it is, with checkpoints within the epochs."""
        checkpoints = cb.ModelCheckpoint(None, save_top_k=0, every_n_steps=2, keep_last=UPDATES)
        no_samples = cb.SampleWriter(every_n_epochs=10**6)
        used = [ReseedGlobals(process_seed), checkpoints, no_samples, *callbacks]
        saving = {"enable_checkpointing": True, "default_root_dir": self.folder}
        return self.train(task, self.copy_few_data(), callbacks=used, **saving, **resume)

    # ---- references

    @contextlib.contextmanager
    def _training_reference(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.reference_error = error
            raise

    @functools.cached_property
    def comparable(self) -> ShortRun:
        """The run with which cuts are compared."""
        with self._training_reference():
            return self.train_comparable()

    @functools.cached_property
    def unmodified(self) -> tuple[ShortRun, Counter]:
        """The run of the task as it is, and how often each of its steps was traced after the first epoch."""
        with self._training_reference():
            task = self.copy_task(1)
            traces = TraceCounter(task)
            return self.train_with_checkpoints(task, 1, traces), traces.after_first_epoch

    @functools.cached_property
    def repeated(self) -> Difference:
        """The difference of two runs with one seed, in what are two processes to the global generators."""
        return compare_repeated(self.train_unmodified(2), self.unmodified[0], self.allowed_if_repeated)


# ---- changes to a task


def disable_randomness(task: TaskModule) -> None:
    """Sets the rates of random layers to 0."""
    for layer in random_layers(task):
        for name in RANDOM_ATTRIBUTES:
            if isinstance(getattr(layer, name, None), int | float):
                setattr(layer, name, 0.0)


def random_layers(task: TaskModule) -> list[keras.layers.Layer]:
    """Returns the layers that draw random numbers."""
    layers = internals.flatten_layers(task)
    return [layer for layer in layers if internals.seed_generators(layer) and not _is_disabled(layer)]


def _is_disabled(layer: keras.layers.Layer) -> bool:
    rates = [getattr(layer, name, None) for name in RANDOM_ATTRIBUTES]
    numbers = [rate for rate in rates if isinstance(rate, int | float)]
    return bool(numbers) and not any(numbers)


def use_sgd(optimizers: Any) -> Any:
    """Replaces an optimizer, or every named one, by SGD."""
    if isinstance(optimizers, dict):
        return {name: keras.optimizers.SGD(LEARNING_RATE) for name in optimizers}
    return keras.optimizers.SGD(LEARNING_RATE)


def wrap_method(instance: Any, name: str, function: Callable) -> None:
    """Replaces the method `name` of an instance by `function(method, *args)`."""
    setattr(instance, name, functools.partial(function, getattr(instance, name)))


def untracked_variables(task: TaskModule) -> dict[str, tf.Variable]:
    """Returns TensorFlow's variables that are attributes of layers: neither Keras nor a checkpoint knows them."""
    return {
        f"{layer.name}.{name}": value
        for layer in internals.flatten_layers(task)
        for name, value in vars(layer).items()
        if isinstance(value, tf.Variable)
    }


# ---- callbacks


class ReseedGlobals(cb.Callback):
    """Reseeds the global generators, as a new process would."""

    def __init__(self, seed: int):
        super().__init__()
        self._seed = seed

    def on_train_begin(self, logs=None):
        seed_everything(self._seed)


class TraceCounter(cb.Callback):
    """Counts how often Python runs the task's steps, which is once for every trace."""

    def __init__(self, task: TaskModule):
        super().__init__()
        self._counts, self.after_first_epoch = Counter(), Counter()
        for name in ("train_step", "test_step"):
            wrap_method(task, name, functools.partial(self._count, name))

    def _count(self, name, step, batch):
        self._counts[name] += 1
        return step(batch)

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self._first_epoch = self._counts.copy()

    def on_train_end(self, logs=None):
        self.after_first_epoch = self._counts - self._first_epoch
