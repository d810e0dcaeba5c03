"""lightkeras: a PyTorch-Lightning-style trainer for Keras 3 on TensorFlow, made of Keras callbacks.

The names below are imported when first used, so that `lightkeras --help` need not wait for TensorFlow.
"""

import importlib

from lightkeras.quiet import configure
from lightkeras.version import __version__ as __version__

configure()

_HOMES = {
    "lightkeras.batch_sizes": ("find_batch_size",),
    "lightkeras.callbacks": (
        "CSVLogger", "Callback", "EarlyStopping", "LearningRateMonitor", "ModelCheckpoint", "ModelSummary",
        "NonFiniteGuard", "NonFiniteLossError", "ProgressBar", "SampleWriter", "TensorBoardLogger", "Throughput",
    ),
    "lightkeras.checkpoint": ("CheckpointError", "load_checkpoint"),
    "lightkeras.checks": ("check_choice", "check_int", "check_number", "check_that", "new_file"),
    "lightkeras.data": ("AddressedDataset", "DataModule"),
    "lightkeras.decoding": (
        "Hypotheses", "beam_search", "check_sampling", "check_search", "generate", "greedy_search", "sample",
        "sample_search",
    ),
    "lightkeras.distribution": ("all_reduce_sum",),
    "lightkeras.download": ("Download", "DownloadError", "find_data"),
    "lightkeras.learning_rates": ("find_lr",),
    "lightkeras.losses": ("token_sums",),
    "lightkeras.metrics": ("BitsPerCharacter", "Mean", "Perplexity"),
    "lightkeras.schedules": ("warmup_cosine",),
    "lightkeras.task": ("TaskModule",),
    "lightkeras.text": (
        "SubwordVocabulary", "Vocabulary", "WordVocabulary", "detokenize", "normalize_text", "read_text", "tokenize",
    ),
    "lightkeras.trainer": ("Trainer", "seed_everything"),
    "lightkeras.tuning": ("SearchError", "Tuner", "search_space"),
    "lightkeras.verifier": ("Report", "check"),
}  # fmt: skip
_MODULES = ("callbacks", "layers", "metrics")
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
