"""Which callbacks listen to batches."""

import keras

_BATCH_HOOKS = {
    "on_train_batch_begin": ("on_train_batch_begin", "on_batch_begin"),
    "on_train_batch_end": ("on_train_batch_end", "on_batch_end"),
    "on_test_batch_begin": ("on_test_batch_begin",),
    "on_test_batch_end": ("on_test_batch_end",),
    "on_predict_batch_begin": ("on_predict_batch_begin",),
    "on_predict_batch_end": ("on_predict_batch_end",),
}


def _own(callback: keras.callbacks.Callback, hook: str) -> list:
    """What `callback` does in the batch hook `hook`: methods, and functions given to it (`LambdaCallback`, tqdm)."""
    methods = {name: getattr(callback, name) for name in _BATCH_HOOKS[hook]}
    base = keras.callbacks.Callback
    return [method for name, method in methods.items() if getattr(method, "__func__", None) is not getattr(base, name)]


def _says_so(callback: keras.callbacks.Callback, hook: str) -> bool:
    """Whether it says that it listens, by the method that Keras 2 asked (tqdm sets its functions as it goes)."""
    asked = getattr(callback, f"_implements_{hook.split('_')[1]}_batch_hooks", None)
    return asked is not None and asked()


def listens(callback: keras.callbacks.Callback, hook: str) -> bool:
    """Whether `callback` does anything in the batch hook `hook`."""
    return bool(_own(callback, hook)) or _says_so(callback, hook)


def needs_every_batch(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback that is not lightkeras' listens to batches; ours know of calls that make many steps."""

    def foreign(hook: str) -> bool:
        own = [getattr(method, "__module__", None) or "" for method in _own(callback, hook)]
        return _says_so(callback, hook) or not all(module.startswith("lightkeras.") for module in own)

    return any(foreign(hook) for hook in _BATCH_HOOKS if "predict" not in hook)
