"""What the Trainer is given: which values and combinations can work."""

import os
from typing import Any

import keras

from lightkeras.callbacks.limit import to_seconds
from lightkeras.callbacks.model_checkpoint import ModelCheckpoint
from lightkeras.data.module import DataModule
from lightkeras.distribution.strategies import check_devices
from lightkeras.runs.state import CHANGEABLE
from lightkeras.task import TaskModule
from lightkeras.training.compiled_update import CLIPS
from lightkeras.utils.checks import require, require_choice, require_int, require_number
from lightkeras.utils.paths import as_path

PRECISIONS = {
    "32": "float32", "32-true": "float32", "float32": "float32",
    "bf16-mixed": "mixed_bfloat16", "mixed_bfloat16": "mixed_bfloat16",
    "16-mixed": "mixed_float16", "mixed_float16": "mixed_float16",
}  # fmt: skip
SWITCHES = (
    "deterministic", "run_eagerly", "logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary",
    "log_gradient_norm",
)  # fmt: skip


def check_arguments(given: Any) -> None:
    """Refuses what cannot work in the arguments of a Trainer.

    Args:
        given: Has them as attributes.

    Raises:
        ValueError: A value that is out of its range, or two that contradict each other.
        TypeError: A callback that is not a Keras callback.
    """
    _check_length(given)
    check_devices(given.devices, given.strategy)
    _check_update(given)
    _check_amounts(given)
    _check_callbacks(given)
    for name in SWITCHES:
        require(isinstance(getattr(given, name), bool), name, "True or False", getattr(given, name))
    require_int("seed", given.seed, minimum=0, optional=True)
    root = given.default_root_dir
    require(isinstance(root, str | os.PathLike), "default_root_dir", "a path", root)
    as_path(root, "default_root_dir")


def _check_length(given: Any) -> None:
    require_int("max_epochs", given.max_epochs, optional=True)
    require_int("max_steps", given.max_steps, optional=True)
    to_seconds(given.max_time)
    fast = given.fast_dev_run
    require(isinstance(fast, int) and fast >= 0, "fast_dev_run", "True, False or a number of batches", fast)


def _check_update(given: Any) -> None:
    require_choice("precision", given.precision, PRECISIONS)
    require_int("micro_batches", given.micro_batches)
    require_number("gradient_clip_val", given.gradient_clip_val, optional=True)
    require_choice("gradient_clip_algorithm", given.gradient_clip_algorithm, CLIPS)
    require(
        given.gradient_clip_val is not None or given.gradient_clip_algorithm == "norm", "gradient_clip_val",
        f'a number with gradient_clip_algorithm="{given.gradient_clip_algorithm}"', given.gradient_clip_val,
    )  # fmt: skip
    require(given.jit_compile in (True, False, "auto"), "jit_compile", 'True, False or "auto"', given.jit_compile)
    xla_and_eager = given.run_eagerly and given.jit_compile is True
    require(not xla_and_eager, "run_eagerly", "False with jit_compile=True", given.run_eagerly)
    if given.steps_per_execution != "auto":
        require_int("steps_per_execution", given.steps_per_execution)


def _check_amounts(given: Any) -> None:
    for name in ("limit_train_batches", "limit_test_batches", "val_check_interval"):
        _check_share(name, getattr(given, name), zero=False)
    for name in ("limit_val_batches", "overfit_batches"):
        _check_share(name, getattr(given, name), zero=True)
    if given.overfit_batches:
        _check_unlimited("limit_train_batches", given.limit_train_batches)
        if given.limit_val_batches:
            _check_unlimited("limit_val_batches", given.limit_val_batches)
    require_int("num_sanity_val_steps", given.num_sanity_val_steps, minimum=0)
    require_int("log_every_n_steps", given.log_every_n_steps)


def _check_share(name: str, value: Any, zero: bool) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    ok = number and (value > 0 or (zero and value == 0)) and (isinstance(value, int) or value <= 1)
    least = "0 for none" if zero else "not 0"
    require(ok, name, f"a number of batches (int) or a share of them (float up to 1.0), {least}", value)


def _check_unlimited(name: str, value: Any) -> None:
    ok = isinstance(value, float) and value == 1.0
    require(ok, name, "1.0 with overfit_batches, which decides how many there are", value)


def _check_checkpoints(given: Any, saves: bool) -> None:
    """`saves`: whether a ModelCheckpoint is among the callbacks."""
    require_int("checkpoint_every_n_steps", given.checkpoint_every_n_steps, optional=True)
    require_number("checkpoint_every_seconds", given.checkpoint_every_seconds, optional=True)
    for name in ("checkpoint_every_n_steps", "checkpoint_every_seconds"):
        value = getattr(given, name)
        require(value is None or given.enable_checkpointing, name, "None with enable_checkpointing=False", value)
        expected = "None beside a ModelCheckpoint of yours, which has its own interval"
        require(value is None or not saves, name, expected, value)


def _check_callbacks(given: Any) -> None:
    expected = "a list of keras.callbacks.Callback objects"
    require(isinstance(given.callbacks, list | tuple | None), "callbacks", expected, given.callbacks, TypeError)
    for callback in given.callbacks or ():
        require(isinstance(callback, keras.callbacks.Callback), "callbacks", expected, callback, TypeError)
        saves = isinstance(callback, ModelCheckpoint) and not given.enable_checkpointing
        require(not saves, "callbacks", "without a ModelCheckpoint with enable_checkpointing=False", callback)
        backs_up = isinstance(callback, keras.callbacks.BackupAndRestore)
        instead = 'without BackupAndRestore, which would undo a resume: see ckpt_path="auto"'
        require(not backs_up, "callbacks", instead, callback)
        swaps = isinstance(callback, keras.callbacks.SwapEMAWeights)
        require(not swaps, "callbacks", "without SwapEMAWeights: validation takes the averages by itself", callback)
    _check_checkpoints(given, any(isinstance(callback, ModelCheckpoint) for callback in given.callbacks or ()))


def check_pair(task: Any, data: Any) -> None:
    """Refuses what is no task and its data."""
    require(isinstance(task, TaskModule), "task", "a TaskModule", task, TypeError)
    require(isinstance(data, DataModule), "data", "a DataModule", data, TypeError)


def check_changes(allowed: Any) -> None:
    """Refuses `allow_changes` that name nothing that could differ."""
    expected = f'a list of names such as "data.init_args.source", each of {", ".join(CHANGEABLE)}'
    require(isinstance(allowed, list | tuple), "allow_changes", expected, allowed, TypeError)
    for name in allowed:
        known = isinstance(name, str) and name.split(".")[0] in CHANGEABLE
        require(known, "allow_changes", expected, name)
