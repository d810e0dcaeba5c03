"""Trainer: turns arguments into a strategy, callbacks and Keras' `fit()`."""

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import keras
import tensorflow as tf

from lightkeras.callbacks.assemble import assemble
from lightkeras.callbacks.batch_hooks import needs_every_batch
from lightkeras.callbacks.callback_list import CallbackList
from lightkeras.callbacks.ending import announce_end
from lightkeras.callbacks.validation import try_out_validation
from lightkeras.checkpoint import Checkpoint
from lightkeras.data import DataModule, stages
from lightkeras.data.batched import BatchedDataset
from lightkeras.data.brought import BroughtData, as_data_module, as_evaluation_module
from lightkeras.data.failures import name_example
from lightkeras.data.named_sets import metric_prefix
from lightkeras.distribution.replicas import is_chief, num_replicas
from lightkeras.distribution.strategies import make_worker_strategy
from lightkeras.keras_models.accept import as_task
from lightkeras.runs import folder, lock, state
from lightkeras.runs.run import UNSET, Run
from lightkeras.runs.saver import RunSaver
from lightkeras.task import TaskModule
from lightkeras.trainer_arguments import TrainerArguments, require_changeable, require_task
from lightkeras.training.determinism import make_deterministic
from lightkeras.training.loop import Source, as_unreadable
from lightkeras.training.optimizers import UpdateSettings
from lightkeras.training.precision import use_precision
from lightkeras.training.strategy_choice import choose_strategy
from lightkeras.utils import internals
from lightkeras.utils.checks import require, require_int
from lightkeras.utils.lightning import TRAINER_ATTRIBUTES, replace_attributes
from lightkeras.utils.messages import logger as messages
from lightkeras.utils.paths import Folder, as_path
from lightkeras.utils.seeds import seeded

WORKERS_STEPS = 10  # per call: workers must agree, and their clocks do not
DEFAULT_MAX_EPOCHS = 1000
ALL, ITS_OWN = "All promises hold", "A stopped run resumes to the same bits"  # of a task, of a plain Keras model
DATASETS = {"validate": "val_dataset", "test": "test_dataset", "predict": "predict_dataset"}


def seed_everything(seed: int) -> int:
    """Seeds Python, NumPy, TensorFlow and Keras; returns `seed`."""
    require_int("seed", seed, minimum=0)
    keras.utils.set_random_seed(seed)
    return seed


@replace_attributes(TRAINER_ATTRIBUTES)
class Trainer(TrainerArguments):
    """Fits, validates and tests a `TaskModule` on a `DataModule`.

    Args:
        max_epochs: Epochs to train for. None: until `max_steps` or `max_time`, or else 1000.
        max_steps: Updates to train for.
        max_time: "DD:HH:MM:SS", a `datetime.timedelta` or a dict of its arguments.
        accelerator: "gpu", "cpu", or "auto": GPUs where there are any. "cpu" leaves GPUs alone and makes as many
            logical CPUs as `devices` says, for trying replicas without GPUs; TensorFlow must not have started.
        devices: A number of devices, a list of indices, or "auto": every GPU, or one CPU.
        strategy: "auto", "mirrored", "multi_worker" (every process of `TF_CONFIG` or Slurm runs the same program; they
            meet in the first `fit` or `validate`, before which TensorFlow must run no operation), or a
            `tf.distribute.Strategy`.
        precision: "32", "bf16-mixed" (Keras' "mixed_bfloat16") or "16-mixed" (Keras' "mixed_float16"; each optimizer
            scales its loss, and an update whose reduced gradients are not finite is skipped).
        micro_batches: Parts of a batch that are computed one after the other: less memory, the same update.
        gradient_clip_val: Bound of the reduced gradients; None for none.
        gradient_clip_algorithm: "norm" (the global norm of an optimizer's gradients), "norm_per_variable" (Keras'
            `clipnorm`) or "value" (each element).
        seed: Keys initial weights, the order of the data, dropout. None draws one, which the run's folder keeps.
        deterministic: Use only TensorFlow operations that give the same bits each time, for the rest of the process.
        run_eagerly: Run steps op by op, for a debugger.
        jit_compile: Let XLA compile steps; one device only. "auto" takes the task's `prefer_jit_compile`; if that is
            None, a run of more than two minutes times both, says so and keeps the faster one (not with
            `deterministic`).
        steps_per_execution: Updates per call; "auto" fills some tens of milliseconds. Callbacks come at the edges of
            calls, so "auto" is 1 if a callback listens to batches without declaring `accepts_many_steps`.
        callbacks: Keras callbacks; a callback of the same class replaces a default.
        logger: True: metrics.csv and TensorBoard. False: none. Or names, "csv,tensorboard,mlflow,wandb" or a list.
        enable_checkpointing: Save the run.
        checkpoint_every_n_steps: Save after every n updates too, not only after each epoch and validation.
        checkpoint_every_seconds: Save this number of seconds after the last save too; None for 600.
        default_root_dir: Runs lie in `default_root_dir/TASK/NAME/`.
        enable_progress_bar: Show a line per epoch.
        enable_model_summary: Show a table of the layers.
        fast_dev_run: True or a number: this number of batches of training and validation, nothing written.
        overfit_batches: Train and validate on this number (or share) of the training batches, unshuffled.
        limit_train_batches: Batches of an epoch to use: a number, or a share up to 1.0.
        limit_val_batches, limit_test_batches, limit_predict_batches: The same for the other stages.
        val_check_interval: Validate also within an epoch: after this number of updates, or this share of the epoch; or
            in every epoch, when this time of training has passed since the last validation: "HH:MM:SS", or as
            `max_time`. A resumed run goes on counting.
        check_val_every_n_epoch: Validate in every n-th epoch only, and then at its end.
        num_sanity_val_steps: Validation batches run before training, so that an error there comes at once.
        log_every_n_steps: Updates between two rows of the logs.
        log_gradient_norm: Log the global norm of the reduced gradients, before clipping, as `gradient_norm`, or as
            `NAME_gradient_norm` of several optimizers.
        profiler: The first and the last update of a TensorBoard profile, "20-30"; None for none. See
            `callbacks.Profiler`.
        hang_timeout: Seconds after which a run that hangs ends, with exit code 75; None never ends it. See
            `callbacks.Watchdog`.
        export: A format of `lk.export.FORMATS`: export the best checkpoint (the last, if none is ranked) to `exports/`
            in the run's folder, when training ends; an export is tried out before it begins.

    Attributes:
        run_dir: The folder of the last run, or None.
        history: Keras' `History` of the last `fit`.
        callback_metrics: The latest value of every metric, training and validation, by name.
        interrupted: The signal that ended the last `fit`, or None.
        began_at: When the last `fit` began, by `time.monotonic()`, or None.

    Raises:
        ValueError: Invalid value or combination; checked before training starts.
    """

    run_dir: Folder | None = None
    history: keras.callbacks.History | None = None
    interrupted: int | None = None
    began_at: float | None = None
    callback_metrics: Mapping[str, float] = MappingProxyType({})

    # ---- fit, validate, test, predict

    def fit(
        self, task: TaskModule, data: Any, ckpt_path: str | None = None, weights_path: str | None = None,
        allow_changes: Sequence[str] = (), *, validation_data: Any = None, batch_size: int | None = None,
        shuffle: bool = True, class_weight: dict[int, float] | None = None,
    ) -> keras.callbacks.History:  # fmt: skip
        """Trains `task` on `data`.

        Args:
            task: The task.
            data: A `DataModule`, or the data itself: arrays, a `tf.data.Dataset`, a sequence, an iterable, in the forms
                of Keras' `fit` (see `data/README.md`).
            ckpt_path: Resume a run: "last" (the task's newest under `default_root_dir`), the folder of a run or of a
                checkpoint; "auto": the newest if there is one. None starts a new one. From a checkpoint that is not
                the run's last, the run is resumed in a new folder, so that later checkpoints stay. If a run's last
                checkpoint is damaged, the one before is used, with a warning.
            weights_path: Start a run with the weights of a trained one, and nothing else of it: the folder of a run
                (its best checkpoint) or of a checkpoint. Optimizers and position are new; task class and vocabulary
                must be the same. With `ckpt_path="auto"` it applies only if there is no run to resume.
            allow_changes: Values that may differ from the resumed run, by the names in the error message:
                "data.init_args.source", or "data" for all of it. If it is an argument of the task, the optimizers take
                their learning rates from `configure_optimizers` and the rest from the checkpoint.
            validation_data, batch_size, shuffle, class_weight: As for Keras' `fit`, with data that is no `DataModule`.

        Returns:
            Keras' `History`: epochs, and metric values by name.

        Raises:
            CheckpointError: The checkpoint is damaged, or of a run with another task, data or seed; or one could not
                be written.
            NonFiniteLossError: A loss became NaN or infinite.
        """
        self.began_at = time.monotonic()
        task = as_task(task)
        require_task(task)
        data = as_data_module(data, validation_data, batch_size, shuffle, class_weight)
        starts = ckpt_path in (None, "auto")
        require(starts or weights_path is None, "weights_path", "None with a ckpt_path to resume", weights_path)
        require_changeable(allow_changes)
        if not self.fast_dev_run and (self.logger or self.enable_checkpointing):
            state.identity(task, data, self.seed)  # raises where an argument has a type that no file can hold
        self._meet_workers()
        saved = self._open_resumed(task, ckpt_path)
        if saved:
            self.seed = saved.state["seed"] if self.init_args["seed"] is None else self.seed
            state.require_same(saved, state.identity(task, data, self.seed), allow_changes)
        weights = self._open(weights_path, task, "best") if weights_path and not saved else None
        if weights:
            data.load_state_dict(weights.state["data_state"])
        strategy = self._prepare(task, data, "fit")
        with strategy.scope(), use_precision(self.precision), contextlib.ExitStack() as held:
            parts = num_replicas(strategy) * self.micro_batches if isinstance(task, TaskModule) else 1
            with seeded(self.seed):
                train, steps = stages.training(data, self.limit_train_batches, self.overfit_batches, parts)
            task.begin_stage("fit", train)
            self._build(task, data, train, steps, saved or weights)
            if weights:
                state.restore_trained(task, data, weights)
            if saved:
                state.resume(task, data, saved, self.seed, allow_changes)
            callbacks = self._open_run(task, data, saved, held)
            if train.reading:
                messages.info("Data: %s", train.reading.describe(ALL if isinstance(task, TaskModule) else ITS_OWN))
            source = task.training_source(train, self.seed, steps, self.micro_batches)
            self._compile(task, callbacks, source)
            if self.num_sanity_val_steps and not saved:
                try_out_validation(callbacks, self.num_sanity_val_steps)
            resumed = saved.state if saved else {}
            del saved, weights  # their arrays
            return self._run(task, train, source, callbacks, resumed)

    def validate(
        self, task: TaskModule, data: Any, ckpt_path: str | None = None, *, batch_size: int | None = None
    ) -> dict[str, float]:
        """Returns the metrics on the validation data, by their `val_` names, `val_NAME_` of named sets; see `test`."""
        require(self.limit_val_batches > 0, "limit_val_batches", "above 0 to validate", self.limit_val_batches)
        return self._evaluate(task, data, "validate", "val", self.limit_val_batches, ckpt_path, batch_size)

    def test(
        self, task: TaskModule, data: Any, ckpt_path: str | None = None, *, batch_size: int | None = None
    ) -> dict[str, float]:
        """Returns the metrics on the test data, by their `test_` names, `test_NAME_` of named sets.

        Args:
            task: A trained task, or one that takes the weights of `ckpt_path`.
            data: A `DataModule`, or the data itself, as for `fit`.
            ckpt_path: "best" or "last" (of the task's newest run), the folder of a run or of a checkpoint. None: the
                task as it is.
            batch_size: Rows of a batch, for data that is no `DataModule` and no batches; None for 32.
        """
        return self._evaluate(task, data, "test", "test", self.limit_test_batches, ckpt_path, batch_size)

    def predict(self, task: TaskModule, data: Any, ckpt_path: str | None = None, *, batch_size: int | None = None):
        """Returns `task.predict_step` on `data.predict_dataset()`: arrays with the example axis first, in its order.

        If batches are grouped by length and so differ in width, outputs are padded with zeros to the widest.
        """
        task = as_task(task)
        data = as_evaluation_module(data, batch_size, getattr(task, "spec", None))
        with self._ready(task, data, "predict", self.limit_predict_batches, ckpt_path) as used:
            ((dataset, steps),) = used.values()
            return task.predict_dataset(dataset, steps, self._evaluation_callbacks(task, steps))

    # ---- before training

    def _meet_workers(self) -> None:
        if self.strategy == "multi_worker":
            make_worker_strategy()  # first of all: TensorFlow must not have run any operation

    def _prepare(self, task: TaskModule, data: DataModule, stage: str) -> tf.distribute.Strategy:
        strategy = choose_strategy(task, self.devices, self.strategy, self.precision)
        xla_on_many = self.jit_compile is True and num_replicas(strategy) > 1
        require(not xla_on_many, "jit_compile", 'False or "auto" on several devices', self.jit_compile)
        if self.deterministic:
            make_deterministic(self.seed)
        data.prepare_data()
        with seeded(self.seed):
            data.setup(stage)
        task.seed = self.seed
        return strategy

    def _build(
        self, task: TaskModule, data: DataModule, train: BatchedDataset, steps: int, saved: Checkpoint | None
    ) -> None:
        if not task.built:
            if not task.usable:
                seed_everything(self.seed)
            state.build(task, data, train.element_spec, saved)
        settings = UpdateSettings(
            self.micro_batches, self.gradient_clip_val, self.gradient_clip_algorithm, self.log_gradient_norm
        )
        with internals.names_from_the_start():
            task.build_optimizers(settings, steps, self._total_steps(steps))
        task.global_step = 0

    def _total_steps(self, steps: int) -> int | None:
        epochs = self.max_epochs or (None if self.max_steps or self.max_seconds else DEFAULT_MAX_EPOCHS)
        known = [total for total in (self.max_steps, epochs and epochs * steps) if total]
        return min(known) if known else None

    def _open_resumed(self, task: TaskModule, ckpt_path: str | Folder | None) -> Checkpoint | None:
        """Opens the checkpoint to resume from; None starts a new run."""
        if ckpt_path == "auto":
            root, name = as_path(self.default_root_dir), task.name_of_runs
            lock.require_free([root, *(root / name).glob("*")])
            ckpt_path = folder.newest_run(root, name)
        return None if ckpt_path is None else self._open(ckpt_path, task, "last")

    def _open(self, ckpt_path: str | Folder, task: TaskModule, default: str) -> Checkpoint:
        root, name = as_path(self.default_root_dir), task.name_of_runs
        return folder.open_checkpoint(ckpt_path, root, name, default)

    def _open_run(
        self, task: TaskModule, data: DataModule, saved: Checkpoint | None, held: contextlib.ExitStack
    ) -> CallbackList:
        """Makes the callbacks and, once everything is checked, the run's folder, which `held` keeps locked."""
        used, names = assemble(self, task, data)
        if not is_chief(task.distribute_strategy):
            used = [callback for callback in used if not getattr(callback, "chief_only", False)]
        writes = any(getattr(callback, "writes_files", False) for callback in used)
        self.run_dir = folder.open_run(self, task, data, saved and saved.path) if writes else None
        if self.run_dir:
            held.enter_context(lock.hold(self.run_dir))
        steps, total = task.steps_per_epoch, task.total_steps
        epochs, saver = total and math.ceil(total / steps), RunSaver(task, data, self.seed)
        run = Run(steps, self.log_every_n_steps, self.run_dir or UNSET, epochs, names, saver)
        return CallbackList(used, task, run, saved)

    def _compile(
        self, task: TaskModule, callbacks: CallbackList | None = None, source: Source | None = None, stage: str = "val"
    ) -> None:
        steps, jit = self.steps_per_execution, self.jit_compile
        if steps == "auto" and any(needs_every_batch(callback) for callback in self.callbacks):
            steps = task.preferred_steps_per_execution or 1
        elif steps == "auto" and internals.has_workers(task.distribute_strategy):
            steps = WORKERS_STEPS
        if jit == "auto":
            one = num_replicas(task.distribute_strategy) == 1
            jit = task.prefer_jit_compile and one and not self.run_eagerly  # None: `Compilation` finds out
        options = {"run_eagerly": self.run_eagerly, "jit_compile": bool(jit), "steps_per_execution": steps}
        task.compile_steps(**options, source=source, stage=stage)
        if callbacks:
            task.train_loop.calls.stops = (self.log_every_n_steps, *callbacks.stops("stops"))
            task.train_loop.calls.epoch_stops = callbacks.stops("epoch_stops")
            task.train_loop.calls.cuts = callbacks.stops("cuts")

    # ---- training

    def _run(
        self, task: TaskModule, train: BatchedDataset, source: Source, callbacks: CallbackList, resumed: dict
    ) -> keras.callbacks.History:
        run, epoch = callbacks.run, task.global_step // task.steps_per_epoch
        is_over = run.is_over(task, resumed.get("stopped_by"))
        self.interrupted, self.callback_metrics, began = None, callbacks.latest, time.monotonic()
        try:
            with name_example(train, self.seed, lambda: self._position(task)):
                self.history = task.fit(
                    as_unreadable(source.dataset), initial_epoch=epoch,
                    epochs=epoch if is_over else run.epochs or 10**9, steps_per_epoch=task.steps_per_epoch,
                    verbose=0, shuffle=False, callbacks=callbacks,
                )  # fmt: skip
        except BaseException as error:
            callbacks.on_exception(error)
            raise
        task.optimizers.finish_averages()
        self.interrupted = run.interrupted
        if not is_over:
            announce_end(self, task, run, time.monotonic() - began, self.max_epochs or DEFAULT_MAX_EPOCHS)
        return self.history

    def _position(self, task: TaskModule) -> tuple[int, int, int]:
        """Returns epoch, step and number of the batches of the present call."""
        epoch, step = divmod(task.global_step, task.steps_per_epoch)
        return epoch, step, task.train_loop.calls.count

    # ---- evaluation

    @contextlib.contextmanager
    def _ready(
        self, task: TaskModule, data: DataModule, stage: str, limit: int | float, ckpt_path: str | None
    ) -> Iterator[dict[str, stages.StageData]]:
        """Builds the task, restores its weights, and yields the stage's data sets by name."""
        require_task(task)
        expected = "a checkpoint, for a task that is not trained"
        require(task.usable or ckpt_path is not None, "ckpt_path", expected, ckpt_path)
        self._meet_workers()
        saved = None if ckpt_path is None else self._open(ckpt_path, task, "best")
        if self.init_args["seed"] is None and (saved or task.built):  # random splits must be those of the training
            self.seed = saved.state["seed"] if saved else task.seed
        strategy = self._prepare(task, data, stage)
        if saved and isinstance(data, BroughtData):
            data.load_state_dict(saved.state["data_state"])
        with seeded(self.seed):
            used = stages.evaluation(data, DATASETS[stage], limit, task.spec)
        with strategy.scope(), use_precision(self.precision):
            first = next(iter(used.values())).dataset
            task.begin_stage(stage, first)
            if not task.built:
                state.build(task, data, first.element_spec, saved)
            if saved:
                state.restore_trained(task, data, saved)
            self._compile(task, stage="test" if stage == "test" else "val")
            yield used

    def _evaluation_callbacks(self, task: TaskModule, steps: int) -> CallbackList:
        """Makes the list of the user's callbacks, outside of training."""
        return CallbackList(self.callbacks, task, Run(steps, self.log_every_n_steps))

    def _evaluate(
        self, task, data, stage: str, prefix: str, limit: int | float, ckpt_path, batch_size
    ) -> dict[str, float]:
        task = as_task(task)
        data = as_evaluation_module(data, batch_size, getattr(task, "spec", None))
        metrics = {}
        with self._ready(task, data, stage, limit, ckpt_path) as used:
            for name, (dataset, steps) in used.items():
                logs = task.evaluate_dataset(dataset, steps, self._evaluation_callbacks(task, steps))
                metrics |= {metric_prefix(prefix, name) + metric: value for metric, value in logs.items()}
        self.callback_metrics = dict(metrics)
        return metrics
