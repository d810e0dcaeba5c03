"""Hyperparameter search over a task, its data and the Trainer, on KerasTuner's oracles."""

from lightkeras.tuning.space import search_space
from lightkeras.tuning.tuner import SearchError, Tuner

__all__ = ["SearchError", "Tuner", "search_space"]
