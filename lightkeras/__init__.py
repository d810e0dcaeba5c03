"""lightkeras: a PyTorch-Lightning-style trainer for Keras 3 on TensorFlow, made of Keras callbacks.

What one needs to write and train a task is here; the rest is in modules: `lk.callbacks`, `lk.metrics`, `lk.layers`, ...
Names are imported when first used, so that `lightkeras --help` need not wait for TensorFlow.
"""

import importlib

from lightkeras.utils.environment import configure
from lightkeras.utils.messages import show_messages
from lightkeras.version import __version__ as __version__

configure()
show_messages()

_HOMES = {
    "lightkeras.callbacks": ("Callback", "EarlyStopping", "ModelCheckpoint", "NonFiniteLossError"),
    "lightkeras.checkpoint": ("CheckpointError",),
    "lightkeras.data": ("AddressedDataset", "DataModule"),
    "lightkeras.metrics": ("WeightedMean",),
    "lightkeras.preview": ("show",),
    "lightkeras.replaying": ("branch", "replay"),
    "lightkeras.task": ("TaskModule",),
    "lightkeras.trainer": ("Trainer", "seed_everything"),
    "lightkeras.tuning": ("Tuner", "find_batch_size", "find_lr", "search_space"),
    "lightkeras.verifier": ("check",),
}
_MODULES = (
    "callbacks", "checkpoint", "data", "decoding", "demo", "distribution", "export", "layers", "losses", "metrics",
    "random", "report", "schedules", "text", "tuning", "utils", "verifier",
)  # fmt: skip
_WHERE = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [*_MODULES, *_WHERE]


def __getattr__(name: str):
    if name in _MODULES:
        return importlib.import_module(f"lightkeras.{name}")
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'lightkeras' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])
