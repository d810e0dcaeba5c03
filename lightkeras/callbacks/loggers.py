"""The loggers by name: `Trainer(logger="csv,tensorboard,mlflow")`."""

from collections.abc import Iterable
from typing import Any

from lightkeras.callbacks.callback import Callback
from lightkeras.callbacks.csv_logger import CSVLogger
from lightkeras.callbacks.mlflow_logger import MLflowLogger
from lightkeras.callbacks.tensorboard_logger import TensorBoardLogger
from lightkeras.callbacks.tracker import Tracker
from lightkeras.callbacks.wandb_logger import WandbLogger
from lightkeras.utils.checks import require, require_choice

LOGGERS = {"csv": CSVLogger, "tensorboard": TensorBoardLogger, "mlflow": MLflowLogger, "wandb": WandbLogger}
DEFAULT = ("csv", "tensorboard")
EXPECTED = (
    f"True, False, or names of {', '.join(LOGGERS)}: a list, or joined by commas. A logger with arguments of its own "
    "goes into `callbacks`"
)


def make_loggers(given: bool | str | list[str]) -> list[Callback]:
    """Makes the loggers that the Trainer's argument `logger` names.

    Raises:
        ValueError: A name is unknown, or there twice.
        ImportError: The package of a logger is not installed.
    """
    if isinstance(given, bool):
        return [LOGGERS[name]() for name in DEFAULT if given]
    names: Any = [name.strip() for name in given.split(",")] if isinstance(given, str) else given
    ok = isinstance(names, list | tuple) and len(names) > 0 and all(isinstance(name, str) for name in names)
    require(ok, "logger", EXPECTED, given)
    for name in names:
        require_choice("logger", name, LOGGERS)
    require(len(set(names)) == len(names), "logger", "names that differ", given)
    return [LOGGERS[name]() for name in names]


def check_trackers(callbacks: Iterable[Any]) -> None:
    """Rejects two trackers of one kind: their runs would be taken for each other's."""
    kinds = [type(callback) for callback in callbacks if isinstance(callback, Tracker)]
    for kind in kinds:
        require(kinds.count(kind) == 1, "callbacks", f"with one {kind.__name__}", callbacks)
