"""What a `keras.Model` is asked for by name: `evaluate`, `predict` and their kin, on a task's batches."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any, NoReturn

import keras
import numpy as np
import tensorflow as tf

from lightkeras.data import AddressedDataset
from lightkeras.data.addressing import number_rows
from lightkeras.data.batched import BatchedDataset
from lightkeras.data.failures import name_example
from lightkeras.distribution.replicas import num_replicas, one_cpu, sum_over_workers
from lightkeras.random.keys import KeyedBatches, keyed_draws
from lightkeras.training import keras_metrics
from lightkeras.training.inputs import as_batches
from lightkeras.training.logs import Logs
from lightkeras.training.loop import Loop, MemorySource, Source, StepsPerCall, StreamSource
from lightkeras.utils import internals
from lightkeras.utils.checks import lightkeras_error, require

ENDLESS = 2**62  # batches of a data set whose end only reading it will tell


class KerasMethods(internals.CompleteModel):
    """The methods of `keras.Model` that read data. Those that a task has no use for say what to do instead.

    Attributes:
        train_loop, test_loop: The compiled loops of the run.
        train_sums, test_sums: Their sums.
    """

    score_names: tuple[str, ...]
    global_step: int
    seed: int
    train_loop: Loop
    test_loop: Loop
    train_sums: Any  # a kind of `logs.Carried`
    test_sums: Any
    _apart_loop: Loop  # of evaluations that are not the run's
    _fits = False

    # ---- what differs for a plain Keras model

    exchanges_averages = True  # for validation

    def model_of_callbacks(self) -> keras.Model:
        """Returns the model that Keras' callbacks get. (Keras' saving would follow an attribute that is the task.)"""
        return self

    @property
    def preferred_steps_per_execution(self) -> int | None:
        """The steps of a call where a callback listens to batches; None for one."""
        return None

    @property
    def described_class(self) -> type:
        """The class that identifies a run."""
        return type(self)

    @property
    def title(self) -> str:
        """The name to show."""
        return self.described_class.__name__

    @property
    def name_of_runs(self) -> str:
        """The name of the folder of the task's runs: `TextGeneration` -> `text_generation`."""
        return internals.to_snake_case(type(self).__name__)

    @property
    def fixed_strategy(self) -> tf.distribute.Strategy | None:
        """The strategy that the task was built under, or None."""
        return self.distribute_strategy if self.built else None

    @property
    def usable(self) -> bool:
        """Whether it can be evaluated without a checkpoint."""
        return self.built

    def begin_stage(self, stage: str, dataset: Any) -> None:
        """Begins a stage ("fit", "validate", ...) on a data set."""

    def prepare_evaluation(self, dataset: Any) -> None:
        """Prepares evaluations on a data set: nothing is to be done."""

    def training_source(self, dataset: Any, seed: int, steps: int, micro_batches: int) -> Source:
        """Gathers arrays in memory inside the compiled loop, on one CPU; streams everything else."""
        if dataset.gather_from_memory is not None and one_cpu(self.distribute_strategy):
            return MemorySource(
                dataset.gather_from_memory, lambda epoch: dataset.index_table(seed, epoch, steps, micro_batches)
            )
        epoch, step = divmod(self.global_step, steps)
        address = {"seed": seed, "epoch": epoch, "step": step, "steps": steps, "micro_batches": micro_batches}
        return StreamSource(dataset.replica_stream(self.distribute_strategy, **address))

    def require_replicas(self, number: int, devices: Any) -> None:
        """Raises ValueError if the task was built for another number of replicas."""
        built = num_replicas(self.distribute_strategy)
        expected = f'{built} or "auto" for a task that was built on this number'
        require(number == built, "devices", expected, devices)

    def trying_out(self) -> contextlib.AbstractContextManager:
        """Puts back, after the `with` block, what a validation in it changed: nothing."""
        return contextlib.nullcontext()

    # ---- on any data

    def evaluate(
        self, x: Any = None, y: Any = None, batch_size: int | None = None, verbose: Any = "auto",
        sample_weight: Any = None, steps: int | None = None, callbacks: Any = None, return_dict: bool = False,
    ) -> Any:  # fmt: skip
        """Computes the metrics of `test_step` and of `score` on `x`. A run that is under way is not disturbed.

        Args:
            x: Arrays, a `tf.data.Dataset` of batches, of unknown length too, or an `AddressedDataset`, in the form of
                the training data: a dict by the names of the batches' entries, or `(x, y)`. Entries are cast to the
                dtypes of the training. Rows count by their weights; where there are none, by 1.
            y, sample_weight: Arrays beside `x`, for a task that was trained on `(x, y)`.
            batch_size: Rows of a batch, for arrays; None for 32.
            verbose, callbacks: As in Keras.
            steps: The first batches that are used; None for all.
            return_dict: Return the metrics by name.

        Returns:
            As in Keras: a dict, or the values alone, in the order of `metrics_names`: a list, or a number if it is one.

        Raises:
            TypeError: `x` is something else.
            ValueError: The batches do not fit the task, or are endless without `steps`; or the task is not built.
        """
        self._require_ready("evaluate")
        with self._apart_from_the_run():
            batches, count = as_batches(x, y, sample_weight, batch_size, steps, self.spec)
            logs = self._evaluate_apart(batches, count, steps, verbose, callbacks)
        values = [logs[name] for name in self.metrics_names]
        return logs if return_dict else values[0] if len(values) == 1 else values

    def predict(
        self, x: Any, batch_size: int | None = None, verbose: Any = "auto", steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:  # fmt: skip
        """Returns `predict_step` on `x`: arrays with the example axis first. A run that is under way is not disturbed.

        Args:
            x: As for `evaluate`; entries that `predict_step` does not use may be absent.
            batch_size: Rows of a batch, for arrays; None for 32.
            verbose, callbacks: As in Keras.
            steps: The first batches that are used; None for all.

        Returns:
            One row for each row of the batches; of arrays and an `AddressedDataset`, for each example. Outputs of
            batches that differ in width are padded with zeros to the widest.
        """
        self._require_ready("predict")
        with self._apart_from_the_run():
            batches, count = as_batches(x, None, None, batch_size, steps, self.spec)
            if isinstance(batches, AddressedDataset):
                return self.predict_dataset(batches, count or 0, callbacks, verbose)
            with _until_the_end(count, steps):
                outputs = super().predict(number_rows(batches), verbose=verbose, steps=steps, callbacks=callbacks)
        return keras.tree.map_structure(_pad, outputs)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """Computes the metrics on one batch; see `evaluate`."""
        batch = tf.data.Dataset.from_tensors(x if y is None and sample_weight is None else (x, y, sample_weight))
        return self.evaluate(batch, verbose=0, return_dict=return_dict)

    def predict_on_batch(self, x: Any) -> Any:
        """Returns `predict_step` on one batch."""
        return self.predict(tf.data.Dataset.from_tensors(x), verbose=0)

    @property
    def metrics_names(self) -> list[str]:
        """The metrics of `evaluate`, in its order: the loss comes first, as in Keras."""
        return sorted([*self.test_sums.kinds, *self.score_names], key=lambda name: name != "loss")

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Keras' metrics of the task and of its layers. (Keras' own loss tracker would report a loss of 0.)"""
        layers = internals.flatten_layers(self)
        return list({id(one): one for layer in layers for one in internals.own_metrics(layer)}.values())

    def reset_metrics(self) -> None:
        """Does nothing: metrics are reset where an epoch or evaluation begins (Keras calls it at each evaluation)."""

    def get_metrics_result(self) -> dict[str, float]:
        """Returns the results of Keras' metrics by name, in the epoch or evaluation that ran last."""
        return keras_metrics.results_of(self)

    # ---- on the data of a stage

    def begin_epoch(self, epoch: int) -> None:
        """Begins an epoch, or resumes it with the sums of its first steps."""
        self.train_loop.source.begin_epoch(epoch)
        before = epoch * self.steps_per_epoch
        self.train_loop.calls.begin(self.steps_per_epoch, self.global_step - before, before)
        if not self.train_loop.calls.done:
            self.train_sums.reset()

    def _call_test_loop(self, iterator: Any) -> Logs:
        self.test_loop.call(iterator)
        return Logs(self.test_sums)

    def begin_evaluation(self, steps: int) -> None:
        """Prepares an evaluation on `steps` batches."""
        self.test_sums.reset()
        self.test_loop.calls.begin(steps)

    def evaluate_dataset(self, dataset: BatchedDataset, steps: int, callbacks=None, verbose: Any = 0) -> dict:
        """Returns the metrics of `test_step` and of `score` on the first `steps` batches, by name."""
        self.begin_evaluation(steps)
        strategy = self.distribute_strategy
        stream = dataset.cached_stream(strategy, steps, by_replica=True)
        calls = self.test_loop.calls
        with name_example(dataset, 0, lambda: (0, calls.done, calls.count)):
            logs = super().evaluate(stream, steps=steps, verbose=verbose, return_dict=True, callbacks=callbacks)
        return {**logs, **self._scores(lambda: dataset.cached_stream(strategy, steps, by_replica=False))}

    def predict_dataset(self, dataset: BatchedDataset, steps: int, callbacks=None, verbose: Any = 0) -> Any:
        """Returns `predict_step` on the first `steps` batches: a row for each example, in the data's order."""
        stream = dataset.prediction_stream(self.distribute_strategy, steps)
        with name_example(dataset, 0, lambda: (0, 0, steps)):
            outputs = super().predict(stream, steps=steps, verbose=verbose, callbacks=callbacks)
        return keras.tree.map_structure(lambda rows: dataset.in_order(_pad(rows)), outputs)

    def make_predict_function(self, force: bool = False) -> None:
        """Keras' hook: sets the function that `predict()` calls for every batch; `force` traces the step again."""
        if self.predict_function is not None and not force:
            return

        def on_replica(batch, address):
            with keyed_draws(address, self.seed, "predict"), keras_metrics.predicting():
                return self.predict_step(batch)

        def predict(elements):  # Keras gives a list: one element, which is a pair
            outputs = self.distribute_strategy.run(on_replica, args=elements[0])
            return internals.concat_replicas(outputs, self.distribute_strategy)

        run_eagerly = self.run_eagerly
        self.predict_function = predict if run_eagerly else tf.function(predict, autograph=False, reduce_retracing=True)

    def _scores(self, make_batches) -> dict[str, float]:
        """Adds up the scores of all workers, in one collective, and divides."""
        if not self.score_names:
            return {}
        scores = self.score(KeyedBatches(make_batches(), self.seed, self.test_loop.stage))
        expected = f"the names that `score` returns: {sorted(scores)}"
        require(set(scores) == set(self.score_names), "score_names", expected, self.score_names)
        sums = [scores[name].sums for name in self.score_names]
        total = sum_over_workers(self.distribute_strategy, np.concatenate(sums))
        parts = np.split(total, np.cumsum([len(part) for part in sums])[:-1])
        return {
            name: type(scores[name]).from_sums(part).result()
            for name, part in zip(self.score_names, parts, strict=True)
        }

    # ---- beside a run

    def _evaluate_apart(
        self, batches: Any, count: int | None, steps: int | None, verbose: Any, callbacks: Any
    ) -> dict:  # fmt: skip
        one_by_one = count is None or callbacks
        calls, sums = StepsPerCall(1 if one_by_one else "auto"), self.test_sums.like()
        self.test_loop, self.test_sums = self._apart_loop.counting(sums, calls), sums
        if isinstance(batches, AddressedDataset):
            return self.evaluate_dataset(batches, count or 0, callbacks, verbose)
        self.begin_evaluation(count or ENDLESS)
        batches = number_rows(batches)
        with _until_the_end(count, steps):
            logs = super().evaluate(batches, steps=steps, verbose=verbose, return_dict=True, callbacks=callbacks)
        require(calls.done > 0, "x", "data with batches", "an empty data set")
        return {**logs, **self._scores(lambda: batches)}

    @contextlib.contextmanager
    def _apart_from_the_run(self) -> Iterator[None]:
        """Puts back what an evaluation changes: loop and sums, and within a run the states of seed generators."""
        kept = {name: getattr(self, name, None) for name in ("test_loop", "test_sums", *_FLAGS)}
        states = internals.seed_states(self) if self._fits else []
        values = [np.array(state) for state in states]
        try:
            yield
        finally:
            for name, value in kept.items():
                setattr(self, name, value)
            for state, value in zip(states, values, strict=True):
                state.assign(value)

    # ---- what is refused

    def fit(self, *args: Any, callbacks: Any = None, **kwargs: Any) -> Any:
        """Is called by the Trainer.

        Raises:
            TypeError: It is called by anyone else.
        """
        if not isinstance(callbacks, internals.SynchronousCallbackList):
            _refuse("fit", "train it by `lk.Trainer(...).fit(task, data)`")
        self._fits = True
        try:
            return super().fit(*args, callbacks=callbacks, **kwargs)
        finally:
            self._fits = False

    def compile(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises a TypeError: the Trainer compiles."""
        _refuse(
            "compile",
            "return optimizers from `configure_optimizers()`, losses and metrics from the loss function, and give "
            "run_eagerly, jit_compile and steps_per_execution to the Trainer",
        )

    def train_on_batch(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises a TypeError: the Trainer trains."""
        _refuse("train_on_batch", "train it by `lk.Trainer(max_steps=...).fit(task, data)`")

    def _require_ready(self, method: str) -> None:
        """Compiles a task that was loaded, not trained."""
        require(self.built, "task", f"trained or loaded before `{method}`", self)
        if not self.compiled:
            self.compile_steps()


_FLAGS = ("stop_evaluating", "stop_predicting")


@contextlib.contextmanager
def _until_the_end(count: int | None, steps: int | None) -> Iterator[None]:
    """Silences Keras' warning that data of unknown length ran out, unless a number of steps was asked for."""
    with warnings.catch_warnings():
        if count is None and steps is None:
            warnings.filterwarnings("ignore", "Your input ran out of data")
        yield


def _refuse(method: str, instead: str) -> NoReturn:
    raise lightkeras_error(TypeError)(f"A task has no use for `task.{method}`: {instead}.")


def _pad(rows: Any) -> np.ndarray:
    """Pads the outputs of all batches with zeros: those of differing width come as a ragged tensor."""
    return np.asarray(rows.to_tensor() if isinstance(rows, tf.RaggedTensor) else rows)
