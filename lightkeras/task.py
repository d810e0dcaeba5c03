"""TaskModule: a `keras.Model` with its losses, its named optimizers and its steps."""

import contextlib
import functools
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lightkeras.data.dataset import AddressedDataset
from lightkeras.data.module import DataModule
from lightkeras.distribution.replicas import draw_by_replica, num_replicas, sum_over_workers
from lightkeras.metrics import WeightedMean
from lightkeras.training import weight_averaging as averaging
from lightkeras.training.loop import MetricSums, StepsPerCall, make_loop
from lightkeras.training.loss_scale import LossScale
from lightkeras.training.step import GRADIENT_NORM, LOSS, LossFunction, Sums, as_metrics, call, loss_name, minimize
from lightkeras.utils import internals
from lightkeras.utils.checks import lightkeras_error, require
from lightkeras.utils.hparams import HyperparametersMixin


class Logs(dict):
    """Metric values by name, read from the device only when somebody looks; then like any dict.

    The names are there from the start. Whoever copies or pickles it gets a plain dict.
    """

    def __init__(self, totals: MetricSums):
        super().__init__(dict.fromkeys(totals.kinds))
        self._pending = (totals, totals.values)

    def _read(self) -> None:
        if self._pending:
            (totals, values), self._pending = self._pending, None
            super().update(totals.results(values.numpy()))

    def __reduce__(self):
        return dict, (dict(self),)


def _reading(name: str):
    """The method `name` of a dict, after the values are read."""
    method = getattr(dict, name)

    @functools.wraps(method)
    def read_first(self, *args, **kwargs):
        self._read()
        return method(self, *args, **kwargs)

    return read_first


_LOOKING = (
    "__getitem__", "__setitem__", "__delitem__", "__iter__", "__reversed__", "__repr__", "__eq__", "__ne__", "__or__",
    "__ror__", "__ior__", "get", "items", "keys", "values", "copy", "update", "setdefault", "pop", "popitem", "clear",
)  # fmt: skip
for _name in _LOOKING:
    setattr(Logs, _name, _reading(_name))


class TaskModule(HyperparametersMixin, keras.Model):
    """A task: model, losses, optimizers. A subclass overrides

    - `configure_model(data)`: creates the layers, from what the data knows (the size of its vocabulary),
    - `configure_optimizers()`: one optimizer, or a dict of them by name,
    - `train_step(batch)`, `test_step(batch)`, `predict_step(batch)`: Keras' own, short: they call
      `self.minimize(loss_function, batch)` and `self.evaluate_loss(loss_function, batch)`.

    A loss function takes `(batch, training)` and returns (sum, weight), or a dict of them: `NAME_loss` is the loss of
    optimizer NAME ("loss" that of an optimizer without a name), any other name is a metric. The library divides, once,
    by the weight of the whole global batch: over replicas, workers and micro-batches alike. The constructor's arguments
    are recorded (`hparams`), so they must be plain values.

    Attributes:
        data_module: The class of its data, for the command line.
        unit: What the loss weights count, for throughput ("characters", "images").
        score_names: The metrics that `score` gives.
        monitor: The validation metric that ranks checkpoints, and "min" or "max"; where there is none of that name,
            only the last checkpoints are kept.
        search_space: What a search looks for by default, as in `lightkeras.search_space`.
        prefer_jit_compile: What `Trainer(jit_compile="auto")` takes for this task; None: what is faster (see
            `callbacks.Compilation`).
        sample_every: Epochs between two calls of `write_samples`.
        seed, micro_batches, gradient_clip_val, gradient_clip_algorithm, log_gradient_norm: Set by the Trainer.
        global_step: Updates made so far.
        steps_per_epoch, total_steps: Set by the Trainer before `configure_optimizers`; None where unknown.
    """

    data_module: type[DataModule] = DataModule
    unit = "examples"
    score_names: tuple[str, ...] = ()
    monitor = ("val_loss", "min")
    search_space: Any = None
    prefer_jit_compile: bool | None = None
    sample_every = 1
    seed = 0
    micro_batches = 1
    gradient_clip_val: float | None = None
    gradient_clip_algorithm = "norm"
    log_gradient_norm = False
    steps_per_epoch: int | None = None
    total_steps: int | None = None

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.global_step = 0
        self.optimizers: dict[str, keras.optimizers.Optimizer] = {}
        self.loss_scales: dict[str, LossScale] = {}
        self._strategy = None
        self._spec = None
        self._tables = self._gather = None
        self._building = False
        self._averaged = False

    # ---- what a task overrides

    def configure_model(self, data: DataModule) -> None:
        """Creates the layers. Called once, under the strategy, after `data.setup()` or `data.load_state_dict()`."""

    def configure_optimizers(self):
        """One `keras.optimizers.Optimizer`, or a dict of them by name. `self.total_steps` may help a schedule."""
        raise lightkeras_error(NotImplementedError)(f"{type(self).__name__} has no `configure_optimizers()`.")

    def train_step(self, batch):
        """One update: `return self.minimize(loss_function, batch)`, as often as there are alternating losses."""
        raise lightkeras_error(NotImplementedError)(f"{type(self).__name__} has no `train_step(batch)`.")

    def test_step(self, batch):
        """The metrics of one batch: `return self.evaluate_loss(loss_function, batch)`."""
        raise lightkeras_error(NotImplementedError)(f"{type(self).__name__} has no `test_step(batch)`.")

    def predict_step(self, batch):
        """What the model gives for one batch: a tensor or a structure of them, the batch axis first."""
        raise lightkeras_error(NotImplementedError)(f"{type(self).__name__} has no `predict_step(batch)`.")

    def score(self, batches) -> dict[str, Any]:
        """Metrics of what the trained model makes by itself (BLEU of its translations), after every evaluation.

        Args:
            batches: The evaluation's batches (a `tf.data.Dataset`), of several workers this one's rows of them. A row
                of weight 0 is padding.

        Returns:
            Sums that can be added across workers, one for each of `score_names`: a `WeightedMean` or a `CorpusMetric`.
        """
        raise lightkeras_error(NotImplementedError)(f"{type(self).__name__} has no `score(batches)`.")

    def write_samples(self, folder: Path, name: str) -> None:
        """Writes what the model makes to files `folder/name...`; called by `SampleWriter`."""

    def optimizer_variables(self, name: str) -> list[keras.Variable]:
        """The variables that optimizer `name` trains.

        Of one optimizer, all trainable ones; of several, those of the layer that is the attribute of that name.
        """
        layer = self if len(self.optimizers) == 1 else getattr(self, name, None)
        if layer is None:
            raise ValueError(
                f"Expected {type(self).__name__} to have a layer `self.{name}` for the optimizer of that name, or to "
                f"override `optimizer_variables`. Received: optimizers {', '.join(self.optimizers)}"
            )
        return layer.trainable_variables

    # ---- what a task calls

    def minimize(self, loss_function: LossFunction, batch) -> Sums:
        """One update by the gradients of `loss_function(batch, training=True)`; returns the sums, to be returned."""
        if self._building:
            return self.evaluate_loss(loss_function, batch)
        return minimize(self, loss_function, batch)

    def evaluate_loss(self, loss_function: LossFunction, batch) -> Sums:
        """The sums of `loss_function(batch, training=False)`: no update, and no weight regularizers in them."""
        return call(self, loss_function, batch, training=False)

    @contextlib.contextmanager
    def averaged_weights(self):
        """In its `with` block the weights are their moving averages, where an optimizer keeps them (`use_ema=True`).

        The library does so for every validation and for `write_samples`; after `fit` the weights are the averages.
        """
        if self._averaged or not self._averages():
            yield
            return
        self._swap_averages()
        self._averaged = True
        try:
            yield
        finally:
            self._swap_averages()
            self._averaged = False

    # ---- what the library calls

    @property
    def distribute_strategy(self) -> tf.distribute.Strategy:
        """The strategy that the variables live under."""
        return self._strategy or tf.distribute.get_strategy()

    @property
    def spec(self) -> dict[str, tf.TensorSpec]:
        """The element spec that the variables were built from."""
        return self._spec

    def build_from(self, spec: dict[str, tf.TensorSpec]) -> None:
        """Creates every variable by tracing the steps on symbolic batches of `spec`; trains nothing."""
        self._strategy, self._spec = tf.distribute.get_strategy(), spec
        self._building = True
        try:
            self._train_kinds = self._trace(self.train_step, spec)
            self.train_sums = MetricSums(self._train_kinds)
            evaluates = type(self).test_step is not TaskModule.test_step
            self.test_sums = MetricSums(self._trace(self.test_step, spec) if evaluates else {})
        finally:
            self._building = False
        self.built = True
        if num_replicas(self.distribute_strategy) > 1:
            self._check_variables()
            self._draw_by_replica()

    def _trace(self, function, spec) -> dict[str, type[WeightedMean]]:
        """Runs `function` on symbolic tensors in a graph that is thrown away; layers make variables outside it."""
        with internals.scratch_graph("build"):
            batch = {name: internals.placeholder(of) for name, of in spec.items()}
            return {name: type(value) for name, value in as_metrics(function(batch)).items()}

    def _check_variables(self) -> None:
        outside = [v.path for v in self.variables if not isinstance(v.value, tf.distribute.DistributedValues)]
        if outside:
            raise ValueError(
                "Expected every variable to be created under the strategy: make layers in `configure_model()`, not "
                f"in `__init__`. Received: {', '.join(outside)}"
            )

    def _draw_by_replica(self) -> None:
        for layer in internals.flatten_layers(self):
            for generator in internals.seed_generators(layer):
                draw_by_replica(generator)

    def build_optimizers(self) -> None:
        """Makes the optimizers and their slots; a name without a loss, or the reverse, is refused."""
        made = self.configure_optimizers()
        self.optimizers = dict(made) if isinstance(made, dict) else {LOSS: made}
        self._check_losses()
        norms = {self.label(name, GRADIENT_NORM): WeightedMean for name in self.optimizers if self.log_gradient_norm}
        self.train_sums = MetricSums({**self._train_kinds, **norms})
        in_float16 = any(layer.compute_dtype == "float16" for layer in internals.flatten_layers(self))
        rows = next(iter(self.spec.values())).shape[0]
        self.loss_scales = {name: LossScale(rows or 1) for name in self.optimizers if in_float16}
        for name, optimizer in self.optimizers.items():
            _check_optimizer(name, optimizer)
            optimizer.build(self.optimizer_variables(name))
            internals.expect_reduced_gradients(optimizer)
            averaging.prepare(optimizer)
        self._swap_averages = averaging.swapping(self.distribute_strategy, self._averages())

    def _check_losses(self) -> None:
        wanted = {name: loss_name(name) for name in self.optimizers}
        unused = [name for name in wanted if wanted[name] not in self._train_kinds]
        if unused:
            raise ValueError(
                f"Expected a loss for every optimizer: {', '.join(wanted.values())}. Received: optimizers "
                f"{', '.join(self.optimizers)}; losses and metrics {', '.join(self._train_kinds)}"
            )

    def _averages(self) -> averaging.Pairs:
        return averaging.pairs(self.optimizers.values())

    def begin_averages(self) -> None:
        """The weights were given other values: their averages begin there."""
        averaging.begin(self._averages())

    def finish_averages(self) -> None:
        """Training has ended: the weights become their averages."""
        averaging.finish(self._averages())

    def regularization(self, name: str) -> tf.Tensor | float:
        """The sum of the weight regularizers of an optimizer's variables, per example as Keras counts it."""
        return sum(v.regularizer(v) for v in self.optimizer_variables(name) if v.regularizer is not None)

    def start(self, *, run_eagerly: bool, jit_compile: bool, steps_per_execution: int | str) -> None:
        """Compiles (in Keras' sense) for the runs to come.

        Args:
            run_eagerly: Whether steps run op by op, to be looked at in a debugger.
            jit_compile: Whether a step is compiled by XLA.
            steps_per_execution: Steps made by one call, or "auto".
        """
        optimizer = next(iter(self.optimizers.values()), "sgd")
        self.compile(optimizer=optimizer, run_eagerly=run_eagerly, jit_compile=False, auto_scale_loss=False)
        # Keras' own `jit_compile` would be off under op determinism
        self.jit_compile_steps = self.jit_compile_training = jit_compile
        if len(self.optimizers) != 1:
            self.optimizer = None
        self.train_calls, self.test_calls = StepsPerCall(steps_per_execution), StepsPerCall(steps_per_execution)
        self.train_function = self.test_function = self.predict_function = None

    def make_train_function(self, force: bool = False) -> None:
        """Keras' hook: what `fit()` calls for every step."""
        if self.train_function is None or force:
            self.train_function = self._function(self.train_step, self.train_sums, self.train_calls)

    def make_test_function(self, force: bool = False) -> None:
        """Keras' hook: what `evaluate()` calls for every step."""
        if self.test_function is None or force:
            self.test_function = self._function(self.test_step, self.test_sums, self.test_calls)

    def _function(self, step_function, totals: MetricSums, calls: StepsPerCall):
        training = calls is self.train_calls
        gather = self._gather if training else None

        @functools.cache
        def loop(jit_compile):
            return make_loop(self, step_function, list(totals.kinds), jit_compile, gather)

        def function(iterator):
            def steps(count):
                source = (self._table, tf.constant(calls.done, tf.int64)) if gather else iterator
                at = (tf.constant(count, tf.int64), tf.constant(self.global_step, tf.int64))
                run = loop(self.jit_compile_training if training else self.jit_compile_steps)
                totals.values, totals.non_finite = run(source, *at, totals.values, totals.non_finite)
                if training:
                    self.global_step += count

            calls.run(steps)
            return Logs(totals)

        return function

    def why_not_compiled(self) -> str | None:
        """What XLA cannot compile of an update, in a line, or None: it can. Nothing is run."""
        batch = {name: tf.zeros(spec.shape, spec.dtype) for name, spec in self.spec.items()}
        update = tf.function(self.train_step, jit_compile=True, autograph=False)
        try:
            update.experimental_get_compiler_ir(batch)(stage="hlo")
        except (tf.errors.OpError, NotImplementedError, ValueError) as error:
            return str(error).splitlines()[0]
        return None

    def read_from_memory(self, gather, tables) -> None:
        """Training gathers its batches within the compiled loop; what `fit()` is given is not read.

        Args:
            gather: A function of a row of indices, that gives its batch; None to read what `fit()` is given.
            tables: `epoch -> ` the rows of all its batches, int64 (steps, rows).
        """
        self._gather, self._tables = gather, tables

    def begin_epoch(self, epoch: int) -> None:
        """An epoch begins or, resumed, goes on: its sums are kept then."""
        if self._gather:
            self._table = tf.constant(self._tables(epoch))
        done = self.global_step - epoch * self.steps_per_epoch
        self.train_calls.begin(self.steps_per_epoch, done, epoch * self.steps_per_epoch)
        if not done:
            self.train_sums.reset()

    def begin_evaluation(self, steps: int) -> None:
        """Called before `evaluate()` on `steps` batches."""
        self.test_sums.reset()
        self.test_calls.begin(steps)

    @property
    def evaluation_names(self) -> list[str]:
        """The metrics of an evaluation: those of `test_step` and of `score`."""
        return [*self.test_sums.kinds, *self.score_names]

    def evaluate_dataset(self, dataset: AddressedDataset, steps: int, callbacks=None) -> dict[str, float]:
        """The metrics of `test_step` and of `score` on the first `steps` batches."""
        self.begin_evaluation(steps)
        stream = dataset.cached_stream(self.distribute_strategy, steps, by_replica=True)
        logs = self.evaluate(stream, steps=steps, verbose=0, return_dict=True, callbacks=callbacks)
        return {**logs, **self._scores(dataset, steps)}

    def _scores(self, dataset: AddressedDataset, steps: int) -> dict[str, float]:
        if not self.score_names:
            return {}
        strategy = self.distribute_strategy
        made = self.score(dataset.cached_stream(strategy, steps, by_replica=False))
        require(set(made) == set(self.score_names), "score_names", f"the names that `score` gives: {sorted(made)}",
              self.score_names)  # fmt: skip
        return _of_all_workers(strategy, {name: made[name] for name in self.score_names})

    def reset_metrics(self) -> None:
        """Nothing: `begin_epoch` and `begin_evaluation` reset what they begin (Keras resets at each evaluation too)."""

    @property
    def metrics(self) -> list:
        """None of Keras' own: sums with weights take their place (its loss tracker would report a loss of 0)."""
        return []

    def _maybe_symbolic_build(self, iterator=None, data_batch=None) -> None:
        """Built already, from the data's element spec (Keras' own fails for strings and for GANs)."""

    # ---- state

    def state_variables(self) -> dict[str, keras.Variable]:
        """Every variable of the run by name: weights, seed generators, optimizer slots (averages too), loss scales."""
        named = self._named_variables()
        if self._averaged:  # weights and averages lie in each other's place
            for weight, average in self.averages().items():
                named[weight], named[average] = named[average], named[weight]
        return named

    def averages(self) -> dict[str, str]:
        """The names in `state_variables` of the weights that have averages, and of these."""
        names = {id(variable): name for name, variable in self._named_variables().items()}
        return {names[id(weight)]: names[id(average)] for weight, average in self._averages()}

    def _named_variables(self) -> dict[str, keras.Variable]:
        named = {f"model/{index:04d}/{v.name}": v for index, v in enumerate(self.variables)}
        for name, optimizer in self.optimizers.items():
            named.update({f"optimizer/{name}/{index:04d}": v for index, v in enumerate(optimizer.variables)})
        for name, scale in self.loss_scales.items():
            named.update({f"loss_scale/{name}/{v.name}": v for v in scale.variables})
        return named

    @classmethod
    def load_from_checkpoint(cls, ckpt_path: str) -> "TaskModule":
        """Makes a trained task again from a run's folder (its best checkpoint) or a checkpoint's folder.

        Nothing else is needed: the arguments, the vocabulary and the weights are all in there. The data is not read.

        Args:
            ckpt_path: The folder.

        Raises:
            CheckpointError: It holds no whole checkpoint, or one of another task.
        """
        from lightkeras.runs.state import load_task  # it imports this module

        return load_task(ckpt_path, cls)

    def label(self, name: str, what: str) -> str:
        """The name of something of optimizer `name` in the logs: `what`, or of several optimizers `NAME_what`."""
        return what if len(self.optimizers) == 1 else f"{name}_{what}"

    def learning_rates(self) -> dict[str, float]:
        """The current learning rate of every optimizer: `learning_rate`, or `NAME_learning_rate` of several."""
        rates = {name: float(np.asarray(optimizer.learning_rate)) for name, optimizer in self.optimizers.items()}
        return {self.label(name, "learning_rate"): rate for name, rate in rates.items()}

    def updates(self) -> dict[str, int]:
        """The updates that every optimizer made, by its name: skipped ones (float16) are not among them.

        Its learning-rate schedule goes by this number, which differs from `global_step` where a step makes no or
        several updates with it.
        """
        return {name: int(optimizer.iterations.numpy()) for name, optimizer in self.optimizers.items()}

    def loss_scaling(self) -> dict[str, float]:
        """`loss_scale` and `skipped_updates` so far of every optimizer (`NAME_...` of several); only in float16."""
        values = {}
        for name, scale in self.loss_scales.items():
            values[self.label(name, "loss_scale")] = float(scale.scale.numpy())
            values[self.label(name, "skipped_updates")] = float(scale.skipped_updates.numpy())
        return values


def _of_all_workers(strategy: tf.distribute.Strategy, statistics: dict[str, Any]) -> dict[str, float]:
    """The results of the statistics of all workers together: one collective for all of them."""
    sums = [np.array(one, np.float64) if isinstance(one, WeightedMean) else one.sums for one in statistics.values()]
    total = sum_over_workers(strategy, np.concatenate(sums))
    parts = np.split(total, np.cumsum([len(part) for part in sums])[:-1])
    return {name: _result(one, part) for (name, one), part in zip(statistics.items(), parts, strict=True)}


def _result(statistics, sums: np.ndarray) -> float:
    return statistics.result(*sums) if isinstance(statistics, WeightedMean) else type(statistics)(sums).result()


def _check_optimizer(name: str, optimizer) -> None:
    """Refuses what `minimize` would not do, or do twice."""
    what = f"optimizers[{name!r}]"
    require(
        isinstance(optimizer, keras.optimizers.Optimizer), what, "a keras.optimizers.Optimizer", optimizer, TypeError
    )
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer) or optimizer.loss_scale_factor is not None
    require(not scaled, what, 'without a loss scale: Trainer(precision="16-mixed") scales the loss', optimizer)
    accumulates = bool(optimizer.gradient_accumulation_steps)
    require(not accumulates, what, "without gradient_accumulation_steps: Trainer(micro_batches=...) does it", optimizer)
    overwrites = optimizer.use_ema and optimizer.ema_overwrite_frequency
    expected = "without ema_overwrite_frequency, which Keras has for one device only"
    require(not overwrites, what, expected, optimizer.ema_overwrite_frequency)
