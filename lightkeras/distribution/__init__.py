"""Strategies, workers, and sums over replicas, imported on first use: `launch` and `rendezvous` need no TensorFlow."""

import importlib

_WHERE = {"all_reduce_sum": "replicas", "make_strategy": "strategies"}

__all__ = list(_WHERE)


def __getattr__(name: str):
    if name in _WHERE:
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])
