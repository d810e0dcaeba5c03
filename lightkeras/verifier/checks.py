"""The verifier: the promise "one run, however you cut it", tried on a task and its data.

Every check trains fresh copies of the task for a few updates, on batches of a few of its examples. The cuts are
compared without dropout and with plain SGD, so that an update shows the gradient itself: Adam divides by the gradient's
size, and turns the rounding of a gradient that should be zero (of a bias before a softmax or a batch norm) into steps.
"""

import contextlib
import copy
import functools
import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lightkeras import callbacks as cb
from lightkeras.data import stages
from lightkeras.data.batches import WEIGHT, Batch
from lightkeras.data.dataset import AddressedDataset
from lightkeras.data.module import DataModule
from lightkeras.task import TaskModule
from lightkeras.trainer import Trainer, seed_everything
from lightkeras.trainer_arguments import check_pair
from lightkeras.training.step import loss_name
from lightkeras.utils import internals
from lightkeras.utils.checks import require, require_choice
from lightkeras.verifier.short_run import QUIET, Trial, difference, metrics_difference, state_difference, train, values

LEAST = 5  # examples: two batches of two and one of one
ROWS = 8  # examples in a batch, where the task's own batches have as many
EPOCH = 3  # two whole batches and a short one
UPDATES = 2 * EPOCH
RATE, CLIP = 0.1, 1.0  # of the SGD that the cuts are compared with
ROUNDING = 1e-5  # difference of two cuts, relative to |value| + FLOOR
FLOOR = 0.2
REPEATED = 1e-6  # difference of two runs that are alike; 0 where only deterministic operations are used
OVERFIT, LEFT = 60, 0.9  # so many updates on one batch leave at most this share of the loss
EXAMPLES = 2000  # of each split that are compared
RANDOM = ("rate", "stddev", "dropout", "recurrent_dropout")  # attributes that say how random a layer is
ONE_DEVICE = (
    "only one device. `lightkeras check` makes two of the CPU; in Python, before TensorFlow starts: tf.config."
    "set_logical_device_configuration(tf.config.list_physical_devices('CPU')[0], "
    "[tf.config.LogicalDeviceConfiguration()] * 2)"
)


class Result(NamedTuple):
    """What a check found.

    Attributes:
        name: The check.
        claim: What should hold.
        status: "PASS", "FAIL" or "SKIP".
        measured: What was measured; None where nothing was.
        allowed: How much may be measured.
        note: The likely cause of a FAIL, the reason of a SKIP.
    """

    name: str
    claim: str
    status: str
    measured: float | None = None
    allowed: float | None = None
    note: str = ""


class Report:
    """The results of `check`: `report.passed`, `report["padding"]`, `print(report)`.

    Args:
        title: What was checked.
        results: One for each check.
    """

    def __init__(self, title: str, results: Iterable[Result]):
        self.title, self.results = title, list(results)

    @property
    def failures(self) -> list[Result]:
        """The results of the checks that failed."""
        return [result for result in self.results if result.status == "FAIL"]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not self.failures

    def __getitem__(self, name: str) -> Result:
        return {result.name: result for result in self.results}[name]

    def __rich__(self) -> Table:
        table = Table(title=self.title, title_justify="left")
        for column in ("check", "result", "measured", "allowed", "what it says"):
            table.add_column(column, justify="right" if column in ("measured", "allowed") else "left")
        colors = {"PASS": "green", "FAIL": "bold red", "SKIP": "yellow"}
        for name, claim, status, measured, allowed, note in self.results:
            cells = (name, f"[{colors[status]}]{status}", _number(measured), _number(allowed))
            table.add_row(*cells, escape(claim + (f"\n{note}" if note else "")))
        return table

    def __str__(self) -> str:
        console = Console(width=120, color_system=None)
        with console.capture() as caught:
            console.print(self)
        return caught.get()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def check(
    task: TaskModule, data: DataModule, *, only: list[str] | None = None, group: str | None = None,
    deterministic: bool = False,
) -> Report:  # fmt: skip
    """Tries the promise on a task and its data: what lightkeras relies on, and what the task's author can get wrong.

    Both are made again from their constructors' arguments for every training; the two given are left as they are.

    - `same_seed`: two runs with one seed are equal. What is drawn outside Keras' seed generators is drawn differently.
    - `replicas`, `micro_batches`: two halves of a batch, on two devices or one after the other, make the same update.
    - `eager`, `xla`, `steps_per_execution`: the step does the same op by op, compiled, and many times in a call.
    - `padding`: more rows of weight 0, with the content of other examples, change nothing.
    - `evaluation`: validation changes no weight and no seed state, and gives the same twice.
    - `retrace`: after the first epoch, nothing is traced again.
    - `overfit`: the loss of one batch falls (of one optimizer at least, where there are several).
    - `resume`: a run that goes on from a checkpoint, saved within an epoch, ends as if it had not been stopped.
    - `splits`: training, validation and test data share no example.

    `same_seed`, `evaluation`, `retrace` and `resume` take the task as it is. In `replicas`, `micro_batches`, `eager`,
    `xla`, `steps_per_execution` and `padding`, dropout is off (layers with a seed generator have their `rate`,
    `stddev`, `dropout` or `recurrent_dropout` set to 0) and every optimizer is SGD; `overfit` has dropout off.

    Args:
        task: The task.
        data: Its data.
        only: The checks to make, by name; None for all.
        group: Entry of a batch that no two splits may share (the number of a caption's image); None for the example
            as a whole.
        deterministic: As the Trainer's: TensorFlow is held to deterministic operations for the rest of the process,
            and `same_seed` and `resume` ask for equality to the bit.

    Raises:
        ValueError: There are fewer than five training examples, or `only` names no check.
        Exception: What the task raises when it is trained for a few updates as it is.
    """
    check_pair(task, data)
    for name in only or ():
        require_choice("only", name, CHECKS)
    with tempfile.TemporaryDirectory() as root, _exact_and_quiet(), Console(stderr=True).status("") as status:
        verifier, results = Verifier(task, data, group, deterministic, root), []
        verifier.check_size()
        for name in only or CHECKS:
            status.update(f"{name}: {CHECKS[name].claim}")
            results.append(verifier.result(name))
    return Report(f"{type(task).__name__} on {type(data).__name__}", results)


@contextlib.contextmanager
def _exact_and_quiet():
    """Takes TensorFloat-32, which rounds to 3 digits, from a GPU, and the warning of many traces from the log."""
    exact, logger = tf.config.experimental, tf.get_logger()
    before = exact.tensor_float_32_execution_enabled(), logger.level
    exact.enable_tensor_float_32_execution(False)
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        exact.enable_tensor_float_32_execution(before[0])
        logger.setLevel(before[1])


def make_two_devices() -> None:
    """Makes two logical CPUs, for the check of replicas; to be called before TensorFlow starts.

    Raises:
        RuntimeError: TensorFlow has started.
    """
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


@functools.cache
def _two_devices() -> dict:
    """The Trainer's arguments for two replicas, or none."""
    kinds = [tf.config.list_logical_devices(kind) for kind in ("GPU", "CPU")]
    if len(kinds[0] or kinds[1]) >= 2:
        return {"devices": 2}
    cpus = [device.name for device in kinds[1][:2]]  # beside a single GPU
    return {"strategy": tf.distribute.MirroredStrategy(cpus)} if len(cpus) == 2 else {}


# ---- data


def few(dataset: AddressedDataset) -> AddressedDataset:
    """The first examples of `dataset`: two whole batches of an even number of rows, and a short one."""
    most = max(2, min(ROWS, dataset.batch_size // 2 * 2))
    sizes = {rows: 2 * rows + min(rows // 2 + 1, rows - 1) for rows in range(2, most + 1, 2)}  # each half has a row
    rows = max((rows for rows, size in sizes.items() if size <= dataset.size), default=2)
    return dataset.replace(size=min(dataset.size, sizes[rows]), batch_size=rows)


class Padded(AddressedDataset):
    """`dataset` with more rows of padding in each batch; all padding has the content of other examples.

    Args:
        dataset: Batches of `dataset.batch_size` rows.
        extra: Rows that come to each.
    """

    def __init__(self, dataset: AddressedDataset, extra: int):
        def load(rows: tf.data.Dataset) -> tf.data.Dataset:
            return dataset.load(rows).map(_with_other_padding)

        grouped = (dataset.lengths, dataset.widths)
        super().__init__(dataset.size, dataset.batch_size + extra, load, dataset.shuffle, *grouped)
        self._dataset, self._extra = dataset, extra

    def __len__(self) -> int:
        return len(self._dataset)

    def indices(self, seed: int, epoch: int) -> np.ndarray:
        return np.pad(self._dataset.indices(seed, epoch), ((0, 0), (0, self._extra)), constant_values=-1)


def _with_other_padding(batch: Batch) -> Batch:
    """Rows of weight 0 take the content of the rows at the other end (any other content might be no valid one)."""
    rows = tf.range(batch[WEIGHT].shape[0])
    order = tf.where(batch[WEIGHT] > 0, rows, rows[::-1])
    return {name: entry if name == WEIGHT else tf.gather(entry, order) for name, entry in batch.items()}


def _digests(dataset: AddressedDataset, group: str | None) -> set[bytes]:
    """Hashes of up to `EXAMPLES` examples (or of their groups), drawn from the whole of `dataset`."""
    drawn = dataset.replace(shuffle=True)
    steps = min(len(drawn), -(-EXAMPLES // drawn.batch_size))
    batches = drawn.stream(epochs=1, steps=steps).as_numpy_iterator()
    return {digest for batch in batches for digest in _digests_of(batch, group, dataset.lengths is not None)}


def _digests_of(batch: dict[str, np.ndarray], group: str | None, padded: bool) -> Iterator[bytes]:
    names = [group] if group else sorted(set(batch) - {WEIGHT})
    for row in np.flatnonzero(batch[WEIGHT]):
        parts = [batch[name][row] for name in names]
        if padded:  # to the width of the batch, which is another one elsewhere
            parts = [np.trim_zeros(part, "b") if np.ndim(part) == 1 else part for part in parts]
        content = [repr(p).encode() if np.asarray(p).dtype == object else np.asarray(p).tobytes() for p in parts]
        yield hashlib.blake2b(b"\0".join(content), digest_size=16).digest()


# ---- the task


def _silence(task: TaskModule) -> None:
    """Sets what makes layers random to 0."""
    for layer in _random_layers(task):
        for name in RANDOM:
            if isinstance(getattr(layer, name, None), int | float):
                setattr(layer, name, 0.0)


def _random_layers(task: TaskModule) -> list[keras.layers.Layer]:
    """The layers that draw random numbers."""
    return [
        layer for layer in internals.flatten_layers(task) if internals.seed_generators(layer) and not _is_silent(layer)
    ]


def _is_silent(layer: keras.layers.Layer) -> bool:
    rates = [getattr(layer, name) for name in RANDOM if isinstance(getattr(layer, name, None), int | float)]
    return bool(rates) and not any(rates)


def _plain(made):
    """SGD in the place of every optimizer."""
    if isinstance(made, dict):
        return {name: keras.optimizers.SGD(RATE) for name in made}
    return keras.optimizers.SGD(RATE)


def _instead(instance, name: str, function: Callable) -> None:
    """Replaces the method `name` of an instance by `function(method, *args)`."""
    setattr(instance, name, functools.partial(function, getattr(instance, name)))


def _untracked(task: TaskModule) -> dict[str, tf.Variable]:
    """Variables of TensorFlow's that are attributes of layers: Keras does not know of them, and no checkpoint does."""
    return {
        f"{layer.name}.{name}": value
        for layer in internals.flatten_layers(task)
        for name, value in vars(layer).items()
        if isinstance(value, tf.Variable)
    }


class _Outside(cb.Callback):
    """Gives what draws outside Keras' seed generators another seed, as another process would."""

    def __init__(self, seed: int):
        super().__init__()
        self._seed = seed

    def on_train_begin(self, logs=None):
        seed_everything(self._seed)


class _Traces(cb.Callback):
    """Counts how often Python runs the task's steps: once for every trace; `again` are those after the first epoch."""

    def __init__(self, task: TaskModule):
        super().__init__()
        self.counts, self.again = Counter(), Counter()
        for name in ("train_step", "test_step"):
            _instead(task, name, functools.partial(self._count, name))

    def _count(self, name, step, batch):
        self.counts[name] += 1
        return step(batch)

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self._after_first = self.counts.copy()

    def on_train_end(self, logs=None):
        self.again = self.counts - self._after_first


# ---- the checks


class _Apart(NamedTuple):
    """How far a trial is from the reference: the largest difference, where, and the first update that differs."""

    measured: float
    where: str
    first: int | None
    ratio: float


class Verifier:
    """Trains copies of a task in all ways, and compares.

    Args:
        task, data, group, deterministic: See `check`.
        root: An empty folder, for checkpoints.
    """

    def __init__(self, task: TaskModule, data: DataModule, group: str | None, deterministic: bool, root: str):
        self._task, self._data, self._group, self._deterministic = task, data, group, deterministic
        self._saving = {"enable_checkpointing": True, "default_root_dir": root}
        self._repeated = 0.0 if deterministic else REPEATED
        self._evaluates = type(task).test_step is not TaskModule.test_step

    def result(self, name: str) -> Result:
        """What the check `name` finds; an error that the task raises in it is a failure."""
        claim, reference, function = CHECKS[name]
        if reference:
            getattr(self, reference)  # a task that cannot be trained at all raises here
        try:
            found = function(self)
        except Exception as error:
            found = _raised(name, error)
        return Result(name, claim, *found)

    def check_size(self) -> None:
        """Refuses training data that is too small to be cut."""
        size = stages.require_dataset(self._fresh("fit"), "train_dataset").size
        require(size >= LEAST, "train_dataset", f"of {LEAST} examples or more", size)

    # what trains

    def _fresh_task(self, outside: int, silent: bool, plain: bool) -> TaskModule:
        seed_everything(outside)
        task = type(self._task)(**copy.deepcopy(self._task.init_args))
        if silent:
            _instead(task, "configure_model", lambda configure, data: (configure(data), _silence(task)))
        if plain:
            _instead(task, "configure_optimizers", lambda configure: _plain(configure()))
        return task

    def _fresh_data(self, extra: int = 0) -> DataModule:
        """The data with a few examples; `extra` rows of padding in each batch."""
        data = type(self._data)(**copy.deepcopy(self._data.init_args))
        train_dataset, val_dataset = data.train_dataset, data.val_dataset

        def cut(dataset):
            return Padded(few(dataset), extra) if extra else few(dataset)

        data.train_dataset = lambda: cut(train_dataset())
        data.val_dataset = lambda: cut(val_dataset() or train_dataset())
        return data

    def _fresh(self, stage: str) -> DataModule:
        """The data as it is, ready for `stage`."""
        data = type(self._data)(**copy.deepcopy(self._data.init_args))
        data.prepare_data()
        data.setup(stage)
        return data

    def _own(self, outside: int, task: TaskModule | None = None, **arguments) -> Trial:
        """A training of the task as it is."""
        task = task or self._fresh_task(outside, silent=False, plain=False)
        callbacks = [_Outside(outside), *arguments.pop("callbacks", ())]
        return self._train(task, self._fresh_data(), callbacks=callbacks, **arguments)

    def _cut(self, extra: int = 0, **cut) -> Trial:
        """A training without dropout, by SGD."""
        task = self._fresh_task(0, silent=True, plain=True)
        return self._train(task, self._fresh_data(extra), gradient_clip_val=CLIP, **cut)

    def _train(self, task, data, **arguments) -> Trial:
        known = {"max_steps": UPDATES, "deterministic": self._deterministic}
        if not self._evaluates:
            known["limit_val_batches"] = 0
        return train(task, data, **{**known, **arguments})

    @functools.cached_property
    def whole(self) -> Trial:
        """The training that the cuts are compared with."""
        return self._cut()

    @functools.cached_property
    def own(self) -> Trial:
        """The training of the task as it is, with its traces counted, and checkpoints within the epochs."""
        task = self._fresh_task(1, silent=False, plain=False)
        self._traces = _Traces(task)
        return self._own(1, task, callbacks=[self._traces, *_saving()], **self._saving)

    # what is compared

    def _same_seed(self):
        found = _apart(self._own(2), self.own, self._repeated, 0.0)
        return _verdict(found, self._repeated, self._cause_of_chance(found))

    def _cause_of_chance(self, found: _Apart) -> str:
        if not self._deterministic and found.measured < 1e-3:
            return f"an operation that adds up in any order: try deterministic=True. {found.where}"
        return (
            "a number drawn outside Keras' seed generators (np.random, random, tf.random, in a step or in setup()), or "
            f"layers made in __init__ instead of configure_model(). {found.where}"
        )

    def _replicas(self):
        if not _two_devices():
            return _skip(ONE_DEVICE)
        return self._parts("replicas", **_two_devices())

    def _micro_batches(self):
        if names := self._batch_norms():
            return _skip(f"not comparable: {names} takes its statistics from each micro-batch")
        return self._parts("micro_batches", micro_batches=2)

    def _parts(self, kind: str, **cut):
        if random := self._random():
            return random
        found = _apart(self._cut(**cut), self.whole)
        return _verdict(found, ROUNDING, self._cause_of_parts(kind, found))

    def _cause_of_parts(self, kind: str, found: _Apart) -> str:
        unsynchronized = self._batch_norms(lambda layer: getattr(layer, "synchronized", True) is False)
        if kind == "replicas" and unsynchronized:
            return f"statistics of each replica: BatchNormalization(synchronized=True) in {unsynchronized}"
        if found.first == 0 and any(abs(found.ratio - wrong) < 0.01 for wrong in (0.5, 2.0)):
            return f"half or twice the loss: of (sum, weight), one is a mean and the other a sum. {found.where}"
        if found.first == 0:
            return f"the loss of a row depends on the other rows of its batch. {found.where}"
        if found.first is not None and found.first % EPOCH == EPOCH - 1:
            return (
                f"a short batch differs: the loss is a mean. Return (sum, weight): the library divides. {found.where}"
            )
        return (
            "the losses agree, the update does not: gradients are changed before they are reduced. Clip with "
            f"Trainer(gradient_clip_val=...), and let `minimize` apply. {found.where}"
        )

    def _eager(self):
        found = _apart(self._cut(run_eagerly=True), self.whole)
        cause = (
            "the compiled step keeps what Python had when it was traced (self.global_step, np.random, a counter): take "
            f"it from the batch or from a variable. {found.where}"
        )
        return _verdict(found, ROUNDING, cause)

    def _xla(self):
        if random := self._random():
            return random
        found = _apart(self._cut(jit_compile=True), self.whole)
        return _verdict(found, ROUNDING, f"an operation that XLA computes otherwise (tf.random). {found.where}")

    def _steps_per_execution(self):
        many = self._cut(steps_per_execution=EPOCH, log_every_n_steps=UPDATES)
        found = _apart(many._replace(records=self.whole.records), self.whole)
        cause = f"something in Python counts on being called for every update: count in a variable. {found.where}"
        return _verdict(found, ROUNDING, cause)

    def _padding(self):
        if random := self._random():
            return random
        found = _apart(self._cut(extra=ROWS // 2), self.whole)
        return _verdict(found, ROUNDING, self._cause_of_padding(found))

    def _cause_of_padding(self, found: _Apart) -> str:
        if norms := self._batch_norms():
            return f"padding enters the statistics of {norms} (give it a mask), or the loss. {found.where}"
        return (
            "padding rows enter the loss: multiply by batch['weight'] before the sum, and return the sum of the "
            f"weights beside it, not a number of rows. {found.where}"
        )

    def _evaluation(self):
        if not self._evaluates:
            return _skip("the task has no test_step")
        task, data = self.own.task, self._fresh_data()
        before = self._everything(task)
        validate = Trainer(**QUIET, devices=1, steps_per_execution=1, jit_compile=False).validate
        twice = [validate(task, data), validate(task, data)]
        after = {name: difference(value, before[name]) for name, value in self._everything(task).items()}
        changed = _names(task, [name for name, much in after.items() if much])
        measured = max([*after.values(), *metrics_difference(*([result] for result in twice))])
        return _verdict(measured, 0.0, self._cause_of_evaluation(changed))

    def _cause_of_evaluation(self, changed: str) -> str:
        if not changed:
            return "chance in evaluation: two validations differ"
        if "seed_generator" in changed:
            return (
                f"test_step draws from {changed}: give layers training=False (cells of Keras' recurrent layers with "
                "dropout draw all the same: put Dropout layers between them instead)"
            )
        return f"test_step updates {changed}: give layers training=False, assign nothing"

    def _everything(self, task: TaskModule) -> dict[str, np.ndarray]:
        return {**values(task), **{name: variable.numpy() for name, variable in _untracked(task).items()}}

    def _retrace(self):
        again = self._traces.again
        cause = (
            f"{', '.join(again)} is traced again: a Python value that changes is an argument of a tf.function, a shape "
            "changes, or make_train_function is forced. Keep the value in a variable"
        )
        return _verdict(again.total(), 0, cause)

    def _overfit(self):
        task = self._fresh_task(0, silent=True, plain=False)
        trial = self._train(task, self._fresh_data(), max_steps=OVERFIT, overfit_batches=1, limit_val_batches=0)
        losses = [loss_name(name) for name in task.optimizers]
        left = {name: _left([record[name] for record in trial.records]) for name in losses}
        best = min(left, key=left.get)
        cause = (
            f"{OVERFIT} updates on one batch leave {left[best]:.0%} of {best}: no gradient arrives (stop_gradient, "
            "argmax, rounding), targets do not match inputs, or the learning rate is far off"
        )
        return _verdict(left[best], LEFT, cause)

    def _resume(self):
        own, at = self.own, EPOCH + 1
        path = own.trainer.run_dir / "checkpoints" / f"step_{at:09d}"
        resumed = self._own(3, ckpt_path=str(path), callbacks=_saving(), **self._saving)
        rest = own._replace(records=own.records[at:], validations=own.validations[1:])
        found = _apart(resumed, rest, self._repeated, 0.0)
        kept = ", ".join(_untracked(own.task)) or "an attribute in Python, np.random"
        cause = (
            f"something that training changes is in no checkpoint ({kept}): make it with "
            f"self.add_weight(trainable=False). {found.where}"
        )
        return _verdict(found, self._repeated, cause)

    def _splits(self):
        found = self._split_digests()
        if len(found) < 2:
            return _skip("the data has neither validation nor test data")
        names = list(found)
        pairs = [(a, b) for index, a in enumerate(names) for b in names[index + 1 :]]
        shared = {f"{a} and {b}": len(found[a] & found[b]) for a, b in pairs}
        what = f"values of {self._group!r}" if self._group else "examples"
        said = ", ".join(f"{many} in {pair}" for pair, many in shared.items() if many)
        return _verdict(sum(shared.values()), 0, f"the splits share {what}: {said}. Split before anything is repeated")

    def _split_digests(self) -> dict[str, set[bytes]]:
        found = {}
        for stage, names in {"fit": ("train_dataset", "val_dataset"), "test": ("test_dataset",)}.items():
            data = self._fresh(stage)
            used = [name for name in names if getattr(data, name)() is not None]
            found |= {name.split("_")[0]: _digests(stages.require_dataset(data, name), self._group) for name in used}
        return found

    # what the task is made of

    def _random(self):
        """A SKIP, where a layer draws random numbers that depend on the cut."""
        names = ", ".join(layer.name for layer in _random_layers(self.whole.task))
        return _skip(f"not comparable: random layer {names}") if names else None

    def _batch_norms(self, chosen: Callable = lambda layer: True) -> str:
        """Names of the layers that take statistics over a batch: Keras' own, or of a class that is called so."""
        layers = internals.flatten_layers(self.whole.task)
        return ", ".join(layer.name for layer in layers if "BatchNorm" in type(layer).__name__ and chosen(layer))


def _saving() -> list[cb.Callback]:
    """Saves within the epochs, and writes no samples."""
    saves = cb.ModelCheckpoint(None, save_top_k=0, every_n_steps=2, keep_last=UPDATES)
    return [saves, cb.SampleWriter(every_n_epochs=10**6)]


def _apart(trial: Trial, reference: Trial, allowed: float = ROUNDING, floor: float = FLOOR) -> _Apart:
    """How far `trial` is from `reference`, in every metric, validation and variable."""
    updates = metrics_difference(trial.records, reference.records, floor)
    first = next((index for index, much in enumerate(updates) if much > allowed), None)
    apart = {f"in update {index + 1}": much for index, much in enumerate(updates)}
    apart["in a validation"] = max(metrics_difference(trial.validations, reference.validations, floor), default=0.0)
    epochs = [difference(means, reference.epochs[name], floor) for name, means in trial.epochs.items()]
    apart["in an epoch's means"] = max(epochs, default=0.0)
    states = state_difference(trial, reference, floor)
    apart |= {f"in {_names(trial.task, [name])}": much for name, much in states.items()}
    worst = max(apart, key=apart.get)
    where = f"First seen in update {first + 1}" if first is not None else f"Seen {worst}"
    return _Apart(apart[worst], where, first, _ratio(trial, reference, first))


def _ratio(trial: Trial, reference: Trial, at: int | None) -> float:
    """The first differing loss, as a share of the reference's."""
    return trial.losses[at] / reference.losses[at] if at is not None and reference.losses[at] else 1.0


def _left(losses: list[float]) -> float:
    """The share of the first loss that is left at the end (of a negative loss: below 1 where it falls)."""
    first, last = losses[0], float(np.mean(losses[-5:]))
    return 1 - (first - last) / max(abs(first), 1e-12)


def _names(task: TaskModule, keys: list[str]) -> str:
    """What users call state variables."""
    variables = task.state_variables()
    return ", ".join(variables[key].path if key in variables else key for key in keys)


def _verdict(found: _Apart | float, allowed: float, cause: str):
    measured = float(found.measured if isinstance(found, _Apart) else found)
    passed = measured <= allowed
    return ("PASS" if passed else "FAIL"), measured, float(allowed), ("" if passed else cause)


def _skip(reason: str):
    return "SKIP", None, None, reason


def _raised(name: str, error: Exception):
    """An error is a failure; but a task need not be one that XLA can compile."""
    said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if isinstance(error, cb.NonFiniteLossError):
        said = f"a loss divides by the weight of its part of a batch, which may be 0: return (sum, weight). {said}"
    return ("SKIP" if name == "xla" else "FAIL"), None, None, said


class _Check(NamedTuple):
    claim: str
    reference: str | None  # the training that it is compared with
    function: Callable


CHECKS = {
    "same_seed": _Check("two runs with one seed are equal", "own", Verifier._same_seed),
    "replicas": _Check("two replicas make the update of one", "whole", Verifier._replicas),
    "micro_batches": _Check("two micro-batches make the update of one batch", "whole", Verifier._micro_batches),
    "eager": _Check("op by op, the step does the same", "whole", Verifier._eager),
    "xla": _Check("compiled by XLA, the step does the same", "whole", Verifier._xla),
    "steps_per_execution": _Check("three updates in a call do the same", "whole", Verifier._steps_per_execution),
    "padding": _Check("more padding changes nothing", "whole", Verifier._padding),
    "evaluation": _Check("evaluation changes nothing", "own", Verifier._evaluation),
    "retrace": _Check("nothing is traced after the first epoch", "own", Verifier._retrace),
    "overfit": _Check("the loss of one batch falls", None, Verifier._overfit),
    "resume": _Check("stopped and resumed, a run ends the same", "own", Verifier._resume),
    "splits": _Check("the splits share no example", None, Verifier._splits),
}
