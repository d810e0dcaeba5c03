"""A task's optimizers by name, and what belongs to each: loss, variables, clipping, loss scale, weight averages."""

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from lightkeras.distribution.replicas import num_replicas, one_cpu
from lightkeras.training import weight_averaging
from lightkeras.training.loss_scale import LossScale, all_finite
from lightkeras.utils import internals
from lightkeras.utils.checks import ArgumentError, require

LOSS = "loss"
CLIP_ALGORITHMS = ("norm", "value", "norm_per_variable")
MIN_WEIGHTS = 2**20  # for fewer weights, starting an XLA program costs as much as it saves
_COMPILABLE = ("keras.", "lightkeras.")  # a user's own optimizer or schedule may have operations that XLA lacks


def loss_name(name: str) -> str:
    """Returns the name of an optimizer's loss: `NAME_loss`, or "loss" for an optimizer without a name."""
    return LOSS if name == LOSS else f"{name}_{LOSS}"


@dataclasses.dataclass(frozen=True)
class UpdateSettings:
    """How every update is made; the arguments of the Trainer of the same names."""

    micro_batches: int = 1
    gradient_clip_val: float | None = None
    gradient_clip_algorithm: str = "norm"
    log_gradient_norm: bool = False


class Update(NamedTuple):
    """What an update reports.

    Attributes:
        norm: Global norm of the mean gradients before clipping, float32 (); None where nothing needs it.
        skipped: Whether float16 gradients overflowed and the update was skipped, bool (); None without a loss scale.
    """

    norm: tf.Tensor | None
    skipped: tf.Tensor | None


class NamedOptimizers(Mapping[str, keras.optimizers.Optimizer]):
    """The optimizers of a task by name. Built under the strategy, after the model.

    Args:
        configured: One optimizer, or a dict of them by name.
        variables: `name -> ` the variables that the optimizer trains.
        settings: How updates are made.
        rows: Examples of a global batch; needed for float16 only.
        float16: Whether losses are scaled.

    Raises:
        TypeError: Something is not a Keras optimizer.
        ValueError: An optimizer has an option that the library does not support or already provides.
    """

    def __init__(
        self,
        configured: keras.optimizers.Optimizer | dict[str, keras.optimizers.Optimizer],
        variables: Callable[[str], list[keras.Variable]],
        settings: UpdateSettings,
        rows: int = 1,
        float16: bool = False,
    ):
        self._optimizers = dict(configured) if isinstance(configured, dict) else {LOSS: configured}
        self.settings, self._strategy = settings, tf.distribute.get_strategy()
        for name, optimizer in self._optimizers.items():
            _require_supported(name, optimizer)
        self._variables, self.loss_scales = variables, {}
        self._built: dict[str, list[keras.Variable]] = {}
        self._reached: dict[str, set[int]] = {}
        self._known: dict[int, str] = {}
        self._settled = self._warned = False
        if float16:
            self.loss_scales = {name: LossScale(rows) for name in self}

    def build(self) -> None:
        """Creates the slots of every optimizer; weight averages start at the weights.

        Raises:
            ValueError: An optimizer has nothing to train.
        """
        for name, optimizer in self.items():
            variables = self._variables(name)
            require(bool(variables), f"optimizers[{name!r}]", "of a layer with trainable variables", variables)
            self._built[name] = list(variables)
            optimizer.build(variables)
            internals.expect_reduced_gradients(optimizer)
            weight_averaging.prepare(optimizer)
        self._known, self._settled = self._trainable(), False
        self.swap_averages = weight_averaging.make_swap(self._strategy, self.averages())

    def __getitem__(self, name: str) -> keras.optimizers.Optimizer:
        return self._optimizers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._optimizers)

    def __len__(self) -> int:
        return len(self._optimizers)

    def variables(self, name: str) -> list[keras.Variable]:
        """Returns the variables that optimizer `name` trains: those that were trainable when it was built."""
        return self._built[name] if name in self._built else self._variables(name)

    def log_name(self, name: str, what: str) -> str:
        """Names a value of optimizer `name` in the logs: `what`, or `NAME_what` where there are several optimizers."""
        return what if len(self) == 1 else f"{name}_{what}"

    def require_losses(self, names: list[str]) -> None:
        """Raises a ValueError unless every optimizer has a loss among the metric `names`."""
        wanted = [loss_name(name) for name in self]
        if not set(wanted) <= set(names):
            raise ArgumentError(
                f"Expected a loss for every optimizer: {', '.join(wanted)}. Received: optimizers "
                f"{', '.join(self)}; losses and metrics {', '.join(names)}"
            )

    def regularization(self, name: str) -> tf.Tensor | float:
        """Sums the weight regularizers of the optimizer's variables, per example as Keras counts them."""
        return sum(v.regularizer(v) for v in self.variables(name) if v.regularizer is not None)

    # ---- variables that are frozen, or without a gradient

    def _trainable(self) -> dict[int, str]:
        """Returns the paths of the variables that the optimizers would train if they were built now."""
        return {id(variable): variable.path for name in self for variable in self._variables(name)}

    def settle_trainable(self) -> None:
        """Takes what is trainable after the first call for what stays so: a step may set `trainable` itself."""
        if not self._settled:
            self._known, self._settled = self._trainable(), True

    def require_same_trainable(self) -> None:
        """Rejects what a callback froze or unfroze: the compiled step and the optimizers' slots are made already.

        Raises:
            ValueError: The variables are named.
        """
        now = self._trainable()
        changed = [path for key, path in {**self._known, **now}.items() if (key in now) != (key in self._known)]
        if changed:
            raise ArgumentError(
                "Expected the trainable variables to stay the same in a run. Received: `trainable` changed for "
                f"{', '.join(changed)}. End the run, change it, and `fit` the same task again: its weights stay."
            )

    def note_reached(self, name: str, reached: list[bool]) -> None:
        """Notes which variables of optimizer `name` a loss depends on, while a step is traced.

        Raises:
            ValueError: It depends on none.
        """
        if not any(reached):
            raise ArgumentError(
                f"Expected the loss of optimizer {name!r} to depend on its variables. Received: no gradient for "
                f"{', '.join(variable.path for variable in self.variables(name))}"
            )
        self._reached.setdefault(name, set()).update(index for index, found in enumerate(reached) if found)

    def warn_of_unreached(self) -> None:
        """Warns, once, of variables that no loss of a whole step depends on: they stay as they are, as in Keras."""
        left = [
            variable.path
            for name, reached in self._reached.items()
            for index, variable in enumerate(self.variables(name))
            if index not in reached
        ]
        if left and not self._warned:
            self._warned = True
            warnings.warn(
                f"No loss depends on {', '.join(left)}: they are not trained. Set `trainable = False` on them if that "
                "is meant.",
                stacklevel=2,
            )

    # ---- one update

    def update(self, name: str, sums: list[Any], weight: tf.Tensor) -> Update:
        """Divides, clips and applies the gradients of one optimizer; called in the replica context.

        Args:
            name: The optimizer's.
            sums: All-reduced sums of the gradients of its variables, times the loss scale; None where there is none.
            weight: The weight of the whole global batch, float32 ().
        """
        scale, variables = self.loss_scales.get(name), None
        if any(one is None for one in sums):
            variables = [variable for variable, one in zip(self.variables(name), sums, strict=True) if one is not None]
            sums = [one for one in sums if one is not None]
        factor = tf.math.divide_no_nan(1.0, weight * scale.factor() if scale else weight)
        clip_val, by_norm = self.settings.gradient_clip_val, self._clips_by_norm
        # never compiled: XLA would sum on one core
        norm = tf.linalg.global_norm(sums) * factor if by_norm or self.settings.log_gradient_norm else None
        if by_norm and norm is not None:
            factor *= clip_val / tf.maximum(norm, clip_val) + (norm - norm)  # NaN where the norm is not finite
        finite = all_finite(sums) if scale else None

        def apply(factor, *sums):
            gradients = self._clip_elements([gradient * tf.cast(factor, gradient.dtype) for gradient in sums])
            if scale:
                scale.apply(self[name], gradients, finite, variables)
            else:
                self[name].apply(gradients, variables)

        if self._is_worth_compiling(name):
            apply = tf.function(apply, jit_compile=True, autograph=False)
        apply(factor, *sums)
        return Update(norm, None if finite is None else ~finite)

    @property
    def _clips_by_norm(self) -> bool:
        return self.settings.gradient_clip_val is not None and self.settings.gradient_clip_algorithm == "norm"

    def _clip_elements(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        value, algorithm = self.settings.gradient_clip_val, self.settings.gradient_clip_algorithm
        if value is not None and algorithm == "value":
            return [tf.clip_by_value(gradient, -value, value) for gradient in gradients]
        if value is not None and algorithm == "norm_per_variable":
            return [tf.clip_by_norm(gradient, value) for gradient in gradients]
        return gradients

    def _is_worth_compiling(self, name: str) -> bool:
        """Whether one XLA program is faster: on one CPU, in a graph, for many weights.

        In a graph, Keras' Adam is some twenty operations per variable, each of which reads and writes all of its
        memory. Compiled, the update of 20 million weights takes a third of the time.
        """
        parts = (self[name], internals.learning_rate_variable(self[name]))
        compilable = all(type(part).__module__.startswith(_COMPILABLE) for part in parts)
        in_graph = one_cpu(self._strategy) and not tf.executing_eagerly()
        weights = sum(math.prod(variable.shape) for variable in self.variables(name))
        return compilable and in_graph and weights >= MIN_WEIGHTS and name not in self.loss_scales

    @property
    def replicas(self) -> int:
        """Replicas over all workers."""
        return num_replicas(self._strategy)

    # ---- weight averages

    def averages(self) -> weight_averaging.Pairs:
        """Returns the averaged weights, each with its average."""
        return weight_averaging.pairs(self.values())

    def start_averages(self) -> None:
        """Sets the averages to the weights, which were given other values."""
        weight_averaging.start(self.averages())

    def finish_averages(self) -> None:
        """Sets the weights to their averages: training has ended."""
        weight_averaging.finish(self.averages())

    # ---- what is logged and saved

    def learning_rates(self) -> dict[str, float]:
        """Returns the current `learning_rate`, or `NAME_learning_rate` of each of several optimizers."""
        rates = {name: float(np.asarray(optimizer.learning_rate)) for name, optimizer in self.items()}
        return {self.log_name(name, "learning_rate"): rate for name, rate in rates.items()}

    def update_counts(self) -> dict[str, int]:
        """Counts the updates that each optimizer made; skipped ones (float16) do not count.

        Learning-rate schedules follow this number. It differs from `global_step` where a step makes no update or
        several updates with the optimizer.
        """
        return {name: int(optimizer.iterations.numpy()) for name, optimizer in self.items()}

    def loss_scaling(self) -> dict[str, float]:
        """Returns `loss_scale` and `skipped_updates` (`NAME_...` of several optimizers); empty but in float16."""
        values = {}
        for name, scale in self.loss_scales.items():
            values[self.log_name(name, "loss_scale")] = float(scale.scale.numpy())
            values[self.log_name(name, "skipped_updates")] = float(scale.skipped_updates.numpy())
        return values

    def state_variables(self) -> dict[str, keras.Variable]:
        """Returns every variable of the optimizers and loss scales by name."""
        named = {}
        for name, optimizer in self.items():
            named.update({f"optimizer/{name}/{index:04d}": v for index, v in enumerate(optimizer.variables)})
        for name, scale in self.loss_scales.items():
            named.update({f"loss_scale/{name}/{v.name}": v for v in scale.variables})
        return named


class SeveralOptimizers:
    """What `model.optimizer` is for a task with several optimizers, to callbacks that look at it.

    It has what is true of them all; a learning rate only if it is the same. Anything else belongs to one:
    `model.optimizers[NAME]`.

    Args:
        optimizers: The optimizers by name.
    """

    def __init__(self, optimizers: Mapping[str, keras.optimizers.Optimizer]):
        self._named = optimizers

    @property
    def iterations(self) -> int:
        """The most updates that one of them made."""
        return max(int(optimizer.iterations.numpy()) for optimizer in self._named.values())

    @property
    def learning_rate(self) -> Any:
        """The learning rate of each, if they are equal; else an AttributeError."""
        rates = [optimizer.learning_rate for optimizer in self._named.values()]
        if len({float(np.asarray(rate)) for rate in rates}) > 1:
            raise AttributeError("learning_rate")  # `__getattr__` says what to do
        return rates[0]

    def get_config(self) -> dict[str, Any]:
        """Returns the configuration of each, its keys as `NAME_key`."""
        configs = {name: optimizer.get_config() for name, optimizer in self._named.items()}
        return {f"{name}_{key}": value for name, config in configs.items() for key, value in config.items()}

    def __getattr__(self, name: str):
        raise AttributeError(
            f"Expected an optimizer by its name: model.optimizers[NAME] of {', '.join(self.__dict__['_named'])}. "
            f"Received: model.optimizer.{name}"
        )


def _require_supported(name: str, optimizer: keras.optimizers.Optimizer) -> None:
    """Rejects optimizer options that the library does not support or already provides."""
    what = f"optimizers[{name!r}]"
    require(
        isinstance(optimizer, keras.optimizers.Optimizer), what, "a keras.optimizers.Optimizer", optimizer, TypeError
    )
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer) or optimizer.loss_scale_factor is not None
    require(not scaled, what, 'without a loss scale: Trainer(precision="16-mixed") scales the loss', optimizer)
    accumulates = bool(optimizer.gradient_accumulation_steps)
    require(
        not accumulates, what, "without gradient_accumulation_steps: use Trainer(micro_batches=...) instead", optimizer
    )
    overwrites = optimizer.use_ema and optimizer.ema_overwrite_frequency
    expected = "without ema_overwrite_frequency, which Keras supports on one device only"
    require(not overwrites, what, expected, optimizer.ema_overwrite_frequency)
