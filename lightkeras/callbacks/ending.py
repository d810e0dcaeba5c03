"""Why a run ended, the best value of it, and what to do next."""

import signal
from typing import TYPE_CHECKING

from lightkeras.callbacks.progress import ProgressBar
from lightkeras.distribution.replicas import is_chief
from lightkeras.report.page import REPORT
from lightkeras.utils import entry_points
from lightkeras.utils.formats import clock, format_value
from lightkeras.utils.messages import logger as messages

if TYPE_CHECKING:
    from lightkeras.runs.run import Run
    from lightkeras.task import TaskModule
    from lightkeras.trainer import Trainer


def announce_end(trainer: "Trainer", task: "TaskModule", run: "Run", seconds: float, max_epochs: int) -> None:
    """Says why a run ended; where its progress is shown, also what is best in it and what to do next.

    Args:
        trainer: The trainer.
        task: The task.
        run: The run.
        seconds: The time that it took, of this process alone.
        max_epochs: The epochs that it may have at most.
    """
    if run.interrupted:
        name = signal.Signals(run.interrupted).name
        saved = trainer.run_dir and trainer.enable_checkpointing  # of several workers, the first has saved
        how = f" Resume it with ckpt_path={str(trainer.run_dir)!r}." if saved else ""
        messages.info("Interrupted by %s after update %d.%s", name, task.global_step, how)
        return
    bars = [callback for callback in run.callbacks.callbacks if isinstance(callback, ProgressBar)]
    if not is_chief(task.distribute_strategy) or not (bars or run.stopped_by):
        return
    reason = run.reason or _name_plan(trainer, task, max_epochs)
    if bars and bars[0].best is not None and "best " not in reason:
        reason += f"; best {bars[0].best_name} {format_value(bars[0].best)} at epoch {bars[0].best_epoch}"
    updates = f"{task.global_step:,} update" + "s" * (task.global_step != 1)
    messages.info("%s (%s, %s)", reason, updates, clock(seconds))
    if bars and trainer.run_dir and trainer.enable_checkpointing:
        messages.info("Next: %s", next_command(task, str(trainer.run_dir)))
    if bars and trainer.run_dir and (report := trainer.run_dir / REPORT).exists():
        messages.info("Report: %s", report)


def _name_plan(trainer: "Trainer", task: "TaskModule", max_epochs: int) -> str:
    """Names the argument that ended a run which no callback stopped."""
    if task.global_step < (task.total_steps or 0):
        return "Ended by stop_training, set outside of the callbacks"
    return f"Ended by max_epochs={max_epochs}" + ("" if trainer.max_epochs else ", the default")


def next_command(task: "TaskModule", run_dir: str) -> str:
    """Returns the command that uses a trained task; for what no command can name, the call in Python."""
    name = command_name(task.described_class) if task.described_class is type(task) else None
    if name is None:
        return f"trainer.predict(model, data, ckpt_path={run_dir!r})"
    use = "predict" if hasattr(task, "predict_command") else "test"
    return f"lightkeras {use} {name} --ckpt_path {run_dir}"


def command_name(task_class: type) -> str | None:
    """Returns how a command names a task: registered, or package.module.Class; None where no command finds it."""
    path = f"{task_class.__module__}.{task_class.__qualname__}"
    for name, known in entry_points.registered("lightkeras.tasks").items():
        package, _, attribute = known.rpartition(".")
        if attribute == task_class.__name__ and f"{path}.".startswith(f"{package}."):
            return name
    return None if path.startswith("__main__.") or "<locals>" in path else path
