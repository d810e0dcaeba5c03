"""The callbacks of a run, in the order in which they are called, and the metrics that they may monitor."""

import keras

from lightkeras.callbacks.csv_logger import CSVLogger
from lightkeras.callbacks.interrupt import Interrupt
from lightkeras.callbacks.learning_rate_monitor import LearningRateMonitor
from lightkeras.callbacks.limit import Limit
from lightkeras.callbacks.model_checkpoint import ModelCheckpoint
from lightkeras.callbacks.model_summary import ModelSummary
from lightkeras.callbacks.non_finite_guard import NonFiniteGuard
from lightkeras.callbacks.progress import ProgressBar
from lightkeras.callbacks.sample_writer import SampleWriter
from lightkeras.callbacks.tensorboard_logger import TensorBoardLogger
from lightkeras.callbacks.throughput import Throughput
from lightkeras.callbacks.validation import Validation
from lightkeras.utils.checks import nearest

_FIRST = (Validation, NonFiniteGuard, LearningRateMonitor, Throughput)  # they add to the records
_LAST = (
    ModelSummary, CSVLogger, TensorBoardLogger, ProgressBar, SampleWriter, Limit, Interrupt, keras.callbacks.History,
    ModelCheckpoint,  # what it saves is the others' state after the event
)  # fmt: skip


def in_order(given: list[keras.callbacks.Callback], defaults: list[keras.callbacks.Callback]) -> list:
    """`given`, and those of `defaults` whose class none of `given` is of; the user's own stand in the middle.

    So the user's see what the first ones add to records and logs, and the loggers see what the user's add.
    """
    used = [default for default in defaults if not any(isinstance(one, type(default)) for one in given)]
    return sorted([*given, *used], key=_rank)


def _rank(callback: keras.callbacks.Callback) -> int:
    for rank, kind in enumerate(_FIRST):
        if isinstance(callback, kind):
            return rank
    ranks = [len(_FIRST) + 1 + at for at, kind in enumerate(_LAST) if isinstance(callback, kind)]
    return ranks[0] if ranks else len(_FIRST)


def metric_names(task, callbacks: list[keras.callbacks.Callback], validation: Validation | None) -> list[str]:
    """Every name that comes in records: the task's metrics, what callbacks add, and the `val_` metrics."""
    added = []
    for callback in callbacks:
        if hasattr(callback, "metric_names"):
            callback.set_model(task)
            added += callback.metric_names()
    of_validation = [f"val_{name}" for name in task.evaluation_names] if validation else []
    return list(dict.fromkeys([*task.train_sums.kinds, *added, *of_validation]))


def check_monitors(callbacks: list[keras.callbacks.Callback], names: list[str]) -> None:
    """Refuses a `monitor` that is none of `names`.

    Raises:
        ValueError: The names are listed, and the nearest is suggested.
    """
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        unused = getattr(callback, "save_best_only", True) is False  # Keras' ModelCheckpoint always has a monitor
        if monitor is not None and not unused and monitor not in names:
            raise ValueError(
                f"Expected `monitor` of {type(callback).__name__} to be one of {', '.join(names)}. "
                f"Received: monitor={monitor!r}.{nearest(monitor, names)} (A callback of your own that adds to the "
                "logs names what it adds in `metric_names()`.)"
            )
