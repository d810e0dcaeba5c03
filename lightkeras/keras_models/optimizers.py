"""The optimizers of a plain model, as callbacks look at them: the model's own step applies them."""

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from lightkeras.training.optimizers import LOSS
from lightkeras.utils.checks import require


class FoundOptimizers(Mapping[str, keras.optimizers.Optimizer]):
    """The optimizers that a plain model's step uses, by the attributes that hold them.

    A single optimizer is named "loss", so that its values have plain names in the logs.

    Args:
        found: Every optimizer that the model reaches.
    """

    loss_scales: Mapping = {}

    def __init__(self, found: dict[str, keras.optimizers.Optimizer]):
        used = {path.replace(".", "_"): optimizer for path, optimizer in found.items() if optimizer.built}
        self._used = dict(zip([LOSS], used.values(), strict=True)) if len(used) == 1 else used

    def __getitem__(self, name: str) -> keras.optimizers.Optimizer:
        return self._used[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._used)

    def __len__(self) -> int:
        return len(self._used)

    def _log_name(self, name: str, what: str) -> str:
        return what if len(self) == 1 else f"{name}_{what}"

    def learning_rates(self) -> dict[str, float]:
        """Returns the current `learning_rate`, or `NAME_learning_rate` of each of several optimizers."""
        return {self._log_name(name, "learning_rate"): float(np.asarray(o.learning_rate)) for name, o in self.items()}

    def update_counts(self) -> dict[str, int]:
        """Counts the updates that each optimizer made."""
        return {name: int(optimizer.iterations.numpy()) for name, optimizer in self.items()}

    def loss_scaling(self) -> dict[str, float]:
        """Returns the loss scales of Keras' `LossScaleOptimizer`s."""
        scaling = {n: o for n, o in self.items() if isinstance(o, keras.optimizers.LossScaleOptimizer)}
        return {self._log_name(n, "loss_scale"): float(np.asarray(o.dynamic_scale)) for n, o in scaling.items()}

    def averages(self) -> list:
        """Returns nothing: Keras' `fit` ends the averages of `use_ema`, and its validation takes the weights."""
        return []

    def start_averages(self) -> None:
        """Does nothing; see `averages`."""

    def finish_averages(self) -> None:
        """Does nothing; see `averages`."""


def require_own_updates(settings: Any) -> None:
    """Rejects what a plain model's own step cannot do: the Trainer does not make its updates.

    Raises:
        ValueError: It is asked for.
    """
    instead = "a plain Keras model makes its updates itself"
    micro = f"1: {instead}. As a TaskModule, it can be cut into micro-batches"
    require(settings.micro_batches == 1, "micro_batches", micro, settings.micro_batches)
    clip = f"None: {instead}. Give its optimizer `global_clipnorm`, `clipnorm` or `clipvalue`"
    require(settings.gradient_clip_val is None, "gradient_clip_val", clip, settings.gradient_clip_val)
    norm = f"False: {instead}. Return the norm from its `train_step`"
    require(not settings.log_gradient_norm, "log_gradient_norm", norm, settings.log_gradient_norm)
