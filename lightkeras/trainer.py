"""Trainer: turns arguments into a strategy, callbacks and Keras' `fit()`."""

import contextlib
import datetime
import math
import random
import signal
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import yaml

from lightkeras import callbacks as cb
from lightkeras import checkpoint as files
from lightkeras import distribution, run_state
from lightkeras.callbacks.interrupt import Interrupt
from lightkeras.callbacks.limit import Limit, seconds_of
from lightkeras.checks import check, check_choice, check_int, check_number, nearest
from lightkeras.data import AddressedDataset, DataModule
from lightkeras.hyperparameters import Hyperparameters
from lightkeras.task import TaskModule

PRECISIONS = {
    "32": "float32", "32-true": "float32", "float32": "float32",
    "bf16-mixed": "mixed_bfloat16", "mixed_bfloat16": "mixed_bfloat16",
}  # fmt: skip
FOREVER = 1000


def seed_everything(seed: int) -> int:
    """Seeds Python, NumPy, TensorFlow and Keras; returns `seed`."""
    check_int("seed", seed, minimum=0)
    keras.utils.set_random_seed(seed)
    return seed


class Trainer(Hyperparameters):
    """Fits, validates and tests a `TaskModule` on a `DataModule`.

    Args:
        max_epochs: Epochs to train for. None: until `max_steps` or `max_time`, or else 1000.
        max_steps: Updates to train for.
        max_time: "DD:HH:MM:SS", a `datetime.timedelta` or a dict of its arguments.
        devices: How many, which (a list of indices), or "auto": every GPU, or one CPU.
        strategy: "auto", "mirrored", or a `tf.distribute.Strategy`.
        precision: "32", or "bf16-mixed" (Keras' "mixed_bfloat16").
        micro_batches: Parts that a batch is cut into, one after the other: less memory, the same update.
        gradient_clip_val: Bound of the reduced gradients; None for none.
        gradient_clip_algorithm: "norm" (the global norm) or "value" (each element).
        seed: Keys initial weights, order of the data, dropout. None draws one, which the run's folder keeps.
        deterministic: Only TensorFlow operations that give the same bits each time; for the rest of the process.
        run_eagerly: Steps run op by op, for a debugger.
        jit_compile: Steps compiled by XLA; "auto" takes the task's `prefer_jit_compile` on one device.
        steps_per_execution: Updates made by one call; "auto" fills some tens of milliseconds. Callbacks come at the
            calls' edges, so "auto" is 1 if a callback that is not lightkeras' listens to batches.
        callbacks: Keras callbacks; one of a default's class takes its place.
        logger: True: metrics.csv and TensorBoard. False: neither.
        enable_checkpointing: Whether the run is saved.
        default_root_dir: Runs lie in `default_root_dir/TASK/NAME/`.
        enable_progress_bar: A line per epoch.
        enable_model_summary: A table of the layers.
        fast_dev_run: True or a number: so many batches of training and validation, nothing written.
        overfit_batches: Train and validate on so many (or that share of the) training batches, unshuffled.
        limit_train_batches: Batches of an epoch that are used: a number, or a share up to 1.0.
        limit_val_batches: The same for validation.
        limit_test_batches: The same for testing.
        val_check_interval: Validate also within an epoch: after so many updates, or that share of it.
        num_sanity_val_steps: Validation batches run before training, so that an error there comes at once.
        log_every_n_steps: Updates between two rows of the logs.

    Attributes:
        run_dir: The folder of the last run, or None.
        history: Keras' `History` of the last `fit`.
        interrupted: The signal that ended the last `fit`, or None.

    Raises:
        ValueError: A value or combination that cannot work, here and not after an hour.
    """

    def __init__(
        self, *,
        max_epochs: int | None = None, max_steps: int | None = None,
        max_time: str | dict | datetime.timedelta | None = None,
        devices: int | list[int] | str = "auto", strategy: Any = "auto", precision: str = "32",
        micro_batches: int = 1, gradient_clip_val: float | None = None, gradient_clip_algorithm: str = "norm",
        seed: int | None = 0, deterministic: bool = False, run_eagerly: bool = False, jit_compile: bool | str = "auto",
        steps_per_execution: int | str = "auto", callbacks: list[keras.callbacks.Callback] | None = None,
        logger: bool = True,
        enable_checkpointing: bool = True, default_root_dir: str = "runs", enable_progress_bar: bool = True,
        enable_model_summary: bool = True, fast_dev_run: bool | int = False, overfit_batches: int | float = 0,
        limit_train_batches: int | float = 1.0, limit_val_batches: int | float = 1.0,
        limit_test_batches: int | float = 1.0, val_check_interval: int | float = 1.0, num_sanity_val_steps: int = 2,
        log_every_n_steps: int = 50,
    ):  # fmt: skip
        for name, value in list(locals().items()):
            if name not in ("self", "__class__"):
                setattr(self, name, value)
        self.callbacks = list(callbacks or [])
        self._check()
        self.seed = random.SystemRandom().randrange(2**31) if seed is None else seed
        self.run_dir = self.history = self.interrupted = None
        if fast_dev_run:
            self._develop(int(fast_dev_run))

    def _check(self) -> None:
        for name in ("max_epochs", "max_steps"):
            check_int(name, getattr(self, name), optional=True)
        self._max_seconds = seconds_of(self.max_time)
        distribution.check_devices(self.devices, self.strategy)
        check_choice("precision", self.precision, PRECISIONS)
        check_int("micro_batches", self.micro_batches)
        check_number("gradient_clip_val", self.gradient_clip_val, optional=True)
        check_choice("gradient_clip_algorithm", self.gradient_clip_algorithm, ("norm", "value"))
        check_int("seed", self.seed, minimum=0, optional=True)
        check(
            self.jit_compile in (True, False, "auto"),
            "jit_compile",
            'True, False or "auto"',
            self.jit_compile,
        )
        check(
            not (self.run_eagerly and self.jit_compile is True),
            "run_eagerly",
            "False with jit_compile=True",
            self.run_eagerly,
        )
        if self.steps_per_execution != "auto":
            check_int("steps_per_execution", self.steps_per_execution)
        for name in ("limit_train_batches", "limit_val_batches", "limit_test_batches", "val_check_interval"):
            _check_share(name, getattr(self, name))
        if self.overfit_batches:
            _check_share("overfit_batches", self.overfit_batches)
        check_int("num_sanity_val_steps", self.num_sanity_val_steps, minimum=0)
        check_int("log_every_n_steps", self.log_every_n_steps)
        check_int("fast_dev_run", int(self.fast_dev_run), minimum=0)

    def _develop(self, batches: int) -> None:
        self.max_epochs, self.max_steps = 1, batches
        self.limit_train_batches = self.limit_val_batches = self.limit_test_batches = batches
        self.num_sanity_val_steps = 0
        self.logger = self.enable_checkpointing = False

    # ---- the four verbs

    def fit(self, task: TaskModule, data: DataModule, ckpt_path: str | None = None) -> keras.callbacks.History:
        """Trains `task` on `data`.

        Args:
            task: The task.
            data: Its data.
            ckpt_path: Continue a run: "last" (the task's newest under `default_root_dir`), a run's folder or a
                checkpoint's; "auto": the newest if there is one. None begins a new one.

        Returns:
            Keras' `History`: epochs, and metric values by name.

        Raises:
            CheckpointError: The checkpoint is damaged, or of a run with another task, data or seed.
            NonFiniteLossError: A loss became NaN or infinite.
        """
        ckpt_path = self._to_continue(task, ckpt_path)
        if ckpt_path is not None:
            run_state.check_same(ckpt_path, run_state.identity(task, data, self.seed))
        strategy = self._prepare(task, data, "fit")
        with strategy.scope(), self._precision():
            train, steps = self._training_data(task, data)
            if not task.built:
                seed_everything(self.seed)
                run_state.build(task, data, train.element_spec)
            task.steps_per_epoch, task.total_steps = steps, self._total_steps(steps)
            task.build_optimizers()
            saved = self._resume(task, data, ckpt_path)
            self._open_run(task, data, ckpt_path)
            listeners = self._callbacks(task, data, saved)
            self._start(task, listeners)
            epoch, step = divmod(task.global_step, steps)
            self._sanity_check(task, listeners, resumed=saved is not None)
            stream = distribution.distributed_stream(
                strategy, train, seed=self.seed, epoch=epoch, step=step, steps=steps
            )
            return self._fit(task, stream, listeners, epoch)

    def validate(self, task: TaskModule, data: DataModule, ckpt_path: str | None = None) -> dict[str, float]:
        """The metrics on the validation data, by their `val_` names; see `test`."""
        return self._evaluate(task, data, "validate", ckpt_path)

    def test(self, task: TaskModule, data: DataModule, ckpt_path: str | None = None) -> dict[str, float]:
        """The metrics on the test data, by their `test_` names.

        Args:
            task: A trained task, or one to be given the weights of `ckpt_path`.
            data: Its data.
            ckpt_path: "best" or "last" (of the task's newest run), a run's folder or a checkpoint's. None: as it is.
        """
        return self._evaluate(task, data, "test", ckpt_path)

    def predict(self, task: TaskModule, data: DataModule, ckpt_path: str | None = None):
        """`task.predict_step` on all of `data.predict_dataset()`: arrays with the example axis first, in order."""
        with self._ready(task, data, "predict", ckpt_path) as (strategy, dataset):
            stream = distribution.distributed_stream(strategy, _in_order(dataset), epochs=1)
            outputs = task.predict(stream, steps=len(dataset), verbose=0)
        return keras.tree.map_structure(lambda rows: np.asarray(rows)[: dataset.size], outputs)

    # ---- how

    def _prepare(self, task: TaskModule, data: DataModule, stage: str) -> tf.distribute.Strategy:
        check(isinstance(task, TaskModule), "task", "a TaskModule", task, TypeError)
        check(isinstance(data, DataModule), "data", "a DataModule", data, TypeError)
        if self.deterministic:
            tf.config.experimental.enable_op_determinism()
            tf.random.set_seed(self.seed)
        data.prepare_data()
        data.setup(stage)
        task.micro_batches = self.micro_batches
        task.gradient_clip_val, task.gradient_clip_algorithm = (
            self.gradient_clip_val,
            self.gradient_clip_algorithm,
        )
        if task.built:
            return task.distribute_strategy
        return distribution.make_strategy(self.devices, self.strategy)

    @contextlib.contextmanager
    def _precision(self):
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(PRECISIONS[self.precision])
        try:
            yield
        finally:
            keras.config.set_dtype_policy(before)

    def _training_data(self, task: TaskModule, data: DataModule) -> tuple[AddressedDataset, int]:
        train = _checked(data.train_dataset(), "train_dataset")
        parts = distribution.replicas(tf.distribute.get_strategy()) * self.micro_batches
        check(
            train.batch_size % parts == 0,
            "batch_size",
            f"a multiple of {parts} (replicas x micro_batches)",
            train.batch_size,
        )
        if self.overfit_batches:
            return _in_order(train), _share(self.overfit_batches, len(train))
        return train, _share(self.limit_train_batches, len(train))

    def _total_steps(self, steps: int) -> int | None:
        epochs = self.max_epochs or (None if self.max_steps or self._max_seconds else FOREVER)
        known = [total for total in (self.max_steps, epochs and epochs * steps) if total]
        return min(known) if known else None

    def _resume(self, task: TaskModule, data: DataModule, ckpt_path: str | None) -> files.Checkpoint | None:
        task.global_step = 0
        task.train_totals.reset()
        if ckpt_path is None:
            return None
        run_state.check_same(ckpt_path, {"data_state": data.state_dict(), "steps_per_epoch": task.steps_per_epoch})
        saved = files.load_checkpoint(ckpt_path)
        run_state.restore(task, saved)
        return saved

    def _checkpoint(self, ckpt_path: str, task: TaskModule, of_run: str = "best") -> str:
        return run_state.find_checkpoint(ckpt_path, Path(self.default_root_dir), task_name(type(task)), of_run)

    def _to_continue(self, task: TaskModule, ckpt_path: str | None) -> str | None:
        if ckpt_path == "auto":
            run = run_state.newest_run(Path(self.default_root_dir), task_name(type(task)))
            return None if run is None else self._checkpoint(str(run), task, "last")
        return ckpt_path and self._checkpoint(ckpt_path, task, "last")

    def _open_run(self, task: TaskModule, data: DataModule, ckpt_path: str | None) -> None:
        """Makes the run's folder, or goes on in that of the checkpoint."""
        self.run_dir = None
        if not (self.logger or self.enable_checkpointing):
            return
        if ckpt_path is not None:
            self.run_dir = Path(ckpt_path).parent.parent
            return
        self.run_dir = _new_folder(Path(self.default_root_dir) / task_name(type(task)))
        config = {"task_class": task_name(type(task)), "trainer": self.config(), "task": task.hparams}
        (self.run_dir / "config.yaml").write_text(
            yaml.safe_dump({**config, "data": data.hparams}, sort_keys=False, allow_unicode=True),
            encoding="utf-8",
        )

    def config(self) -> dict[str, Any]:
        """The arguments that a file can hold: all but callbacks and strategies that are objects."""
        plain = (bool, int, float, str, list, dict, type(None))
        return {name: value for name, value in self.hparams.items() if isinstance(value, plain) and name != "callbacks"}

    def _callbacks(self, task: TaskModule, data: DataModule, saved) -> cb.CallbackList:
        validation = self._validation(task, data)
        used = [validation] if validation else []
        used += [*self.callbacks, *self._defaults(task, validation)]
        used.sort(key=lambda callback: isinstance(callback, cb.ModelCheckpoint))  # the last: it saves the others' state
        params = {
            "epochs": self.max_epochs, "steps": task.steps_per_epoch, "verbose": 0, "run_dir": self.run_dir,
            "log_every_n_steps": self.log_every_n_steps, "checkpoint_name": lambda step: f"step_{step:09d}",
            "metric_names": self._metric_names(task, used, validation),
        }  # fmt: skip
        _check_monitors(used, params["metric_names"])
        listeners = cb.CallbackList(used, task, params, saved.state["callbacks"] if saved else None)
        listeners.params["save_checkpoint"] = lambda **which: self._save(task, data, listeners, **which)
        for callback in used:
            if isinstance(callback, (cb.Validation, Interrupt)):
                callback.attach(listeners)
        return listeners

    def _validation(self, task: TaskModule, data: DataModule) -> cb.Validation | None:
        dataset = data.train_dataset() if self.overfit_batches else data.val_dataset()
        if dataset is None or not self.limit_val_batches:
            return None
        dataset = _in_order(_checked(dataset, "val_dataset"))
        steps = _share(self.overfit_batches or self.limit_val_batches, len(dataset))
        every = self.val_check_interval
        every = None if every == 1.0 and isinstance(every, float) else _share(every, task.steps_per_epoch)
        strategy = task.distribute_strategy
        return cb.Validation(
            lambda: distribution.distributed_stream(strategy, dataset, epochs=1, steps=steps), steps, every
        )

    def _defaults(self, task: TaskModule, validation) -> list[keras.callbacks.Callback]:
        """The callbacks of every run, less those whose class the user's take the place of."""
        monitor = "val_loss" if validation and "loss" in task.test_totals.kinds else None
        wanted = [cb.NonFiniteGuard(), cb.LearningRateMonitor(), cb.Throughput(), Interrupt()]
        wanted += [Limit(self.max_steps, self._max_seconds)]
        wanted += [cb.ModelSummary()] if self.enable_model_summary else []
        wanted += [cb.CSVLogger(), cb.TensorBoardLogger()] if self.logger else []
        wanted += [cb.ProgressBar()] if self.enable_progress_bar else []
        wanted += (
            [cb.SampleWriter()] if self.run_dir and type(task).write_samples is not TaskModule.write_samples else []
        )
        if self.enable_checkpointing:
            wanted.append(cb.ModelCheckpoint(monitor, save_top_k=int(monitor is not None)))
        given = tuple(type(callback) for callback in self.callbacks)
        return [callback for callback in wanted if not issubclass(type(callback), given)] if given else wanted

    def _metric_names(self, task: TaskModule, callbacks: list, validation) -> list[str]:
        added = [name for c in callbacks if hasattr(c, "metric_names") for name in _named(c, task)]
        of_validation = [f"val_{name}" for name in task.test_totals.kinds] if validation else []
        return list(dict.fromkeys([*task.train_totals.kinds, *added, *of_validation]))

    def _start(self, task: TaskModule, listeners: cb.CallbackList) -> None:
        steps = self.steps_per_execution
        if steps == "auto" and any(_foreign(callback) for callback in listeners.callbacks):
            steps = 1
        task.start(run_eagerly=self.run_eagerly, jit_compile=self._jit(task), steps_per_execution=steps)
        every = [c.every_n_steps for c in listeners.callbacks if isinstance(c, cb.ModelCheckpoint)]
        task.train_calls.stops = tuple(n for n in (self.log_every_n_steps, self.max_steps, *every) if n)
        intervals = [c.every_n_steps for c in listeners.callbacks if isinstance(c, cb.Validation)]
        task.train_calls.epoch_stops = tuple(n for n in intervals if n)

    def _jit(self, task: TaskModule) -> bool:
        if self.jit_compile == "auto":
            return (
                task.prefer_jit_compile
                and not self.run_eagerly
                and distribution.replicas(task.distribute_strategy) == 1
            )
        return self.jit_compile

    def _sanity_check(self, task: TaskModule, listeners: cb.CallbackList, resumed: bool) -> None:
        validation = next((c for c in listeners.callbacks if isinstance(c, cb.Validation)), None)
        if validation and self.num_sanity_val_steps and not resumed:
            validation.check(self.num_sanity_val_steps)

    def _fit(self, task: TaskModule, stream, listeners: cb.CallbackList, epoch: int) -> keras.callbacks.History:
        total = self._total_steps(task.steps_per_epoch)
        epochs = math.ceil(total / task.steps_per_epoch) if total else 10**9
        self.interrupted = None
        if epoch >= epochs or (total and task.global_step >= total):
            print(f"Nothing to do: {task.global_step} updates are made already. Raise max_epochs or max_steps.")
        try:
            self.history = task.fit(
                stream, initial_epoch=epoch, epochs=epochs, steps_per_epoch=task.steps_per_epoch, verbose=0,
                shuffle=False, callbacks=listeners,
            )  # fmt: skip
        except BaseException as error:
            listeners.call("on_exception", error)
            raise
        self._finish(task, listeners)
        return self.history

    def _finish(self, task: TaskModule, listeners: cb.CallbackList) -> None:
        if not listeners.interrupted:
            return
        self.interrupted = listeners.interrupted
        where = ""
        if self.enable_checkpointing:
            where = (
                f" Saved: {listeners.params['save_checkpoint']()}. Continue it with ckpt_path={str(self.run_dir)!r}."
            )
        print(f"Interrupted by {signal.Signals(self.interrupted).name} after update {task.global_step}.{where}")

    def _save(self, task, data, listeners, keep: int | None = None, protect: tuple = ()) -> str:
        for guard in (c for c in listeners.callbacks if isinstance(c, cb.NonFiniteGuard)):
            guard.look()
        arrays, state = run_state.capture(task, data, listeners.state_dict(), self.seed)
        return files.save_checkpoint(
            self.run_dir / run_state.CHECKPOINTS, task.global_step, arrays, state, keep, protect
        )

    @contextlib.contextmanager
    def _ready(self, task: TaskModule, data: DataModule, stage: str, ckpt_path: str | None):
        """The task built and given its weights, and the stage's data."""
        strategy = self._prepare(task, data, stage)
        name = {"validate": "val_dataset", "test": "test_dataset", "predict": "predict_dataset"}[stage]
        dataset = _checked(getattr(data, name)(), name)
        with strategy.scope(), self._precision():
            if not task.built:
                check(
                    ckpt_path is not None,
                    "ckpt_path",
                    "a checkpoint, for a task that is not trained",
                    ckpt_path,
                )
                run_state.build(task, data, dataset.element_spec)
            if ckpt_path is not None:
                saved = files.load_checkpoint(self._checkpoint(ckpt_path, task))
                run_state.check_weights_fit(task, data, saved)
                run_state.restore_weights(task, saved)
            steps = self.steps_per_execution
            task.start(run_eagerly=self.run_eagerly, jit_compile=self._jit(task), steps_per_execution=steps)
            yield strategy, dataset

    def _evaluate(self, task: TaskModule, data: DataModule, stage: str, ckpt_path: str | None) -> dict[str, float]:
        prefix, limit = {
            "validate": ("val", self.limit_val_batches),
            "test": ("test", self.limit_test_batches),
        }[stage]
        with self._ready(task, data, stage, ckpt_path) as (strategy, dataset):
            steps = _share(limit, len(dataset))
            stream = distribution.distributed_stream(strategy, _in_order(dataset), epochs=1, steps=steps)
            task.begin_evaluation(steps)
            logs = task.evaluate(stream, steps=steps, verbose=0, return_dict=True)
        return {f"{prefix}_{name}": value for name, value in logs.items()}


def task_name(task_class: type) -> str:
    """The folder of a task's runs: `TextGeneration` -> `text_generation`."""
    return keras.src.utils.naming.to_snake_case(task_class.__name__)


def _check_share(name: str, value) -> None:
    ok = not isinstance(value, bool) and (
        (isinstance(value, int) and value >= 0) or (isinstance(value, float) and 0 <= value <= 1)
    )
    check(ok, name, "a number of batches (int) or a share of them (float from 0.0 to 1.0)", value)


def _share(amount: int | float, total: int) -> int:
    """So many of `total`, or that share of it, at least one."""
    return min(amount, total) if isinstance(amount, int) else max(1, int(amount * total))


def _checked(dataset, name: str) -> AddressedDataset:
    check(
        isinstance(dataset, AddressedDataset), name,
        "an AddressedDataset (see its from_arrays, from_batches, from_examples), so that a run can resume at any batch",
        dataset, TypeError,
    )  # fmt: skip
    return dataset


def _in_order(dataset: AddressedDataset) -> AddressedDataset:
    return AddressedDataset(dataset.size, dataset.batch_size, dataset.load, shuffle=False)


def _new_folder(parent: Path) -> Path:
    """A folder of its own in `parent`, named by the time."""
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for number in range(1, 1000):
        folder = parent / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
    raise FileExistsError(f"Expected a free name for a run in {parent}. Received: 999 runs of this second")


def _named(callback, task: TaskModule) -> list[str]:
    callback.set_model(task)
    return callback.metric_names()


def _check_monitors(callbacks: list, names: list[str]) -> None:
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if monitor is not None and monitor not in names:
            raise ValueError(
                f"Expected `monitor` of {type(callback).__name__} to be one of {', '.join(names)}. "
                f"Received: monitor={monitor!r}.{nearest(monitor, names)}"
            )


def _foreign(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback that is not lightkeras' wants to see every batch."""
    ours = type(callback).__module__.startswith("lightkeras.")
    return not ours and any(
        cb.base.overrides(callback, hook) for hook in ("on_train_batch_begin", "on_train_batch_end")
    )
