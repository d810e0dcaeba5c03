"""Trainer: turns arguments into a strategy, callbacks and Keras' `fit()`."""

import contextlib
import datetime
import functools
import math
import random
import signal
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lightkeras import callbacks as cb
from lightkeras import checkpoint as files
from lightkeras.callbacks import assemble
from lightkeras.callbacks.batch_hooks import needs_every_batch
from lightkeras.callbacks.interrupt import Interrupt
from lightkeras.callbacks.limit import Limit, to_seconds
from lightkeras.checkpoint.async_writer import CheckpointWriter
from lightkeras.data import stages
from lightkeras.data.dataset import AddressedDataset
from lightkeras.data.module import DataModule
from lightkeras.distribution.replicas import is_chief, num_replicas, one_cpu
from lightkeras.distribution.strategies import make_strategy, workers
from lightkeras.runs import folder as run_folder
from lightkeras.runs import state as run_state
from lightkeras.runs.folder import Folder, task_name
from lightkeras.task import TaskModule
from lightkeras.trainer_arguments import PRECISIONS, check_arguments, check_changes, check_pair
from lightkeras.utils import internals
from lightkeras.utils.checks import require, require_int
from lightkeras.utils.hparams import HyperparametersMixin, describe
from lightkeras.utils.paths import as_path

WORKERS_STEPS = 10
FOREVER = 1000
DATASETS = {"validate": "val_dataset", "test": "test_dataset", "predict": "predict_dataset"}


def seed_everything(seed: int) -> int:
    """Seeds Python, NumPy, TensorFlow and Keras; returns `seed`."""
    require_int("seed", seed, minimum=0)
    keras.utils.set_random_seed(seed)
    return seed


class Trainer(HyperparametersMixin):
    """Fits, validates and tests a `TaskModule` on a `DataModule`.

    Args:
        max_epochs: Epochs to train for. None: until `max_steps` or `max_time`, or else 1000.
        max_steps: Updates to train for.
        max_time: "DD:HH:MM:SS", a `datetime.timedelta` or a dict of its arguments.
        devices: How many, which (a list of indices), or "auto": every GPU, or one CPU.
        strategy: "auto", "mirrored", "multi_worker" (every process of `TF_CONFIG` or Slurm runs the same program; make
            the Trainer before TensorFlow runs anything), or a `tf.distribute.Strategy`.
        precision: "32", "bf16-mixed" (Keras' "mixed_bfloat16") or "16-mixed" (its "mixed_float16"; the loss is scaled
            for every optimizer by itself, and an update whose reduced gradients are not finite is skipped).
        micro_batches: Parts that a batch is cut into, one after the other: less memory, the same update.
        gradient_clip_val: Bound of the reduced gradients; None for none.
        gradient_clip_algorithm: "norm" (the global norm of an optimizer's gradients), "norm_per_variable" (Keras'
            `clipnorm`) or "value" (each element).
        seed: Keys initial weights, order of the data, dropout. None draws one, which the run's folder keeps.
        deterministic: Only TensorFlow operations that give the same bits each time; for the rest of the process.
        run_eagerly: Steps run op by op, for a debugger.
        jit_compile: Steps compiled by XLA; one device only. "auto" takes the task's `prefer_jit_compile`; where that
            is None, a run of more than two minutes times both, prints and keeps what is faster (not with
            `deterministic`).
        steps_per_execution: Updates made by one call; "auto" fills some tens of milliseconds. Callbacks come at the
            calls' edges, so "auto" is 1 if a callback that is not lightkeras' listens to batches.
        callbacks: Keras callbacks; one of a default's class takes its place.
        logger: True: metrics.csv and TensorBoard. False: neither.
        enable_checkpointing: Whether the run is saved.
        checkpoint_every_n_steps: Save after so many updates too, not only after each epoch and validation.
        checkpoint_every_seconds: Save so many seconds after the last time too; None for 600, as `ModelCheckpoint`.
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
        log_gradient_norm: Whether the global norm of the reduced gradients, before clipping, is among the metrics:
            `gradient_norm`, or `NAME_gradient_norm` of several optimizers.

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
        enable_checkpointing: bool = True, checkpoint_every_n_steps: int | None = None,
        checkpoint_every_seconds: float | None = None, default_root_dir: str = "runs", enable_progress_bar: bool = True,
        enable_model_summary: bool = True, fast_dev_run: bool | int = False, overfit_batches: int | float = 0,
        limit_train_batches: int | float = 1.0, limit_val_batches: int | float = 1.0,
        limit_test_batches: int | float = 1.0, val_check_interval: int | float = 1.0, num_sanity_val_steps: int = 2,
        log_every_n_steps: int = 50, log_gradient_norm: bool = False,
    ):  # fmt: skip
        for name, value in list(locals().items()):
            if name not in ("self", "__class__"):
                setattr(self, name, value)
        check_arguments(self)
        self.callbacks = list(callbacks or [])
        self._max_seconds = to_seconds(max_time)
        self.seed = random.SystemRandom().randrange(2**31) if seed is None else seed
        self.run_dir = self.history = self.interrupted = None
        if strategy == "multi_worker":
            workers()  # before TensorFlow runs anything
        if fast_dev_run:
            self._develop(int(fast_dev_run))

    def _develop(self, batches: int) -> None:
        self.max_epochs, self.max_steps = 1, batches
        self.limit_train_batches = self.limit_test_batches = batches
        self.limit_val_batches = self.limit_val_batches and batches
        self.overfit_batches = self.overfit_batches and batches
        self.val_check_interval, self.num_sanity_val_steps = 1.0, 0
        self.logger = self.enable_checkpointing = False
        self.callbacks = [c for c in self.callbacks if not getattr(c, "writes_files", False)]

    # ---- the four verbs

    def fit(
        self, task: TaskModule, data: DataModule, ckpt_path: str | None = None, weights_path: str | None = None,
        allow_changes: Sequence[str] = (),
    ) -> keras.callbacks.History:  # fmt: skip
        """Trains `task` on `data`.

        Args:
            task: The task.
            data: Its data.
            ckpt_path: Continue a run: "last" (the task's newest under `default_root_dir`), a run's folder or a
                checkpoint's; "auto": the newest if there is one. None begins a new one. From a checkpoint that is not
                the run's last, it goes on in a new folder, so that what came later stays. Where a run's last checkpoint
                is damaged, it goes on from the one before, with a warning.
            weights_path: Begin a run with the weights of a trained one, and nothing else of it: a run's folder (its
                best checkpoint) or a checkpoint's. Optimizers and position are new; task class and vocabulary must be
                the same. With `ckpt_path="auto"` it is for the run's beginning.
            allow_changes: What may differ from the run that is continued, by the names that the refusal shows:
                "data.init_args.source", or "data" for all of it. Where it is an argument of the task, the optimizers
                take their learning rates from `configure_optimizers` and the rest from the checkpoint.

        Returns:
            Keras' `History`: epochs, and metric values by name.

        Raises:
            CheckpointError: The checkpoint is damaged, or of a run with another task, data or seed; or one could not be
                written.
            NonFiniteLossError: A loss became NaN or infinite.
        """
        check_pair(task, data)
        begins = ckpt_path in (None, "auto")
        require(
            begins or weights_path is None, "weights_path", "None in a run that goes on from ckpt_path", weights_path
        )
        check_changes(allow_changes)
        ckpt_path = self._to_continue(task, data, ckpt_path, allow_changes)
        weights = self._pretrained(task, data, weights_path) if weights_path and ckpt_path is None else None
        strategy = self._prepare(task, data, "fit")
        with strategy.scope(), self._precision():
            parts = num_replicas(strategy) * self.micro_batches
            train, steps = stages.training(data, self.limit_train_batches, self.overfit_batches, parts)
            if not task.built:
                seed_everything(self.seed)
                run_state.build(task, data, train.element_spec)
            task.steps_per_epoch, task.total_steps = steps, self._total_steps(steps)
            task.build_optimizers()
            saved = self._resume(task, data, ckpt_path, allow_changes)
            if weights:
                run_state.check_weights_fit(task, data, weights)
                run_state.restore_weights(task, weights)
            listeners = self._callbacks(task, data, ckpt_path, saved)
            self._start(task, listeners)
            epoch, step = divmod(task.global_step, steps)
            self._sanity_check(listeners, resumed=saved is not None)
            address = {"seed": self.seed, "epoch": epoch, "step": step, "steps": steps}
            return self._fit(task, self._stream(task, train, address), listeners, epoch)

    def validate(self, task: TaskModule, data: DataModule, ckpt_path: str | None = None) -> dict[str, float]:
        """The metrics on the validation data, by their `val_` names; see `test`."""
        require(self.limit_val_batches, "limit_val_batches", "above 0 to validate", self.limit_val_batches)
        return self._evaluate(task, data, "validate", "val", self.limit_val_batches, ckpt_path)

    def test(self, task: TaskModule, data: DataModule, ckpt_path: str | None = None) -> dict[str, float]:
        """The metrics on the test data, by their `test_` names.

        Args:
            task: A trained task, or one to be given the weights of `ckpt_path`.
            data: Its data.
            ckpt_path: "best" or "last" (of the task's newest run), a run's folder or a checkpoint's. None: as it is.
        """
        return self._evaluate(task, data, "test", "test", self.limit_test_batches, ckpt_path)

    def predict(self, task: TaskModule, data: DataModule, ckpt_path: str | None = None):
        """`task.predict_step` on all of `data.predict_dataset()`: arrays with the example axis first, in its order.

        Where batches are grouped by length and so differ in width, outputs are padded with zeros to the widest.
        """
        with self._ready(task, data, "predict", 1.0, ckpt_path) as (dataset, steps):
            stream = dataset.replica_stream(task.distribute_strategy, epochs=1)
            outputs = task.predict(stream, steps=steps, verbose=0, callbacks=self._listeners(task, steps))
        return keras.tree.map_structure(lambda rows: dataset.in_order(_padded(rows)), outputs)

    # ---- how

    def _prepare(self, task: TaskModule, data: DataModule, stage: str) -> tf.distribute.Strategy:
        strategy = self._strategy(task)
        xla_on_many = self.jit_compile is True and num_replicas(strategy) > 1
        require(not xla_on_many, "jit_compile", 'False or "auto" on several devices', self.jit_compile)
        if self.deterministic:
            tf.config.experimental.enable_op_determinism()
            tf.random.set_seed(self.seed)
        data.prepare_data()
        data.setup(stage)
        task.seed, task.micro_batches = self.seed, self.micro_batches
        task.gradient_clip_val, task.gradient_clip_algorithm = self.gradient_clip_val, self.gradient_clip_algorithm
        task.log_gradient_norm = self.log_gradient_norm
        return strategy

    def _strategy(self, task: TaskModule) -> tf.distribute.Strategy:
        """The strategy; that of a task which is built already, if it is what is asked for."""
        if not task.built:
            return make_strategy(self.devices, self.strategy)
        there = task.distribute_strategy
        if (self.devices, self.strategy) != ("auto", "auto"):
            wanted = num_replicas(make_strategy(self.devices, self.strategy))
            expected = f'{num_replicas(there)} or "auto" for a task that was built on so many'
            require(wanted == num_replicas(there), "devices", expected, self.devices)
        policies = {layer.dtype_policy.name for layer in internals.flatten_layers(task)}
        policy = PRECISIONS[self.precision]
        as_built = policy == "float32" or policy in policies
        require(as_built, "precision", f"that of a task which is built already: {policies}", self.precision)
        return there

    @contextlib.contextmanager
    def _precision(self):
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(PRECISIONS[self.precision])
        try:
            yield
        finally:
            keras.config.set_dtype_policy(before)

    def _total_steps(self, steps: int) -> int | None:
        epochs = self.max_epochs or (None if self.max_steps or self._max_seconds else FOREVER)
        known = [total for total in (self.max_steps, epochs and epochs * steps) if total]
        return min(known) if known else None

    def _to_continue(self, task: TaskModule, data: DataModule, ckpt_path: str | None, allowed) -> str | None:
        """The checkpoint to go on from, which is of this very run, or None."""
        if ckpt_path == "auto":
            ckpt_path = run_folder.newest_run(as_path(self.default_root_dir), task_name(type(task)))
        if ckpt_path is None:
            return None
        found = self._checkpoint(ckpt_path, task, "last")
        if run_folder.means_last(ckpt_path):
            found = files.fall_back(found)
        if self.init_args["seed"] is None:
            self.seed = files.read_state(found)["seed"]
        run_state.check_same(found, run_state.identity(task, data, self.seed), allowed)
        return found

    def _pretrained(self, task: TaskModule, data: DataModule, weights_path: str) -> files.Checkpoint:
        """The checkpoint to take weights from; the data gets its vocabulary."""
        saved = files.load_checkpoint(self._checkpoint(weights_path, task, "best"))
        data.load_state_dict(saved.state["data_state"])
        return saved

    def _checkpoint(self, ckpt_path: str | Folder, task: TaskModule, of_run: str) -> str:
        return run_folder.find_checkpoint(ckpt_path, as_path(self.default_root_dir), task_name(type(task)), of_run)

    def _resume(self, task: TaskModule, data: DataModule, ckpt_path: str | None, allowed) -> files.Checkpoint | None:
        task.global_step = 0
        task.train_sums.reset()
        if ckpt_path is None:
            return None
        known = {"data_state": data.state_dict(), "steps_per_epoch": task.steps_per_epoch}
        changed = run_state.check_same(ckpt_path, {**run_state.identity(task, data, self.seed), **known}, allowed)
        saved = files.load_checkpoint(ckpt_path)
        run_state.restore(task, saved, keep_rates=any(name.startswith("task.") for name in changed))
        return saved

    def _callbacks(self, task: TaskModule, data: DataModule, ckpt_path: str | None, saved) -> cb.CallbackList:
        """Every callback of the run, told what it needs; makes the run's folder, once all is found right."""
        validation = self._validation(task, data)
        used = assemble.in_order(self.callbacks, self._defaults(task, validation))
        names = assemble.metric_names(task, used, validation)
        assemble.check_monitors(used, names)
        if not is_chief(task.distribute_strategy):
            used = [callback for callback in used if not getattr(callback, "chief_only", False)]
        self.run_dir = self._open_run(task, data, ckpt_path, used)
        total = task.total_steps
        params = {
            "epochs": total and math.ceil(total / task.steps_per_epoch), "steps": task.steps_per_epoch, "verbose": 0,
            "run_dir": self.run_dir, "log_every_n_steps": self.log_every_n_steps, "metric_names": names,
            "checkpoint_name": lambda step: f"step_{step:09d}", "checkpoint_writer": CheckpointWriter(),
        }  # fmt: skip
        listeners = cb.CallbackList(used, task, params, saved.state["callbacks"] if saved else None)
        listeners.params["save_checkpoint"] = functools.partial(self._save, task, data, listeners)
        for callback in used:
            if isinstance(callback, (cb.Validation, Interrupt)):
                callback.attach(listeners)
        return listeners

    def _validation(self, task: TaskModule, data: DataModule) -> cb.Validation | None:
        if not self.limit_val_batches or (self.overfit_batches and not task.test_sums.kinds):
            return None
        found = stages.validation(data, self.limit_val_batches, self.overfit_batches)
        if found is None:
            return None
        dataset, steps = found
        return cb.Validation(dataset, steps, self._val_interval(task.steps_per_epoch))

    def _val_interval(self, steps: int) -> int | None:
        """Updates between two validations within an epoch of so many `steps`."""
        every = self.val_check_interval
        if isinstance(every, float):
            return None if every == 1 else stages.batch_count(every, steps)
        require(every <= steps, "val_check_interval", f"at most {steps}, the updates of an epoch", every)
        return every

    def _defaults(self, task: TaskModule, validation: cb.Validation | None) -> list[keras.callbacks.Callback]:
        """The callbacks of every run."""
        monitor, mode = task.monitor if validation else (None, "min")
        if monitor not in [f"val_{name}" for name in task.evaluation_names]:
            monitor = None
        writes_samples = type(task).write_samples is not TaskModule.write_samples
        used = [validation] if validation else []
        used += [cb.NonFiniteGuard(), cb.LearningRateMonitor(), cb.Throughput(), Interrupt(), keras.callbacks.History()]
        used += [Limit(self.max_steps, self._max_seconds)]
        used += [cb.Compilation()] if self.jit_compile == "auto" and not self.deterministic else []
        used += [cb.ModelSummary()] if self.enable_model_summary else []
        used += [cb.CSVLogger(), cb.TensorBoardLogger()] if self.logger else []
        used += [cb.ProgressBar()] if self.enable_progress_bar else []
        used += [cb.SampleWriter()] if writes_samples and (self.logger or self.enable_checkpointing) else []
        return [*used, self._default_checkpoint(monitor, mode)] if self.enable_checkpointing else used

    def _default_checkpoint(self, monitor: str | None, mode: str) -> cb.ModelCheckpoint:
        intervals = {"every_n_steps": self.checkpoint_every_n_steps, "every_seconds": self.checkpoint_every_seconds}
        given = {name: value for name, value in intervals.items() if value is not None}
        return cb.ModelCheckpoint(monitor, mode, save_top_k=int(monitor is not None), **given)

    def _open_run(self, task: TaskModule, data: DataModule, ckpt_path: str | None, used: list) -> Folder | None:
        """The run's folder, or None where no callback writes."""
        if not any(getattr(callback, "writes_files", False) for callback in used):
            return None
        trainer, left_out = run_folder.trainer_config(self)
        config = {"trainer": trainer, "task": describe(task), "data": describe(data)}
        return run_folder.open_run(as_path(self.default_root_dir) / task_name(type(task)), config, left_out, ckpt_path)

    def _start(self, task: TaskModule, listeners: cb.CallbackList) -> None:
        self._compile(task)
        every = [c.every_n_steps for c in listeners.callbacks if isinstance(c, cb.ModelCheckpoint)]
        task.train_calls.stops = tuple(n for n in (self.log_every_n_steps, self.max_steps, *every) if n)
        intervals = [c.every_n_steps for c in listeners.callbacks if isinstance(c, cb.Validation)]
        task.train_calls.epoch_stops = tuple(n for n in intervals if n)

    def _compile(self, task: TaskModule) -> None:
        steps, jit = self.steps_per_execution, self.jit_compile
        if steps == "auto" and any(needs_every_batch(callback) for callback in self.callbacks):
            steps = 1
        elif steps == "auto" and internals.has_workers(task.distribute_strategy):
            steps = WORKERS_STEPS  # workers must agree: their clocks do not
        if jit == "auto":
            one = num_replicas(task.distribute_strategy) == 1
            jit = bool(task.prefer_jit_compile) and one and not self.run_eagerly  # None: `Compilation` finds out
        task.start(run_eagerly=self.run_eagerly, jit_compile=jit, steps_per_execution=steps)

    def _sanity_check(self, listeners: cb.CallbackList, resumed: bool) -> None:
        validation = next((c for c in listeners.callbacks if isinstance(c, cb.Validation)), None)
        if validation and self.num_sanity_val_steps and not resumed:
            validation.check(self.num_sanity_val_steps)

    def _stream(self, task: TaskModule, train: AddressedDataset, address: dict):
        """What `fit()` reads; of arrays in memory on one CPU, the task gathers its batches in the compiled loop."""
        task.read_from_memory(None, None)
        if train.gather_from_memory is None or not one_cpu(task.distribute_strategy):
            return train.replica_stream(task.distribute_strategy, **address, micro_batches=self.micro_batches)
        steps = address["steps"]
        task.read_from_memory(
            train.gather_from_memory, lambda epoch: train.index_table(self.seed, epoch, steps, self.micro_batches)
        )
        return tf.data.Dataset.range(np.iinfo(np.int64).max)

    def _fit(self, task: TaskModule, stream, listeners: cb.CallbackList, epoch: int) -> keras.callbacks.History:
        if task.total_steps and task.global_step >= task.total_steps:
            print(f"Nothing to do: {task.global_step} updates are made already. Raise max_epochs or max_steps.")
        self.interrupted = None
        try:
            self.history = task.fit(
                stream, initial_epoch=epoch, epochs=listeners.params["epochs"] or 10**9,
                steps_per_epoch=task.steps_per_epoch, verbose=0, shuffle=False, callbacks=listeners,
            )  # fmt: skip
        except BaseException as error:
            listeners.on_exception(error)
            raise
        task.finish_averages()
        self.interrupted = listeners.interrupted
        if self.interrupted:
            name = signal.Signals(self.interrupted).name
            saved = self.run_dir and self.enable_checkpointing  # of several workers, the first has saved
            how = f" Continue it with ckpt_path={str(self.run_dir)!r}." if saved else ""
            print(f"Interrupted by {name} after update {task.global_step}.{how}")
        return self.history

    def _save(
        self, task: TaskModule, data: DataModule, listeners: cb.CallbackList, keep: int | None = None,
        wait: bool = True, folder: Folder | None = None,
    ) -> str:  # fmt: skip
        """Writes a checkpoint of a run whose losses and weights are finite; the best ones stay."""
        require(
            self.run_dir is not None, "enable_checkpointing", "True to save a checkpoint", self.enable_checkpointing
        )
        best = []
        for callback in listeners.callbacks:
            if isinstance(callback, cb.NonFiniteGuard):
                callback.look()
                callback.look_at_weights()
            elif isinstance(callback, cb.ModelCheckpoint):
                best += callback.scores
        arrays, state = run_state.capture(task, data, listeners.state_dict(), self.seed)
        writer = listeners.params["checkpoint_writer"]
        folder = folder or self.run_dir / run_folder.CHECKPOINTS
        path = writer.save(folder, task.global_step, arrays, state, keep, best)
        if wait:
            writer.wait()
        return path

    @contextlib.contextmanager
    def _ready(self, task: TaskModule, data: DataModule, stage: str, limit: int | float, ckpt_path: str | None):
        """The task built and given its weights, and the stage's data."""
        check_pair(task, data)
        expected = "a checkpoint, for a task that is not trained"
        require(task.built or ckpt_path is not None, "ckpt_path", expected, ckpt_path)
        found = ckpt_path and self._checkpoint(ckpt_path, task, "best")
        strategy = self._prepare(task, data, stage)
        used = stages.evaluation(data, DATASETS[stage], limit)
        with strategy.scope(), self._precision():
            if not task.built:
                run_state.build(task, data, used.dataset.element_spec)
            if found:
                saved = files.load_checkpoint(found)
                run_state.check_weights_fit(task, data, saved)
                run_state.restore_weights(task, saved)
            self._compile(task)
            yield used

    def _listeners(self, task: TaskModule, steps: int) -> cb.CallbackList:
        """The user's callbacks, outside of training."""
        params = {"steps": steps, "verbose": 0, "run_dir": None, "log_every_n_steps": self.log_every_n_steps}
        return cb.CallbackList(self.callbacks, task, params)

    def _evaluate(self, task, data, stage: str, prefix: str, limit: int | float, ckpt_path) -> dict[str, float]:
        with self._ready(task, data, stage, limit, ckpt_path) as (dataset, steps):
            logs = task.evaluate_dataset(dataset, steps, self._listeners(task, steps))
        return {f"{prefix}_{name}": value for name, value in logs.items()}


def _padded(rows) -> np.ndarray:
    """The outputs of all batches: those of differing width come as a ragged tensor."""
    return np.asarray(rows.to_tensor() if isinstance(rows, tf.RaggedTensor) else rows)
