"""The callbacks that every run has."""

from collections import Counter
from typing import TYPE_CHECKING, Any

import keras

from lightkeras.callbacks.compilation import Compilation
from lightkeras.callbacks.csv_logger import CSVLogger
from lightkeras.callbacks.export_at_end import ExportAtEnd
from lightkeras.callbacks.goodput import Goodput
from lightkeras.callbacks.interrupt import Interrupt
from lightkeras.callbacks.learning_rate_monitor import LearningRateMonitor
from lightkeras.callbacks.limit import Limit
from lightkeras.callbacks.loggers import make_loggers
from lightkeras.callbacks.model_checkpoint import ModelCheckpoint
from lightkeras.callbacks.model_summary import ModelSummary
from lightkeras.callbacks.non_finite_guard import NonFiniteGuard
from lightkeras.callbacks.notebook_progress import NotebookProgress, in_notebook
from lightkeras.callbacks.profiler import Profiler
from lightkeras.callbacks.progress import ProgressBar
from lightkeras.callbacks.report_writer import ReportWriter
from lightkeras.callbacks.sample_writer import SampleWriter
from lightkeras.callbacks.throughput import Throughput
from lightkeras.callbacks.timeline import Timeline
from lightkeras.callbacks.validation import Validation
from lightkeras.callbacks.watchdog import Watchdog
from lightkeras.data import DataModule, stages
from lightkeras.data.named_sets import metric_prefix
from lightkeras.utils.checks import require
from lightkeras.utils.durations import is_duration
from lightkeras.utils.messages import logger
from lightkeras.utils.seeds import seeded

if TYPE_CHECKING:
    from lightkeras.task import TaskModule
    from lightkeras.trainer import Trainer


def default_callbacks(
    trainer: "Trainer", task: "TaskModule", validation: Validation | None
) -> list[keras.callbacks.Callback]:
    """Makes the callbacks that the Trainer's arguments ask for."""
    used: list[keras.callbacks.Callback] = [validation] if validation else []
    used += [NonFiniteGuard(), LearningRateMonitor(), Throughput(), Interrupt(), keras.callbacks.History()]
    used += [Limit(trainer.max_steps, trainer.max_seconds)]
    used += [Compilation()] if trainer.jit_compile == "auto" and not trainer.deterministic else []
    used += [_profiler(trainer.profiler, task.total_steps)] if trainer.profiler else []
    used += [ModelSummary()] if trainer.enable_model_summary else []
    used += [Watchdog(trainer.hang_timeout)]
    loggers = make_loggers(trainer.logger)
    used += loggers
    if any(isinstance(one, CSVLogger) for one in loggers):
        used += [Goodput(trainer.began_at), Timeline(), ReportWriter()]
    bars = any(isinstance(callback, keras.callbacks.ProgbarLogger | ProgressBar) for callback in trainer.callbacks)
    used += [make_progress()] if trainer.enable_progress_bar and not bars else []
    used += [SampleWriter()] if task.writes_samples and (trainer.logger or trainer.enable_checkpointing) else []
    used += [_checkpoint(trainer, task, validation)] if trainer.enable_checkpointing else []
    used += [ExportAtEnd(trainer.export)] if trainer.export else []
    return used


def make_progress() -> ProgressBar:
    """Makes the display for where the code runs: a notebook's cell, or a terminal."""
    return NotebookProgress() if in_notebook() else ProgressBar()


def _profiler(updates: str, total: int | None) -> Profiler:
    profiler = Profiler(updates)
    expected = f"within the {total:,} updates of the run" if total else ""
    require(total is None or profiler.range.last <= total, "profiler", expected, updates)
    return profiler


def _checkpoint(trainer: "Trainer", task: "TaskModule", validation: Validation | None) -> ModelCheckpoint:
    """Ranks checkpoints by the task's monitor, if validation has that metric; with named sets by the first set's."""
    monitor, mode = task.monitor
    names = validation.result_names(task.evaluation_names) if validation else []
    if validation and monitor not in names:
        first = metric_prefix("val", validation.set_names[0]) + monitor.removeprefix("val_")
        monitor = first if first in names else monitor
    ranks = monitor in names
    intervals = {"every_n_steps": trainer.checkpoint_every_n_steps, "every_seconds": trainer.checkpoint_every_seconds}
    given = {name: value for name, value in intervals.items() if value is not None}
    return ModelCheckpoint(monitor if ranks else None, mode if ranks else "min", save_top_k=int(ranks), **given)


def make_validation(trainer: "Trainer", task: "TaskModule", data: DataModule) -> Validation | None:
    """Makes the validation of a run; None without validation data."""
    if not trainer.limit_val_batches or (trainer.overfit_batches and not task.evaluates):
        return None
    if not task.evaluates:
        with seeded(trainer.seed):
            left_out = data.val_dataset() is not None
        if left_out:
            logger.info("Validation is left out: %s has no `test_step(batch)`.", type(task).__name__)
        return None
    with seeded(trainer.seed):
        found = stages.validation(data, trainer.limit_val_batches, trainer.overfit_batches)
    if not found:
        return None
    for dataset, _ in found.values():
        task.prepare_evaluation(dataset)
    interval = _validation_interval(trainer.val_check_interval, task.steps_per_epoch)
    validation = Validation(found, interval, trainer.check_val_every_n_epoch, trainer.val_check_seconds)
    names = Counter([*task.train_sums.kinds, *validation.result_names(task.evaluation_names)])
    twice = [name for name, count in names.items() if count > 1]
    require(not twice, "val_dataset", "data sets by names that make each metric's name once", twice)
    return validation


def _validation_interval(every: Any, steps: int) -> int | None:
    """Converts `val_check_interval` to updates within an epoch of `steps`; None for its end only, or for a time."""
    if is_duration(every):
        return None
    if isinstance(every, float):
        return None if every == 1 else stages.batch_count(every, steps)
    require(every <= steps, "val_check_interval", f"at most {steps}, the updates of an epoch", every)
    return every
