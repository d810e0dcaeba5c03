"""The callbacks of a run, in the order in which they are called, and the metrics that they may monitor."""

from typing import TYPE_CHECKING

import keras

from lightkeras.callbacks.callback_list import find_model
from lightkeras.callbacks.defaults import default_callbacks, make_validation
from lightkeras.callbacks.keras_checks import (
    check_optimizer_use,
    reject_swaps,
    reject_two_profilers,
    set_direction,
)
from lightkeras.callbacks.validation import Validation
from lightkeras.data import DataModule
from lightkeras.utils.checks import ArgumentError, nearest

if TYPE_CHECKING:
    from lightkeras.task import TaskModule
    from lightkeras.trainer import Trainer

HISTORY_ORDER = 80  # Keras' History declares none


def assemble(
    trainer: "Trainer", task: "TaskModule", data: DataModule
) -> tuple[list[keras.callbacks.Callback], list[str]]:
    """Makes the callbacks of a run, sorted by `order`, and lists the names that they may monitor.

    A callback of the task replaces the Trainer's of the same class.

    Raises:
        ValueError: A callback monitors a name that no record has, or one whose better direction is not known, or sets
            the learning rate of an optimizer that has a schedule; or two of them profile.
    """
    validation = make_validation(trainer, task, data)
    own = task.configure_callbacks()
    given = [*own, *(c for c in trainer.callbacks if type(c) not in [type(one) for one in own])]
    callbacks = merge(given, default_callbacks(trainer, task, validation))
    names = metric_names(task, callbacks, validation)
    _require_known_monitors(callbacks, names)
    reject_two_profilers(callbacks)
    for callback in callbacks:
        reject_swaps(callback, task)
        set_direction(callback, task)
        check_optimizer_use(callback, task)
    return callbacks, names


def merge(given: list[keras.callbacks.Callback], defaults: list[keras.callbacks.Callback]) -> list:
    """Sorts by `order` the callbacks `given` and the `defaults` of whose class none of them is.

    The user's own, of order 0, see what the first ones add to records and logs; the loggers see what the user's add.
    """
    used = [default for default in defaults if not any(isinstance(one, type(default)) for one in given)]
    return sorted([*given, *used], key=_order)


def _order(callback: keras.callbacks.Callback) -> int:
    return HISTORY_ORDER if isinstance(callback, keras.callbacks.History) else getattr(callback, "order", 0)


def metric_names(
    task: "TaskModule", callbacks: list[keras.callbacks.Callback], validation: Validation | None
) -> list[str]:
    """Lists every name in records: the task's metrics, names that callbacks add, and the `val_` metrics."""
    added = []
    for callback in callbacks:
        if hasattr(callback, "metric_names"):
            callback.set_model(find_model(callback, task))
            added += callback.metric_names()
    validated = validation.result_names(task.evaluation_names) if validation else []
    return list(dict.fromkeys([*task.train_sums.kinds, *added, *validated]))


def _require_known_monitors(callbacks: list[keras.callbacks.Callback], names: list[str]) -> None:
    """Rejects a `monitor` that is none of `names`.

    Raises:
        ValueError: The names are listed, and the nearest is suggested.
    """
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        unused = getattr(callback, "save_best_only", True) is False  # Keras' ModelCheckpoint always has a monitor
        if monitor is not None and not unused and monitor not in names:
            raise ArgumentError(
                f"Expected `monitor` of {type(callback).__name__} to be one of {', '.join(names)}. "
                f"Received: monitor={monitor!r}.{nearest(monitor, names)} (A callback of your own that adds to the "
                "logs names what it adds in `metric_names()`.)"
            )
