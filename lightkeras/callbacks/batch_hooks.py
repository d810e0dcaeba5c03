"""Which callbacks listen to batches, and which need every update to be a call of its own."""

from typing import Any

import keras

BATCH_HOOKS = {
    "on_train_batch_begin": ("on_train_batch_begin", "on_batch_begin"),
    "on_train_batch_end": ("on_train_batch_end", "on_batch_end"),
    "on_test_batch_begin": ("on_test_batch_begin",),
    "on_test_batch_end": ("on_test_batch_end",),
    "on_predict_batch_begin": ("on_predict_batch_begin",),
    "on_predict_batch_end": ("on_predict_batch_end",),
}


def _overridden(callback: keras.callbacks.Callback, hook: str) -> list[str]:
    """Names the methods by which `callback` listens; functions given to it count (`LambdaCallback`, tqdm)."""
    base = keras.callbacks.Callback
    return [
        name
        for name in BATCH_HOOKS[hook]
        if getattr(getattr(callback, name), "__func__", None) is not getattr(base, name)
    ]


def _says_so(callback: keras.callbacks.Callback, hook: str) -> bool:
    """Asks the callback by the method that Keras 2 asked (tqdm sets its functions while it runs)."""
    asked = getattr(callback, f"_implements_{hook.split('_')[1]}_batch_hooks", None)
    return asked is not None and asked()


def listens(callback: keras.callbacks.Callback, hook: str) -> bool:
    """Returns whether `callback` does anything in the batch hook `hook`."""
    return bool(_overridden(callback, hook)) or _says_so(callback, hook)


def needs_every_batch(callback: keras.callbacks.Callback) -> bool:
    """Returns whether the callback listens to batches without declaring `accepts_many_steps`.

    The declaration must stand in the class that overrides the hook: a subclass that overrides it again, without
    knowing of such calls, is called for every update.
    """
    hooks = [hook for hook in BATCH_HOOKS if "predict" not in hook]
    return any(
        _says_so(callback, hook) or not all(_accepts_many_steps(callback, name) for name in _overridden(callback, hook))
        for hook in hooks
    )


def _accepts_many_steps(callback: Any, name: str) -> bool:
    if name in vars(callback):
        return False  # a function given to the instance
    owner = next(kind for kind in type(callback).__mro__ if name in vars(kind))
    return vars(owner).get("accepts_many_steps", False)
