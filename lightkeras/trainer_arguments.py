"""Checks of the Trainer's arguments: values and combinations."""

import datetime
import math
import os
import random
from typing import Any

import keras
import numpy as np

from lightkeras.callbacks.loggers import check_trackers, make_loggers
from lightkeras.callbacks.model_checkpoint import ModelCheckpoint
from lightkeras.distribution.accelerator import check_accelerator, prepare_devices
from lightkeras.distribution.cluster import read_cluster
from lightkeras.distribution.strategies import check_devices
from lightkeras.export.exporting import require_format
from lightkeras.keras_models.task import KerasTask
from lightkeras.profiling.update_range import parse_updates
from lightkeras.runs.state import CHANGEABLE
from lightkeras.task import TaskModule
from lightkeras.training.optimizers import CLIP_ALGORITHMS
from lightkeras.training.precision import ALIASES, PRECISIONS
from lightkeras.utils.checks import require, require_choice, require_int, require_number
from lightkeras.utils.durations import ClockTime, is_duration, to_seconds
from lightkeras.utils.hparams import HyperparametersMixin
from lightkeras.utils.lightning import TRAINER_ARGUMENTS
from lightkeras.utils.paths import RemotePath, as_path

SWITCHES = (
    "deterministic", "run_eagerly", "enable_checkpointing", "enable_progress_bar", "enable_model_summary",
    "log_gradient_norm",
)  # fmt: skip


class TrainerArguments(HyperparametersMixin):
    """The arguments of a `Trainer`, checked; see there."""

    replaced_arguments = TRAINER_ARGUMENTS

    def __init__(
        self, *,
        max_epochs: int | None = None, max_steps: int | None = None,
        max_time: str | dict | datetime.timedelta | None = None,
        accelerator: str = "auto", devices: int | list[int] | str = "auto", strategy: Any = "auto",
        precision: str | int = "32",
        micro_batches: int = 1, gradient_clip_val: float | None = None, gradient_clip_algorithm: str = "norm",
        seed: int | None = 0, deterministic: bool = False, run_eagerly: bool = False, jit_compile: bool | str = "auto",
        steps_per_execution: int | str = "auto", callbacks: list[keras.callbacks.Callback] | None = None,
        logger: bool | list[str] | str = True,
        enable_checkpointing: bool = True, checkpoint_every_n_steps: int | None = None,
        checkpoint_every_seconds: float | None = None, default_root_dir: str = "runs", enable_progress_bar: bool = True,
        enable_model_summary: bool = True, fast_dev_run: bool | int = False, overfit_batches: int | float = 0,
        limit_train_batches: int | float = 1.0, limit_val_batches: int | float = 1.0,
        limit_test_batches: int | float = 1.0, limit_predict_batches: int | float = 1.0,
        val_check_interval: ClockTime | int | float | str | dict | datetime.timedelta = 1.0,
        check_val_every_n_epoch: int = 1, num_sanity_val_steps: int = 2,
        log_every_n_steps: int = 50, log_gradient_norm: bool = False, profiler: str | None = None,
        hang_timeout: float | None = None, export: str | None = None,
    ):  # fmt: skip
        self.max_epochs, self.max_steps, self.max_time = max_epochs, max_steps, max_time
        self.accelerator, self.devices, self.strategy = accelerator, devices, strategy
        self.precision: Any = ALIASES.get(precision, precision) if isinstance(precision, str | int) else precision
        self.micro_batches, self.log_gradient_norm = micro_batches, log_gradient_norm
        self.gradient_clip_val, self.gradient_clip_algorithm = gradient_clip_val, gradient_clip_algorithm
        self.deterministic, self.run_eagerly = deterministic, run_eagerly
        self.jit_compile, self.steps_per_execution = jit_compile, steps_per_execution
        self.logger, self.enable_checkpointing = logger, enable_checkpointing
        self.checkpoint_every_n_steps, self.checkpoint_every_seconds = (
            checkpoint_every_n_steps,
            checkpoint_every_seconds,
        )
        self.default_root_dir, self.enable_progress_bar = default_root_dir, enable_progress_bar
        self.enable_model_summary, self.fast_dev_run = enable_model_summary, fast_dev_run
        self.overfit_batches, self.limit_train_batches = overfit_batches, limit_train_batches
        self.limit_val_batches, self.limit_test_batches = limit_val_batches, limit_test_batches
        self.limit_predict_batches, self.val_check_interval = limit_predict_batches, val_check_interval
        self.check_val_every_n_epoch, self.num_sanity_val_steps = check_val_every_n_epoch, num_sanity_val_steps
        self.log_every_n_steps, self.profiler, self.export = log_every_n_steps, profiler, export
        self.hang_timeout = hang_timeout
        vars(self).update(seed=seed, callbacks=callbacks)
        for name, value in vars(self).items():
            if isinstance(value, np.generic):
                setattr(self, name, value.item())
        _check(self)
        self.callbacks: list[keras.callbacks.Callback] = list(callbacks or [])
        prepare_devices(self.accelerator, self.devices)
        self.max_seconds = to_seconds(max_time)
        every = self.val_check_interval
        self.val_check_seconds = (
            to_seconds(every, "val_check_interval", without_days=True) if is_duration(every) else None
        )
        self.seed: int = random.SystemRandom().randrange(2**31) if seed is None else seed
        if strategy == "multi_worker":
            read_cluster()  # the workers meet in `fit`
        if fast_dev_run:
            self._limit_to(int(fast_dev_run))

    def _limit_to(self, batches: int) -> None:
        """Applies `fast_dev_run`."""
        self.max_epochs, self.max_steps = 1, batches
        self.limit_train_batches = self.limit_test_batches = self.limit_predict_batches = batches
        self.limit_val_batches = self.limit_val_batches and batches
        self.overfit_batches = self.overfit_batches and batches
        self.val_check_interval, self.check_val_every_n_epoch, self.num_sanity_val_steps = 1.0, 1, 0
        self.logger = self.enable_checkpointing = False
        self.callbacks = [c for c in self.callbacks if not getattr(c, "writes_files", False)]


def _check(given: TrainerArguments) -> None:
    _check_length(given)
    check_accelerator(given.accelerator, given.strategy)
    check_devices(given.devices, given.strategy)
    _check_update(given)
    _check_amounts(given)
    _check_callbacks(given)
    make_loggers(given.logger)
    _check_profiler(given)
    require_number("hang_timeout", given.hang_timeout, optional=True)
    for name in SWITCHES:
        require(isinstance(getattr(given, name), bool), name, "True or False", getattr(given, name))
    require_int("seed", given.seed, minimum=0, optional=True)
    require((given.seed or 0) < 2**32, "seed", "an int below 2**32, as NumPy takes it", given.seed)
    root = given.default_root_dir
    require(isinstance(root, str | os.PathLike), "default_root_dir", "a path", root)
    as_path(root, "default_root_dir")
    _check_export(given)


def _check_export(given: TrainerArguments) -> None:
    if given.export is None:
        return
    require_format("export", given.export)
    saves = given.enable_checkpointing or bool(given.fast_dev_run)
    require(saves, "enable_checkpointing", "True with `export`, which exports a checkpoint", given.enable_checkpointing)
    root = given.default_root_dir
    require(not isinstance(as_path(root), RemotePath), "default_root_dir", "a local folder with `export`", root)


def _check_length(given: TrainerArguments) -> None:
    for name in ("max_epochs", "max_steps"):
        endless = getattr(given, name) == -1
        require(not endless, name, "a positive int, or None where another limit ends the run", getattr(given, name))
        require_int(name, getattr(given, name), optional=True)
    to_seconds(given.max_time)
    fast = given.fast_dev_run
    require(isinstance(fast, int) and fast >= 0, "fast_dev_run", "True, False or a number of batches", fast)


def _check_update(given: TrainerArguments) -> None:
    require_choice("precision", given.precision, PRECISIONS)
    require_int("micro_batches", given.micro_batches)
    require_number("gradient_clip_val", given.gradient_clip_val, optional=True)
    require(
        given.gradient_clip_val != math.inf, "gradient_clip_val", "a finite number or None", given.gradient_clip_val
    )
    require_choice("gradient_clip_algorithm", given.gradient_clip_algorithm, CLIP_ALGORITHMS)
    require(
        given.gradient_clip_val is not None or given.gradient_clip_algorithm == "norm", "gradient_clip_val",
        f'a number with gradient_clip_algorithm="{given.gradient_clip_algorithm}"', given.gradient_clip_val,
    )  # fmt: skip
    known = isinstance(given.jit_compile, bool) or given.jit_compile == "auto"
    require(known, "jit_compile", 'True, False or "auto"', given.jit_compile)
    xla_and_eager = given.run_eagerly and given.jit_compile is True
    require(not xla_and_eager, "run_eagerly", "False with jit_compile=True", given.run_eagerly)
    if given.steps_per_execution != "auto":
        require_int("steps_per_execution", given.steps_per_execution)


def _check_amounts(given: TrainerArguments) -> None:
    for name in ("limit_train_batches", "limit_test_batches", "limit_predict_batches"):
        _require_amount(name, getattr(given, name), zero=False)
    if is_duration(given.val_check_interval):
        to_seconds(given.val_check_interval, "val_check_interval", without_days=True)
    else:
        _require_amount("val_check_interval", given.val_check_interval, zero=False)
    for name in ("limit_val_batches", "overfit_batches"):
        _require_amount(name, getattr(given, name), zero=True)
    if given.overfit_batches:
        _require_unlimited("limit_train_batches", given.limit_train_batches)
        if given.limit_val_batches:
            _require_unlimited("limit_val_batches", given.limit_val_batches)
    require_int("num_sanity_val_steps", given.num_sanity_val_steps, minimum=0)
    require_int("log_every_n_steps", given.log_every_n_steps)
    require_int("check_val_every_n_epoch", given.check_val_every_n_epoch)


def _require_amount(name: str, value: Any, zero: bool) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    ok = number and (value > 0 or (zero and value == 0)) and (isinstance(value, int) or value <= 1)
    least = "0 for none" if zero else "not 0"
    require(ok, name, f"a number of batches (int) or a share of them (float up to 1.0), {least}", value)


def _require_unlimited(name: str, value: Any) -> None:
    ok = isinstance(value, float) and value == 1.0
    require(ok, name, "1.0 with overfit_batches, which sets their number", value)


def _check_checkpoints(given: TrainerArguments, saves: bool) -> None:
    """Checks the intervals of checkpoints; `saves`: whether a ModelCheckpoint is among the callbacks."""
    require_int("checkpoint_every_n_steps", given.checkpoint_every_n_steps, optional=True)
    require_number("checkpoint_every_seconds", given.checkpoint_every_seconds, optional=True)
    for name in ("checkpoint_every_n_steps", "checkpoint_every_seconds"):
        value = getattr(given, name)
        require(value is None or given.enable_checkpointing, name, "None with enable_checkpointing=False", value)
        expected = "None beside your own ModelCheckpoint, which has an interval"
        require(value is None or not saves, name, expected, value)


def _check_profiler(given: TrainerArguments) -> None:
    if given.profiler is None:
        return
    asked = parse_updates(given.profiler)
    require(not given.fast_dev_run, "profiler", "None with fast_dev_run, which writes nothing", given.profiler)
    enough = given.max_steps is None or asked.last <= given.max_steps
    require(enough, "profiler", f"within the {given.max_steps} updates of max_steps", given.profiler)


INSTEAD = {  # of Keras' callbacks that would disturb a run
    keras.callbacks.BackupAndRestore: 'without BackupAndRestore, which would undo a resume: use ckpt_path="auto"',
    keras.callbacks.CallbackList: "without CallbackList: pass its callbacks one by one",
}


def _check_callbacks(given: TrainerArguments) -> None:
    expected = "a list of keras.callbacks.Callback objects"
    require(isinstance(given.callbacks, list | tuple | None), "callbacks", expected, given.callbacks, TypeError)
    callbacks = given.callbacks or ()
    for index, callback in enumerate(callbacks):
        made = expected if not isinstance(callback, type) else f"{expected}: call {callback.__name__}(...)"
        made += "" if isinstance(callback, type) else _explain_foreign(callback)
        require(isinstance(callback, keras.callbacks.Callback), "callbacks", made, callback, TypeError)
        twice = any(callback is one for one in callbacks[:index])
        require(not twice, "callbacks", "a list with each object once", callback)
        saves = isinstance(callback, ModelCheckpoint) and not given.enable_checkpointing
        require(not saves, "callbacks", "without a ModelCheckpoint with enable_checkpointing=False", callback)
        for kind, instead in INSTEAD.items():
            require(not isinstance(callback, kind), "callbacks", instead, callback)
    check_trackers(callbacks)
    _check_checkpoints(given, any(isinstance(callback, ModelCheckpoint) for callback in callbacks))


def _explain_foreign(callback: Any) -> str:
    """Says what to do with the callback of another library."""
    package = type(callback).__module__.split(".")[0]
    known = ("lightning", "pytorch_lightning", "transformers", "torch", "fastai")
    return f", not of {package}: lightkeras and keras have counterparts" if package in known else ""


def require_task(task: Any) -> None:
    """Raises TypeError unless given a TaskModule, or what takes the place of one for a compiled model."""
    expected = "a TaskModule, or a compiled keras.Model"
    require(isinstance(task, TaskModule | KerasTask), "task", expected, task, TypeError)


def require_changeable(allowed: Any) -> None:
    """Rejects `allow_changes` that name no value that may differ."""
    expected = f'a list of names such as "data.init_args.source", each of {", ".join(CHANGEABLE)}'
    require(isinstance(allowed, list | tuple), "allow_changes", expected, allowed, TypeError)
    for name in allowed:
        known = isinstance(name, str) and name.split(".")[0] in CHANGEABLE
        require(known, "allow_changes", expected, name)
