"""The learning-rate range test: the rate rises with every update, and the loss shows which rates are good.

Smith 2017, https://arxiv.org/abs/1506.01186. As in fast.ai and Lightning, the suggestion is the rate at which the
smoothed loss falls fastest per decade.
"""

import contextlib
from typing import Any, NamedTuple

import keras
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lightkeras.callbacks import Callback, NonFiniteLossError
from lightkeras.data.module import DataModule
from lightkeras.task import TaskModule
from lightkeras.trainer import Trainer
from lightkeras.training.step import loss_name
from lightkeras.utils.checks import new_file, require, require_choice, require_int, require_number

DIVERGED = 4.0  # times the lowest smoothed loss
SMOOTHING = 0.9
SKIPPED = 0.1  # share of the first updates, and of the last, that are ignored for the suggestion


class RangeTest(NamedTuple):
    """The result of a range test.

    Attributes:
        optimizer: The name of the optimizer whose rate rose.
        rates: The rate of each update.
        losses: That optimizer's loss of each update.
        smoothed: The losses, averaged exponentially.
        suggestion: The rate at which the smoothed loss falls fastest; None if it never falls.
    """

    optimizer: str
    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float | None

    def plot(self, path: str) -> None:
        """Draws losses over rates, with the suggestion, into a new PNG file.

        Raises:
            FileExistsError: There is a file of that name.
            FileNotFoundError: There is no folder for it.
        """
        file = new_file("plot", path)
        figure = Figure(figsize=(7, 4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        axes.semilogx(self.rates, self.losses, color="0.75", label="loss")
        axes.semilogx(self.rates, self.smoothed, label="smoothed")
        if self.suggestion is not None:
            axes.axvline(self.suggestion, color="C3", linestyle="--", label=f"suggestion: {self.suggestion:.2g}")
        axes.set_xlabel(f"learning rate of {self.optimizer}")
        axes.set_ylabel(loss_name(self.optimizer))
        lowest, highest = min(self.smoothed), max(self.smoothed[0], min(self.smoothed[-1], 2 * self.smoothed[0]))
        margin = 0.1 * (highest - lowest)
        axes.set_ylim(lowest - margin, highest + margin)
        axes.legend()
        figure.savefig(file, format="png", dpi=110)


def find_lr(
    task: TaskModule, data: DataModule, *, optimizer: str | None = None, min_lr: float = 1e-6, max_lr: float = 1.0,
    steps: int = 100, **trainer: Any,
) -> RangeTest:  # fmt: skip
    """Trains a fresh task while one optimizer's learning rate rises; other optimizers keep theirs.

    This changes the task's weights: make a new task for the real training.

    Args:
        task: The task, not built yet.
        data: Its data.
        optimizer: The optimizer's name; None if there is only one.
        min_lr: The rate of the first update.
        max_lr: The rate of the last update; the rates between rise by a constant factor.
        steps: The most updates; the test ends earlier if the loss diverges.
        trainer: Arguments of the Trainer.

    Raises:
        ValueError: `min_lr` is not below `max_lr`, or no optimizer has that name (the message lists the names).
    """
    require(not task.built, "task", "a new task, which has not been built", type(task).__name__)
    require_int("steps", steps, minimum=10)
    require_number("min_lr", min_lr)
    require_number("max_lr", max_lr)
    require(min_lr < max_lr, "min_lr", f"below max_lr={max_lr:g}", min_lr)
    recorder = _RateSchedule(optimizer, min_lr, max_lr, steps)
    fixed = {
        "logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
        "limit_val_batches": 0, "num_sanity_val_steps": 0, "log_every_n_steps": 1, "steps_per_execution": 1,
        "max_epochs": None, "max_steps": steps, "callbacks": [recorder],
    }  # fmt: skip
    with contextlib.suppress(NonFiniteLossError):  # the loss has diverged, which ends the test
        Trainer(**{**trainer, **fixed}).fit(task, data)
    return recorder.result()


class _RateSchedule(Callback):
    """Gives the optimizer a rate that rises with its updates, and keeps the losses."""

    def __init__(self, optimizer: str | None, min_lr: float, max_lr: float, steps: int):
        super().__init__()
        self.name: Any = optimizer
        self._rate = keras.optimizers.schedules.ExponentialDecay(min_lr, steps - 1, max_lr / min_lr)
        self._rates, self._losses, self._smoothed, self._average = [], [], [], 0.0

    def on_train_begin(self, logs=None):
        optimizers = self.model.optimizers
        if self.name is None:
            require(len(optimizers) == 1, "optimizer", f"one of {', '.join(optimizers)}", None)
            self.name = next(iter(optimizers))
        require_choice("optimizer", self.name, optimizers)
        optimizers[self.name].learning_rate = self._rate

    def on_log(self, record):
        loss, updates = record[loss_name(self.name)], int(self.model.optimizers[self.name].iterations.numpy())
        self._rates.append(float(self._rate(updates - 1)))
        self._losses.append(loss)
        self._average = SMOOTHING * self._average + (1 - SMOOTHING) * loss
        self._smoothed.append(self._average / (1 - SMOOTHING ** len(self._losses)))
        if self._smoothed[-1] > DIVERGED * min(self._smoothed) > 0:
            self.model.stop_training = True

    def result(self) -> RangeTest:
        """Returns the losses so far, and the suggestion."""
        suggestion = suggest_lr(self._rates, self._smoothed)
        return RangeTest(self.name, self._rates, self._losses, self._smoothed, suggestion)


def suggest_lr(rates: list[float], smoothed: list[float]) -> float | None:
    """Returns the rate at which the loss falls fastest over the logarithm of the rate; None if it never falls."""
    skipped = int(SKIPPED * len(rates))
    used = slice(skipped, len(rates) - skipped)
    if len(rates[used]) < 3:
        return None
    slopes = np.gradient(np.array(smoothed[used]), np.log(rates[used]))
    steepest = int(np.argmin(slopes))
    return rates[used][steepest] if slopes[steepest] < 0 else None
