"""Why a callback ended training."""

import keras

from lightkeras.utils.formats import format_value


def reason_of(callback: keras.callbacks.Callback) -> str:
    """Says why `callback` ended training: by its own `stop_reason()`, as far as it can be told of others."""
    name = type(callback).__name__
    if hasattr(callback, "stop_reason"):
        return callback.stop_reason()
    if isinstance(callback, keras.callbacks.EarlyStopping):
        best, at = callback.best, callback.best_epoch + 1
        return describe_patience(name, callback.monitor, callback.wait, best, at, "epochs")
    if isinstance(callback, keras.callbacks.TerminateOnNaN):
        return f"{name}: the loss is not finite"
    return f"Ended by {name}"


def describe_patience(name: str, monitor: str, count: int, best: float | None, epoch: int | None, unit: str) -> str:
    """Returns `EarlyStopping: no better val_loss for 3 epochs, best 1.487 at epoch 8`."""
    if best is None:
        return f"{name}: {monitor} was never a number in {count} {unit}"
    unit = unit if count != 1 else unit.removesuffix("s")
    return f"{name}: no better {monitor} for {count} {unit}, best {format_value(float(best))} at epoch {epoch}"
