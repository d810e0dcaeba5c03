"""TaskModule: a `keras.Model` with its losses, its named optimizers and its steps."""

import contextlib
import functools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import keras
import tensorflow as tf

from lightkeras.data import DataModule
from lightkeras.data.addressing import address_spec
from lightkeras.data.batches import map_batch, row_count
from lightkeras.demo.demonstrated import DemonstratedTask
from lightkeras.distribution.replicas import draw_by_replica, num_replicas
from lightkeras.export.exported_task import ExportedTask
from lightkeras.metrics import WeightedMean
from lightkeras.profiling.output_shapes import noting_shapes
from lightkeras.random.keys import keyed_draws
from lightkeras.runs.portable import PortableTask
from lightkeras.runs.state import load_task
from lightkeras.training import keras_metrics, logged, step
from lightkeras.training.added_losses import count_rows
from lightkeras.training.compute import compute, parts_function
from lightkeras.training.keras_methods import KerasMethods
from lightkeras.training.layer_state import finish_build
from lightkeras.training.logged import Logging
from lightkeras.training.logs import Logs, MetricSums
from lightkeras.training.loop import Loop, Source, StepsPerCall, StreamSource
from lightkeras.training.optimizers import NamedOptimizers, SeveralOptimizers, UpdateSettings
from lightkeras.training.per_example import LossFunction, Metrics
from lightkeras.training.taken_names import reject_taken_methods, reject_taken_name
from lightkeras.utils import internals
from lightkeras.utils.checks import ArgumentError, lightkeras_error
from lightkeras.utils.lightning import TASK_ATTRIBUTES, TASK_METHODS, replace_attributes

if TYPE_CHECKING:
    from lightkeras.report import Section


@replace_attributes(TASK_ATTRIBUTES)
class TaskModule(PortableTask, ExportedTask, DemonstratedTask, Logging, KerasMethods):
    """A task: model, losses, optimizers. A subclass overrides

    - `configure_model(data)`: creates the layers, from what the data knows (the size of its vocabulary),
    - `configure_optimizers()`: one optimizer, or a dict of them by name,
    - `train_step(batch)`, `test_step(batch)`, `predict_step(batch)`: Keras' own, short: they call
      `self.minimize(loss_function, batch)` and `self.evaluate_loss(loss_function, batch)`.

    A loss function takes `(batch, training)` and returns values per example, or (sum, weight), or a dict of them:
    `NAME_loss` is the loss of optimizer NAME ("loss" for an optimizer without a name), any other name is a metric. The
    library weighs and divides, once, by the weight of the whole global batch: over replicas, workers and micro-batches
    alike. Metrics of Keras' are attributes that the loss function updates. The constructor's arguments
    are recorded (`hparams`), as they were given: see `utils.values` for the types.

    Attributes:
        data_module: The class of the task's data, for the command line.
        unit: The unit that the loss weights count, for throughput ("characters", "images").
        score_names: The metrics that `score` returns.
        monitor: The validation metric that ranks checkpoints, and "min" or "max". Without a metric of that name, only
            the last checkpoints are kept.
        search_space: The default space of a search, as in `lightkeras.search_space`.
        prefer_jit_compile: The value that `Trainer(jit_compile="auto")` takes for this task; None takes the faster one
            (see `callbacks.Compilation`).
        sample_every: Epochs between two calls of `write_samples`.
        shown_metrics: The metrics that are worth the line of an epoch, the most important first; without any, the
            losses come first. All are in the logs.
        optimizers: The optimizers by name, a `NamedOptimizers`.
        seed: The seed of the run, set by the Trainer.
        global_step: Updates made so far.
        steps_per_epoch, total_steps: Set before `configure_optimizers`; None where unknown.
    """

    replaced_methods = TASK_METHODS
    data_module: type[DataModule] = DataModule
    unit = "examples"
    score_names: tuple[str, ...] = ()
    monitor = ("val_loss", "min")
    search_space: Any = None
    prefer_jit_compile: bool | None = None
    sample_every = 1
    shown_metrics: tuple[str, ...] = ()
    seed = 0
    steps_per_epoch: Any = None
    total_steps: int | None = None

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.global_step = 0
        self.optimizers = NamedOptimizers({}, self.optimizer_variables, UpdateSettings())
        self._strategy = None
        self._spec: Any = None
        self._building = False
        self._averaged = False

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        reject_taken_methods(cls)

    def __setattr__(self, name: str, value: Any) -> None:
        if not self.__dict__.get("_compiling"):  # Keras assigns to the names of its own
            reject_taken_name(TaskModule, name, value)
        super().__setattr__(name, value)

    # ---- what a task overrides

    def configure_model(self, data: DataModule) -> None:
        """Creates the layers. Called once, under the strategy, after `data.setup()` or `data.load_state_dict()`."""

    def configure_optimizers(self):
        """Returns one `keras.optimizers.Optimizer`, or a dict of them by name. Schedules may use `self.total_steps`."""
        raise lightkeras_error(NotImplementedError)(f"{type(self).__name__} has no `configure_optimizers()`.")

    def train_step(self, batch):
        """Makes one update: `return self.minimize(loss_function, batch)`, once per alternating loss."""
        raise lightkeras_error(NotImplementedError)(f"{type(self).__name__} has no `train_step(batch)`.")

    def test_step(self, batch):
        """Computes the metrics of one batch: `return self.evaluate_loss(loss_function, batch)`."""
        raise lightkeras_error(NotImplementedError)(f"{type(self).__name__} has no `test_step(batch)`.")

    def predict_step(self, batch):
        """Returns the model's outputs for one batch: a tensor or a structure of them, the batch axis first."""
        raise lightkeras_error(NotImplementedError)(f"{type(self).__name__} has no `predict_step(batch)`.")

    def score(self, batches) -> dict[str, Any]:
        """Computes metrics of free-running outputs (BLEU of translations), after every evaluation.

        Args:
            batches: The batches of the evaluation (a `tf.data.Dataset`); of several workers, the rows of this one. A
                row of weight 0 is padding.

        Returns:
            Sums that can be added across workers, one for each of `score_names`: a `WeightedMean` or a `CorpusMetric`.
        """
        raise lightkeras_error(NotImplementedError)(f"{type(self).__name__} has no `score(batches)`.")

    def write_samples(self, folder: Path, name: str) -> None:
        """Writes samples of the model to files `folder/name...`; called by `SampleWriter`."""

    def report_sections(self) -> list["Section"]:
        """Returns what only this task can show in the run's report: sections of `lk.report` blocks.

        Called after epochs with samples and at the end of training, on the first of several workers only.
        """
        return []

    def optimizer_variables(self, name: str) -> list[keras.Variable]:
        """Returns the variables that optimizer `name` trains.

        A single optimizer trains all trainable ones; each of several trains those of the layer `self.NAME`.
        """
        layer = self if len(self.optimizers) == 1 else getattr(self, name, None)
        if layer is None:
            raise ArgumentError(
                f"Expected {type(self).__name__} to have a layer `self.{name}` for the optimizer of that name, or to "
                f"override `optimizer_variables`. Received: optimizers {', '.join(self.optimizers)}"
            )
        return layer.trainable_variables

    def configure_callbacks(self) -> list[keras.callbacks.Callback]:
        """Returns callbacks that every training of this task has; one replaces the Trainer's of the same class."""
        return []

    # ---- what a task calls

    def minimize(self, loss_function: LossFunction, batch, regularize: bool = True) -> Metrics:
        """Makes one update by the gradients of `loss_function(batch, training=True)`.

        Args:
            loss_function: See above.
            batch: What `train_step` was given.
            regularize: Add weight regularizers, activity regularizers and what layers `add_loss` to the losses, as
                Keras does. False leaves them out: the loss function adds those that it wants.

        Returns:
            The sums, to be returned by `train_step`.
        """
        if self._building:
            return self._sums_of_build(loss_function, batch, training=True)
        function = parts_function(self, loss_function, batch, True, regularize)
        return step.minimize(function, batch, self.optimizers, regularize)

    def evaluate_loss(self, loss_function: LossFunction, batch, regularize: bool = True) -> Metrics:
        """Returns the sums of `loss_function(batch, training=False)`: no update, no weight regularizers.

        Args:
            loss_function: See above.
            batch: What `test_step` was given.
            regularize: Add activity regularizers and what layers `add_loss` to the losses.
        """
        if self._building:
            return self._sums_of_build(loss_function, batch, training=False)
        return step.evaluate(*parts_function(self, loss_function, batch, False, regularize)(batch))

    def _sums_of_build(self, loss_function: LossFunction, batch, training: bool) -> Metrics:
        return compute(self, loss_function, batch, lambda: count_rows(batch), training)[0]

    @contextlib.contextmanager
    def averaged_weights(self):
        """Exchanges the weights for their moving averages in its `with` block, where an optimizer has `use_ema=True`.

        The library does so for every validation and for `write_samples`; after `fit` the weights are the averages.
        """
        if self._averaged or not self.optimizers.averages():
            yield
            return
        self.optimizers.swap_averages()
        self._averaged = True
        try:
            yield
        finally:
            self.optimizers.swap_averages()
            self._averaged = False

    # ---- what the library calls

    @property
    def distribute_strategy(self) -> tf.distribute.Strategy:
        """The strategy that the variables live under."""
        return self._strategy or tf.distribute.get_strategy()

    @property
    def spec(self) -> Any:
        """The structure of `tf.TensorSpec` that the variables were built from."""
        return self._spec

    def build_from(self, spec: Any) -> None:
        """Creates every variable by tracing the steps on symbolic batches of `spec`; trains nothing."""
        self._strategy, self._spec = tf.distribute.get_strategy(), spec
        self._building = True
        try:
            keras_metrics.watch(self)
            self.train_sums = self._trace(self.train_step, "train")
            self.test_sums = self._trace(self.test_step, "val") if self.evaluates else MetricSums({})
            self._train_kinds = self.train_sums.sums
        finally:
            self._building = False
        self.built = True
        finish_build(self)
        if num_replicas(self.distribute_strategy) > 1:
            self._require_variables_under_strategy()
            for layer in internals.flatten_layers(self):
                for generator in internals.seed_generators(layer):
                    draw_by_replica(generator)

    def _trace(self, function, stage: str) -> MetricSums:
        """Traces `function` in a graph that is thrown away; layers and metrics create variables outside it."""
        with internals.scratch_graph("build"):
            batch = map_batch(internals.placeholder, self.spec)
            address = internals.placeholder(address_spec(row_count(self.spec)))
            with noting_shapes(), keyed_draws(address, self.seed, stage), keras_metrics.discovering(batch) as updated:
                sums = {name: type(value) for name, value in logged.call(function, batch, self).items()}
        return MetricSums(sums, updated.found)

    def _require_variables_under_strategy(self) -> None:
        outside = [v.path for v in self.variables if not isinstance(v.value, tf.distribute.DistributedValues)]
        if outside:
            raise ArgumentError(
                "Expected every variable to be created under the strategy: make layers in `configure_model()`, not "
                f"in `__init__`. Received: {', '.join(outside)}"
            )

    def build_optimizers(
        self, settings: UpdateSettings | None = None, steps_per_epoch: int | None = None, total_steps: int | None = None
    ) -> None:
        """Makes the optimizers and their slots.

        Args:
            settings: How updates are made; None for the defaults.
            steps_per_epoch, total_steps: The length of the run, for `configure_optimizers`.

        Raises:
            ValueError: An optimizer has no loss of its name.
        """
        self.steps_per_epoch, self.total_steps = steps_per_epoch, total_steps
        in_float16 = any(layer.compute_dtype == "float16" for layer in internals.flatten_layers(self))
        rows = row_count(self.spec) or 1
        configured, settings = self.configure_optimizers(), settings or UpdateSettings()
        self.optimizers = NamedOptimizers(configured, self.optimizer_variables, settings, rows, in_float16)
        self.optimizers.require_losses(list(self._train_kinds))
        self.optimizers.build()
        norms = [self.optimizers.log_name(name, step.GRADIENT_NORM) for name in self.optimizers]
        kinds = dict.fromkeys(norms, WeightedMean) if settings.log_gradient_norm else {}
        self.train_sums = MetricSums({**self._train_kinds, **kinds}, self.train_sums.watched)

    def compile_steps(
        self, *, run_eagerly: bool = False, jit_compile: bool = False, steps_per_execution: int | str = 1,
        source: Source | None = None, stage: str = "val",
    ) -> None:  # fmt: skip
        """Compiles (in Keras' sense) for the runs to come.

        Args:
            run_eagerly: Run steps op by op, for a debugger.
            jit_compile: Let XLA compile the steps.
            steps_per_execution: Steps per call, or "auto".
            source: Gives the training batches; None for the iterator that `fit()` passes.
            stage: The stage of evaluations, which keys their draws: "val" or "test".
        """
        optimizer = next(iter(self.optimizers.values()), "sgd")
        self._compiling = True
        try:
            keras.Model.compile(self, optimizer, run_eagerly=run_eagerly, jit_compile=False, auto_scale_loss=False)
        finally:
            self._compiling = False
        if len(self.optimizers) != 1:
            self.optimizer = SeveralOptimizers(self.optimizers) if self.optimizers else None
        loop = functools.partial(
            Loop, strategy=self.distribute_strategy, seed=self.seed, run_eagerly=run_eagerly, jit_compile=jit_compile
        )
        calls = [StepsPerCall(steps_per_execution) for _ in range(3)]
        self.train_loop = loop(self._make_update, self.train_sums, calls[0], source or StreamSource(None))
        self.test_loop = loop(self.test_step, self.test_sums, calls[1], StreamSource(None), stage=stage)
        self._apart_loop = loop(self.test_step, self.test_sums, calls[2], StreamSource(None), stage="val")
        self.train_function = self.test_function = self.predict_function = None

    def _make_update(self, batch) -> Metrics:
        """Calls `train_step`, and warns of variables that no loss in it depends on."""
        metrics = self.train_step(batch)
        self.optimizers.warn_of_unreached()
        return metrics

    def make_train_function(self, force: bool = False) -> None:
        """Keras' hook: sets the function that `fit()` calls for every step; `force` traces the step again."""
        if force:
            self.train_loop.forget()
        self.train_function = self._call_train_loop

    def make_test_function(self, force: bool = False) -> None:
        """Keras' hook: sets the function that `evaluate()` calls for every step; `force` traces the step again."""
        if force:
            self.test_loop.forget()
        self.test_function = self._call_test_loop

    def _call_train_loop(self, iterator) -> Logs:
        if self.train_loop.calls.starts:
            self.optimizers.require_same_trainable()
        self.global_step += self.train_loop.call(iterator, self.global_step)
        self.optimizers.settle_trainable()
        return Logs(self.train_sums)

    @property
    def writes_samples(self) -> bool:
        """Whether the task overrides `write_samples`."""
        return type(self).write_samples is not TaskModule.write_samples

    @property
    def evaluates(self) -> bool:
        """Whether the task overrides `test_step`."""
        return type(self).test_step is not TaskModule.test_step

    @property
    def evaluation_names(self) -> list[str]:
        """The metrics of an evaluation: those of `test_step` and of `score`."""
        return [*self.test_sums.kinds, *self.score_names]

    # ---- state

    @classmethod
    def load_from_checkpoint(cls, ckpt_path: str | os.PathLike, trust: Iterable[str] = ()) -> Self:
        """Loads a trained task from a run's folder (its best checkpoint) or a checkpoint's folder.

        The folder is enough: it holds the arguments, the vocabulary and the weights. The data is not read. The class
        that you call is used if it has the saved name, whatever its module was in training.

        Args:
            ckpt_path: The folder.
            trust: Packages that may be imported if the checkpoint names classes of them. Imported modules, lightkeras,
                registered tasks, and the package of this class are always trusted.

        Raises:
            CheckpointError: It holds no whole checkpoint, one of another task, or names a class that is not trusted.
        """
        return load_task(ckpt_path, cls, trust)

    def state_variables(self) -> dict[str, keras.Variable]:
        """Returns every variable of the run by name: weights, seed generators, optimizer slots, loss scales."""
        named = self._named_variables()
        if self._averaged:  # weights and averages are exchanged
            for weight, average in self.average_names().items():
                named[weight], named[average] = named[average], named[weight]
        return named

    def average_names(self) -> dict[str, str]:
        """Maps the name of each averaged weight in `state_variables` to the name of its average."""
        names = {id(variable): name for name, variable in self._named_variables().items()}
        return {names[id(weight)]: names[id(average)] for weight, average in self.optimizers.averages()}

    def _named_variables(self) -> dict[str, keras.Variable]:
        weights = {f"model/{index:04d}/{v.name}": v for index, v in enumerate(self.variables)}
        return {**weights, **self.optimizers.state_variables()}
