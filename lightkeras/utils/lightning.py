"""Names of PyTorch Lightning that have another name here. Using one by mistake raises an error that says which."""

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from lightkeras.utils.checks import lightkeras_error

Class = TypeVar("Class", bound=type)

TASK_ATTRIBUTES = {
    "log_dict": "call self.log(name, value) for each, or return a dict of them from the loss function",
    "save_hyperparameters": "the constructor's arguments are recorded already: read self.hparams",
    "trainer": "read self.global_step and self.total_steps; a callback has self.run",
    "current_epoch": "divide self.global_step by self.steps_per_epoch; a callback has self.run.epoch",
    "manual_backward": "call self.minimize(loss_function, batch) once per optimizer",
    "toggle_optimizer": "call self.minimize(loss_function, batch) with the loss of one optimizer only",
    "lr_schedulers": "give the optimizer a keras.optimizers.schedules schedule",
    "automatic_optimization": "call self.minimize(loss_function, batch) as often as you like",
    "example_input_array": "the task is built from the data's element spec",
}
TASK_METHODS = {
    "training_step": "override train_step(batch): return self.minimize(loss_function, batch)",
    "validation_step": "override test_step(batch), which evaluates validation and test data",
    "configure_optimizer": "override configure_optimizers()",
    "train_dataloader": "override train_dataset() of a DataModule",
    "val_dataloader": "override val_dataset() of a DataModule",
    "test_dataloader": "override test_dataset() of a DataModule",
    "predict_dataloader": "override predict_dataset() of a DataModule",
    "on_fit_start": "override on_train_begin of a callback, and return it from configure_callbacks()",
    "on_fit_end": "override on_train_end of a callback, and return it from configure_callbacks()",
    "on_train_start": "override on_train_begin of a callback, and return it from configure_callbacks()",
    "on_train_epoch_start": "override on_epoch_begin of a callback, and return it from configure_callbacks()",
    "on_train_epoch_end": "override on_epoch_end of a callback, and return it from configure_callbacks()",
    "on_train_batch_start": "override on_train_batch_begin of a callback, and return it from configure_callbacks()",
    "on_validation_epoch_end": "override on_validation_end of a callback, or score(batches)",
    "on_before_optimizer_step": "use Trainer(gradient_clip_val=..., log_gradient_norm=True)",
    "on_save_checkpoint": "use a weight (self.add_weight): all of them are saved; a callback has state_dict()",
    "on_load_checkpoint": "use a weight (self.add_weight): all of them are restored; a callback has load_state_dict()",
    "lr_scheduler_step": "give the optimizer a keras.optimizers.schedules schedule",
    "optimizer_step": "override train_step(batch)",
}
DATA_METHODS = {
    "train_dataloader": "override train_dataset()",
    "val_dataloader": "override val_dataset()",
    "test_dataloader": "override test_dataset()",
    "predict_dataloader": "override predict_dataset()",
    "teardown": "release resources in a callback's on_train_end",
    "transfer_batch_to_device": "tf.data does it",
}
CALLBACK_METHODS = {
    "on_train_start": "override on_train_begin(logs)",
    "on_train_epoch_start": "override on_epoch_begin(epoch, logs)",
    "on_train_epoch_end": "override on_epoch_end(epoch, logs)",
    "on_train_batch_start": "override on_train_batch_begin(batch, logs)",
    "on_validation_start": "override on_test_begin(logs)",
    "on_validation_epoch_end": "override on_validation_end(record)",
    "on_save_checkpoint": "override state_dict()",
    "on_load_checkpoint": "override load_state_dict(state)",
}
TRAINER_ARGUMENTS = {
    "accumulate_grad_batches": "use micro_batches: batch_size is the global batch, and micro_batches splits it",
    "gpus": "use devices",
    "num_nodes": 'use strategy="multi_worker"',
    "num_processes": 'use strategy="multi_worker"',
    "resume_from_checkpoint": "use fit(ckpt_path=...)",
    "weights_save_path": "use default_root_dir",
    "checkpoint_callback": "use enable_checkpointing",
    "progress_bar_refresh_rate": "use callbacks=[lk.callbacks.ProgressBar(refresh=...)]",
    "weights_summary": "use enable_model_summary",
    "track_grad_norm": "use log_gradient_norm",
    "auto_lr_find": "use lk.find_lr",
    "auto_scale_batch_size": "use lk.find_batch_size",
    "sync_batchnorm": "use keras.layers.BatchNormalization(synchronized=True)",
    "detect_anomaly": "a loss that is not finite ends every run (lk.callbacks.NonFiniteGuard)",
    "terminate_on_nan": "a loss that is not finite ends every run (lk.callbacks.NonFiniteGuard)",
    "use_distributed_sampler": "every replica and worker gets its rows of the global batch",
    "reload_dataloaders_every_n_epochs": "a DataModule's load functions get the epoch",
    "inference_mode": "evaluation computes no gradients",
    "barebones": "use logger=False, enable_checkpointing=False, enable_progress_bar=False",
}
TRAINER_ATTRIBUTES = {
    "logged_metrics": "read callback_metrics",
    "progress_bar_metrics": "read callback_metrics",
    "log_dir": "read run_dir",
    "current_epoch": "divide task.global_step by task.steps_per_epoch",
    "global_step": "read task.global_step",
    "checkpoint_callback": "pass your lk.ModelCheckpoint in callbacks",
    "model": "keep the task that you passed to fit",
    "save_checkpoint": "call run.save_checkpoint() in a callback",
    "tune": "use lk.Tuner, lk.find_lr or lk.find_batch_size",
    "should_stop": "set task.stop_training in a callback",
}


class Replaced:
    """An attribute of Lightning's that raises an AttributeError with the name that replaces it."""

    def __init__(self, name: str, instead: str):
        self._message = f"lightkeras has no `{name}`: {instead}"

    def __get__(self, instance: Any, owner: type | None = None) -> NoReturn:
        raise AttributeError(self._message)


def replace_attributes(names: dict[str, str]) -> Callable[[Class], Class]:
    """Decorates a class: looking up one of `names` raises an AttributeError; a subclass may define them."""

    def decorate(cls: Class) -> Class:
        for name, instead in names.items():
            setattr(cls, name, Replaced(name, instead))
        return cls

    return decorate


def reject_methods(cls: type, names: dict[str, str]) -> None:
    """Raises a TypeError where a class defines a method of Lightning's that nothing here would call."""
    for name in vars(cls):
        if name in names:
            raise lightkeras_error(TypeError)(f"lightkeras never calls `{cls.__name__}.{name}`: {names[name]}")


def reject_arguments(kwargs: dict[str, Any], known: Any, names: dict[str, str]) -> None:
    """Raises a TypeError for an argument of Lightning's that is not `known` here."""
    for name in kwargs:
        if name not in known and name in names:
            raise lightkeras_error(TypeError)(f"lightkeras has no argument `{name}`: {names[name]}")
