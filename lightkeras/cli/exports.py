"""The options and the output of `lightkeras export`, and the export of a plain Keras model."""

from collections.abc import Callable
from typing import Any

import keras

from lightkeras.configuration import Parser
from lightkeras.export.check import Compared
from lightkeras.export.exporting import FORMATS, export_with
from lightkeras.export.folders import new_folder
from lightkeras.keras_models.accept import as_task
from lightkeras.runs import state
from lightkeras.runs.folder import open_checkpoint
from lightkeras.utils.checks import UsageError, require, require_choice
from lightkeras.utils.messages import logger
from lightkeras.utils.paths import as_path


def add_export_options(parser: Parser) -> None:
    """Adds what names the run, the folder and the format."""
    add = parser.add_argument
    add("--ckpt_path", type=str | None, default="best", help="a run's folder, a checkpoint, best or last")
    add("--trainer.default_root_dir", type=str, default="runs", help="the folder of the runs")
    add("--out", type=str | None, default=None, help="a new folder, which must be given")
    add("--format", type=str, default="saved_model", help=f"one of {', '.join(FORMATS)}")


def check_export_options(config: Any) -> None:
    """Rejects an unknown format, and a folder that is not given or not new."""
    require_choice("--format", config.format, FORMATS)
    require(config.out is not None, "--out", "a new folder", config.out, UsageError)
    new_folder(config.out)


def read_trial_data(task: Any) -> None:
    """Reads the data of a task's run, where it is at hand: `exports()` tries the endpoints with examples of it.

    Nothing is downloaded. An export needs no data, so whatever the data module raises is said, and ends nothing.
    """
    data = getattr(task, "data", None)
    if data is None:
        return
    try:
        data.setup("validate")
    except Exception as error:  # of any kind: the module may be the user's own
        told = f"{type(error).__name__}: {' '.join(str(error).split())}"
        logger.warning("The export is tried with made-up values, as the run's data cannot be read (%s)", told)


def show_export(config: Any, compared: Compared) -> int:
    """Prints the difference of each endpoint from the task; returns the exit code."""
    for name, difference in compared.differences.items():
        print(f"{name:<30}largest difference {difference:.1e}")
    print(f"Export: {config.out}")
    return 0


def export_checkpoint(config: Any, build: Callable[[], keras.Model]) -> int:
    """Exports a plain Keras model with the weights of a run's checkpoint."""
    check_export_options(config)
    task = as_task(build())
    root = as_path(config.trainer.default_root_dir)
    saved = open_checkpoint(config.ckpt_path, root, task.name_of_runs)
    task.take_as_built()
    state.restore_weights(task, saved)
    return show_export(
        config, export_with(task.model, config.out, config.format, state.run_facts(saved.path, saved.state))
    )
