"""Hyperparameter search over a task, its data and the Trainer, on KerasTuner's oracles."""

from lightkeras.tuning.batch_size_finder import find_batch_size
from lightkeras.tuning.lr_finder import find_lr
from lightkeras.tuning.space import search_space
from lightkeras.tuning.tuner import SearchError, Tuner

__all__ = ["SearchError", "Tuner", "find_batch_size", "find_lr", "search_space"]
