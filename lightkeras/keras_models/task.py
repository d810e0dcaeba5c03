"""KerasTask: a compiled `keras.Model` in the place of a task. The model's own steps train it."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lightkeras.data.failures import name_example
from lightkeras.keras_models import tracing
from lightkeras.keras_models.data import KerasData, KerasStreamSource
from lightkeras.keras_models.declared import DeclaredByModel
from lightkeras.keras_models.hidden_state import find_hidden_operations
from lightkeras.keras_models.identity import describe_model
from lightkeras.keras_models.logs import LastLogs, as_python, flatten_logs
from lightkeras.keras_models.optimizers import FoundOptimizers, require_own_updates
from lightkeras.keras_models.targets import require_numbers, require_targets
from lightkeras.keras_models.variables import find_optimizers, find_variables
from lightkeras.profiling.output_shapes import noting_shapes
from lightkeras.training.determinism import keep_order_of_sums
from lightkeras.training.layer_state import finish_build
from lightkeras.training.logs import Logs
from lightkeras.training.loop import Loop, Source, StepsPerCall
from lightkeras.utils import internals
from lightkeras.utils.checks import require
from lightkeras.utils.messages import logger as messages


@dataclasses.dataclass(frozen=True)
class _Found:
    """Variables that were found in the model, in an object in which Keras does not look for them.

    Attributes:
        variables: All of them, by name.
        used: Those that the traced steps use.
    """

    variables: dict[str, Any]
    used: list[tf.Variable]


class KerasTask(DeclaredByModel):
    """What the Trainer and its callbacks need of a task, for a compiled model.

    Keras' `fit` is the loop, as for a task. It is called on this object, whose step calls `model.train_step(batch)` on
    the batch as Keras would hand it over. What is not here is looked up in the model.

    Args:
        model: The compiled model. It is trained in place.

    Attributes:
        model: The model.
        name_of_runs: The folder of the model's runs: its name or, where Keras gave it one, that of its class.
    """

    score_names = ()
    unit = "examples"
    seed = 0
    total_steps: int | None = None
    steps_per_epoch: Any = None

    def __init__(self, model: keras.Model):
        super().__init__(name="plain_model")
        self.model = model
        self.global_step = 0
        self.optimizers = FoundOptimizers({})
        self.train_sums = self.test_sums = LastLogs({})
        describe_model(model, "")  # notes the learning rates before a callback changes them
        self._spec: Any = None
        self._found = _Found({}, [])
        self._example: Any = None
        self._stage = "fit"
        self._converted: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "model":
            raise AttributeError(name)
        return getattr(self.model, name)

    # ---- what Keras' fit asks for

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """Is called by the Trainer.

        A resumed run ends with the same bits without `deterministic=True` too: see `keep_order_of_sums`.
        """
        options = tf.config.optimizer.get_experimental_options()
        keep_order_of_sums()
        try:
            return super().fit(*args, **kwargs)
        finally:
            tf.config.optimizer.set_experimental_options({"arithmetic_optimization": True, **options})

    @property
    def stop_training(self) -> bool:
        """The model's own."""
        return self.model.stop_training

    @stop_training.setter
    def stop_training(self, value: bool) -> None:
        if "model" in self.__dict__:
            self.model.stop_training = value

    @property
    def optimizer(self) -> Any:
        """The model's own."""
        return self.model.optimizer

    @optimizer.setter
    def optimizer(self, value: Any) -> None:
        """Keeps the model's own."""

    @property
    def metrics(self) -> list:
        """The model's own."""
        return self.model.metrics

    def reset_metrics(self) -> None:
        """Does nothing: `begin_epoch` and `begin_evaluation` reset."""

    def get_metrics_result(self) -> dict[str, Any]:
        """Returns the model's own, as numbers, in Keras' order."""
        return {name: as_python(value) for name, value in flatten_logs(self.model.get_metrics_result()).items()}

    # ---- building

    @property
    def spec(self) -> Any:
        """The element spec of a whole batch."""
        return self._spec

    def begin_stage(self, stage: str, dataset: Any) -> None:
        """Notes the step that is traced next, and the data on whose batches it is traced."""
        self._stage, self._example = stage, self._convert(dataset)

    def _convert(self, dataset: Any) -> KerasData:
        """Returns the data set as Keras' `fit` would hand it over; once for each data set."""
        if id(dataset) not in self._converted:
            self._converted[id(dataset)] = KerasData(dataset, self.distribute_strategy)
        return self._converted[id(dataset)]

    def configure_model(self, data: Any) -> None:
        """Does nothing: the model is there."""

    def remember_data(self, data: Any) -> None:
        """Does nothing: the model is not made from data."""

    def build_from(self, spec: Any) -> None:
        """Creates every variable by tracing the step of the stage on batches of `spec`; trains nothing."""
        self._spec = self._example.whole_spec
        if self._stage == "fit":
            self.train_sums = LastLogs(self._trace(self.model.train_step, self._example))
        elif self._stage == "predict":
            self._trace(self._predict, self._example)
        else:
            self.test_sums = LastLogs(self._trace(self.model.test_step, self._example))
        self.built = True
        finish_build(self)

    def take_as_built(self) -> None:
        """Finds the variables of a model that is built, where no step is traced.

        Raises:
            ValueError: It is not built.
        """
        require(self.model.built, "model", "built: begin it with `keras.Input`", self.model.name)
        self._found = _Found(find_variables(self.model), [])
        self.built = True

    def prepare_evaluation(self, dataset: Any) -> None:
        """Creates the variables of an evaluation by tracing it on the batches of `dataset`."""
        self.test_sums = LastLogs(self._trace(self.model.test_step, self._convert(dataset)))

    def trace_again(self) -> Any:
        """Traces the training step once more and returns its graph."""
        return tracing.trace(self.model.train_step, self._example.element_spec, self.distribute_strategy).graph

    def _list_variables(self) -> list[Any]:
        return list(find_variables(self.model).values())

    def _predict(self, batch: Any) -> dict[str, Any]:
        self.model.predict_step(batch)
        return {}

    def _trace(self, step: Any, data: KerasData) -> dict[str, tf.TensorSpec]:
        if self._stage != "predict":
            require_targets(self.model, data.element_spec)
        with noting_shapes():
            if self.model.run_eagerly:
                found = tracing.rehearse(step, data.first_batch(), self._list_variables)
            else:
                spec = tracing.replica_spec(data.element_spec, self.distribute_strategy)
                found = tracing.trace(step, spec, self.distribute_strategy)
        internals.clear_losses(self.model)
        if found.graph is not None:
            require_numbers(found.graph, data.element_spec)
        if found.graph is not None and self._stage == "fit":
            for hidden in find_hidden_operations(found.graph):
                messages.warning("A resumed run will not end with the same bits. %s", hidden)
        used = [*self._found.used, *found.variables]
        self._found = _Found(find_variables(self.model, used), used)
        self.optimizers = FoundOptimizers(find_optimizers(self.model))
        return found.kinds

    # ---- the loops

    def training_source(self, dataset: Any, seed: int, steps: int, micro_batches: int) -> Source:
        """Gathers arrays in memory inside the compiled loop, on one CPU; streams everything else."""
        return self._convert(dataset).training_source(seed, steps, self.global_step)

    def compile_steps(
        self, *, run_eagerly: bool = False, jit_compile: bool = False, steps_per_execution: int | str = 1,
        source: Source | None = None, stage: str = "val",
    ) -> None:  # fmt: skip
        """Compiles (in Keras' sense) for the runs to come; see `TaskModule.compile_steps`."""
        run_eagerly = run_eagerly or bool(self.model.run_eagerly)
        keras.Model.compile(self, None, run_eagerly=run_eagerly, jit_compile=False, auto_scale_loss=False)
        calls = [StepsPerCall(steps_per_execution) for _ in range(2)]
        options: Any = {"strategy": self.distribute_strategy, "run_eagerly": run_eagerly, "jit_compile": jit_compile}
        self.train_loop = Loop(
            self.model.train_step, self.train_sums, calls[0], source or KerasStreamSource(None), **options
        )
        self.test_loop = Loop(self.model.test_step, self.test_sums, calls[1], KerasStreamSource(None), **options)
        self.train_function = self.test_function = self.predict_function = None

    def train_step(self, data: Any) -> Any:
        """Calls the model's own."""
        return self.model.train_step(data)

    def predict_step(self, data: Any) -> Any:
        """Calls the model's own."""
        return self.model.predict_step(data)

    def make_predict_function(self, force: bool = False) -> None:
        """Keras' hook: sets Keras' own function, which calls the model's `predict_step`."""
        keras.Model.make_predict_function(self, force)

    def make_train_function(self, force: bool = False) -> None:
        """Keras' hook: sets the function that `fit()` calls for every step."""
        self.train_function = self._call_train_loop

    def make_test_function(self, force: bool = False) -> None:
        """Keras' hook: sets the function that `evaluate()` calls for every step."""
        self.test_function = self._call_test_loop

    def _call_train_loop(self, iterator: Any) -> Logs:
        self.global_step += self.train_loop.call(iterator, self.global_step)
        return Logs(self.train_sums)

    def begin_epoch(self, epoch: int) -> None:
        """Begins an epoch, or resumes it: the states of its metrics come from the checkpoint then."""
        super().begin_epoch(epoch)
        if not self.train_loop.calls.done:
            self.model.reset_metrics()

    # ---- evaluation

    @property
    def evaluates(self) -> bool:
        """True: every Keras model has a `test_step`."""
        return True

    @property
    def evaluation_names(self) -> list[str]:
        """The values of an evaluation."""
        return list(self.test_sums.kinds)

    def evaluate_dataset(self, dataset: Any, steps: int, callbacks: Any = None, verbose: Any = 0) -> dict[str, Any]:
        """Returns the results of the model's `test_step` on the first `steps` batches, by name.

        In the middle of an epoch, the states of the training's metrics are put aside meanwhile.
        """
        stream = self._convert(dataset).kept_stream(steps)
        self.begin_evaluation(steps)
        calls = self.test_loop.calls
        with self._metrics_aside(), name_example(dataset, 0, lambda: (0, calls.done, calls.count)):
            self.model.reset_metrics()
            return keras.Model.evaluate(
                self, stream, steps=steps, verbose=verbose, return_dict=True, callbacks=callbacks
            )

    def predict_dataset(self, dataset: Any, steps: int, callbacks: Any = None, verbose: Any = 0) -> Any:
        """Returns the outputs of the model's `predict_step` for the first `steps` batches, in the data's order."""
        data = self._convert(dataset)
        stream = data.stream(epochs=1, steps=steps)
        with name_example(dataset, 0, lambda: (0, 0, steps)):
            outputs = keras.Model.predict(self, stream, steps=steps, verbose=verbose, callbacks=callbacks)
        return keras.tree.map_structure(data.in_order, outputs)

    @contextlib.contextmanager
    def _metrics_aside(self) -> Iterator[None]:
        within = self._fits and self.global_step % self.steps_per_epoch != 0
        with self._kept([v for metric in self.metrics for v in metric.variables] if within else []):
            yield

    @contextlib.contextmanager
    def trying_out(self) -> Iterator[None]:
        """Puts back, after the `with` block, everything that a validation in it changed."""
        with self._kept(list(self._found.variables.values())):
            yield

    @contextlib.contextmanager
    def _kept(self, variables: list[Any]) -> Iterator[None]:
        values = [np.array(variable) for variable in variables]
        try:
            yield
        finally:
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)

    @contextlib.contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Leaves the weights as they are, as Keras does in its validation."""
        yield

    # ---- state

    def build_optimizers(self, settings: Any, steps_per_epoch: int | None, total_steps: int | None) -> None:
        """Notes the length of the run; the model's optimizers are its own.

        Raises:
            ValueError: The settings ask for updates that only the library makes.
        """
        self.steps_per_epoch, self.total_steps = steps_per_epoch, total_steps
        require_own_updates(settings)

    def average_names(self) -> dict[str, str]:
        """Returns none."""
        return {}

    def state_variables(self) -> dict[str, Any]:
        """Returns every variable that the model reaches, by name."""
        return dict(self._found.variables)
