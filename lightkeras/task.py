"""TaskModule: a `keras.Model` with its losses, its named optimizers and its steps."""

import functools
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from lightkeras import distribution, step
from lightkeras.checks import check
from lightkeras.data import DataModule
from lightkeras.hyperparameters import Hyperparameters
from lightkeras.metrics import Mean


class Logs(dict):
    """Metric values by name, read from the device only when somebody looks; then like any dict.

    The names are there from the start. Whoever copies or pickles it gets a plain dict.
    """

    def __init__(self, totals: step.Totals):
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


class TaskModule(Hyperparameters, keras.Model):
    """A task: model, losses, optimizers. A subclass overrides

    - `configure_model(data)`: creates the layers, from what the data knows (the size of its vocabulary),
    - `configure_optimizers()`: one optimizer, or a dict of them by name,
    - `train_step(batch)`, `test_step(batch)`, `predict_step(batch)`: Keras' own, short: they call
      `self.descend(loss_function, batch)` and `self.measure(loss_function, batch)`.

    A loss function takes `(batch, training)` and returns (sum, weight), or a dict of them: a name of an optimizer is
    that optimizer's loss, any other name is a metric. The library divides, once, by the weight of the whole global
    batch: over replicas, workers and micro-batches alike. The constructor's arguments are recorded (`hparams`), so
    they must be plain values.

    Attributes:
        data_module: The class of its data, for the command line.
        unit: What the loss weights count, for throughput ("characters", "images").
        prefer_jit_compile: What `Trainer(jit_compile="auto")` takes for this task.
        sample_every: Epochs between two calls of `write_samples`.
        micro_batches, gradient_clip_val, gradient_clip_algorithm: Set by the Trainer.
        global_step: Updates made so far.
        steps_per_epoch, total_steps: Set by the Trainer before `configure_optimizers`; None where unknown.
    """

    data_module: type[DataModule] = DataModule
    unit = "examples"
    prefer_jit_compile = False
    sample_every = 1
    micro_batches = 1
    gradient_clip_val: float | None = None
    gradient_clip_algorithm = "norm"
    steps_per_epoch: int | None = None
    total_steps: int | None = None

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.global_step = 0
        self.optimizers: dict[str, keras.optimizers.Optimizer] = {}
        self._strategy = None
        self._spec = None
        self._building = False

    # ---- what a task overrides

    def configure_model(self, data: DataModule) -> None:
        """Creates the layers. Called once, under the strategy, after `data.setup()` or `data.load_state_dict()`."""

    def configure_optimizers(self):
        """One `keras.optimizers.Optimizer`, or a dict of them by name. `self.total_steps` may help a schedule."""
        raise NotImplementedError(f"{type(self).__name__} has no `configure_optimizers()`.")

    def train_step(self, batch):
        """One update: `return self.descend(loss_function, batch)`, as often as there are alternating losses."""
        raise NotImplementedError(f"{type(self).__name__} has no `train_step(batch)`.")

    def test_step(self, batch):
        """The metrics of one batch: `return self.measure(loss_function, batch)`."""
        raise NotImplementedError(f"{type(self).__name__} has no `test_step(batch)`.")

    def predict_step(self, batch):
        """What the model gives for one batch: a tensor or a structure of them, the batch axis first."""
        raise NotImplementedError(f"{type(self).__name__} has no `predict_step(batch)`.")

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

    def descend(self, loss_function: step.LossFunction, batch) -> step.Sums:
        """One update by the gradients of `loss_function(batch, training=True)`; returns the sums, to be returned."""
        if self._building:
            return self.measure(loss_function, batch)
        return step.descend(self, loss_function, batch)

    def measure(self, loss_function: step.LossFunction, batch) -> step.Sums:
        """The sums of `loss_function(batch, training=False)`: no update, and no weight regularizers in them."""
        return step.call(self, loss_function, batch, training=False)

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
            self.train_totals = step.Totals(self._trace(self.train_step, spec))
            evaluates = type(self).test_step is not TaskModule.test_step
            self.test_totals = step.Totals(self._trace(self.test_step, spec) if evaluates else {})
        finally:
            self._building = False
        self.built = True
        if distribution.replicas(self.distribute_strategy) > 1:
            self._check_variables()
            self._draw_by_replica()

    def _trace(self, function, spec) -> dict[str, type[Mean]]:
        """Runs `function` on symbolic tensors in a graph that is thrown away; layers make variables outside it."""
        with tf.__internal__.FuncGraph("build").as_default():
            batch = {name: tf.compat.v1.placeholder(of.dtype, of.shape) for name, of in spec.items()}
            return {name: type(value) for name, value in step.sums_of(function(batch)).items()}

    def _check_variables(self) -> None:
        outside = [v.path for v in self.variables if not isinstance(v.value, tf.distribute.DistributedValues)]
        if outside:
            raise ValueError(
                "Expected every variable to be created under the strategy: make layers in `configure_model()`, not "
                f"in `__init__`. Received: {', '.join(outside)}"
            )

    def _draw_by_replica(self) -> None:
        for layer in self._flatten_layers():
            for generator in layer._seed_generators:
                distribution.draw_by_replica(generator)

    def build_optimizers(self) -> None:
        """Makes the optimizers and their slots; a name without a loss, or the reverse, is refused."""
        made = self.configure_optimizers()
        self.optimizers = dict(made) if isinstance(made, dict) else {step.LOSS: made}
        unused = [name for name in self.optimizers if name not in self.train_totals.kinds]
        if unused:
            raise ValueError(
                f"Expected a loss for every optimizer. Received: optimizers {', '.join(self.optimizers)}; losses and "
                f"metrics {', '.join(self.train_totals.kinds)}"
            )
        for name, optimizer in self.optimizers.items():
            _check_optimizer(name, optimizer)
            optimizer.build(self.optimizer_variables(name))
            optimizer._all_reduce_sum_gradients = lambda gradients_and_variables: (
                gradients_and_variables
            )  # ours come reduced

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
        self.jit_compile_steps = jit_compile  # Keras' own `jit_compile` would be off under op determinism
        if len(self.optimizers) != 1:
            self.optimizer = None
        self.train_calls, self.test_calls = step.Calls(steps_per_execution), step.Calls(steps_per_execution)
        self.train_function = self.test_function = self.predict_function = None

    def make_train_function(self, force: bool = False) -> None:
        """Keras' hook: what `fit()` calls for every step."""
        if self.train_function is None or force:
            self.train_function = self._function(self.train_step, self.train_totals, self.train_calls)

    def make_test_function(self, force: bool = False) -> None:
        """Keras' hook: what `evaluate()` calls for every step."""
        if self.test_function is None or force:
            self.test_function = self._function(self.test_step, self.test_totals, self.test_calls)

    def _function(self, step_function, totals: step.Totals, calls: step.Calls):
        loop = step.make_loop(self, step_function, list(totals.kinds))
        training = calls is self.train_calls

        def function(iterator):
            def steps(count):
                at = (tf.constant(count, tf.int64), tf.constant(self.global_step, tf.int64))
                totals.values, totals.non_finite = loop(iterator, *at, totals.values, totals.non_finite)
                if training:
                    self.global_step += count

            calls.run(steps)
            return Logs(totals)

        return function

    def begin_epoch(self, epoch: int) -> None:
        """An epoch begins or, resumed, goes on: its sums are kept then."""
        done = self.global_step - epoch * self.steps_per_epoch
        self.train_calls.begin(self.steps_per_epoch, done, epoch * self.steps_per_epoch)
        if not done:
            self.train_totals.reset()

    def begin_evaluation(self, steps: int) -> None:
        """Called before `evaluate()` on `steps` batches."""
        self.test_totals.reset()
        self.test_calls.begin(steps)

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
        """Every variable of the run by name: weights, seed generators, optimizer slots."""
        named = {f"model/{index:04d}/{v.name}": v for index, v in enumerate(self.variables)}
        for name, optimizer in self.optimizers.items():
            named.update({f"optimizer/{name}/{index:04d}": v for index, v in enumerate(optimizer.variables)})
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
        from lightkeras.run_state import load_task  # it imports this module

        return load_task(ckpt_path, cls)

    def learning_rates(self) -> dict[str, float]:
        """The current learning rate of every optimizer: `learning_rate`, or `NAME_learning_rate` of several."""
        prefix = {name: "" if len(self.optimizers) == 1 else f"{name}_" for name in self.optimizers}
        return {f"{prefix[n]}learning_rate": float(np.asarray(o.learning_rate)) for n, o in self.optimizers.items()}


def _check_optimizer(name: str, optimizer) -> None:
    """Refuses what `step.descend` would not do, or do twice."""
    what = f"optimizers[{name!r}]"
    check(isinstance(optimizer, keras.optimizers.Optimizer), what, "a keras.optimizers.Optimizer", optimizer, TypeError)
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer) or optimizer.loss_scale_factor is not None
    check(not scaled, what, 'without a loss scale: float16 is not supported, precision="bf16-mixed" is', optimizer)
    accumulates = bool(optimizer.gradient_accumulation_steps)
    check(not accumulates, what, "without gradient_accumulation_steps: Trainer(micro_batches=...) does it", optimizer)
