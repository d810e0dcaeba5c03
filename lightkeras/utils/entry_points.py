"""The tasks and benchmarks that packages register as entry points, ours like anyone's.

A package registers its own in setup.cfg, or in the same form in pyproject.toml::

    [options.entry_points]
    lightkeras.tasks =
        my_task = package.module:MyTask
    lightkeras.benchmarks =
        my_benchmark = package.module:main

This module needs the standard library alone.
"""

import functools
import importlib.metadata

GROUPS = ("lightkeras.tasks", "lightkeras.benchmarks")


def registered(group: str) -> dict[str, str]:
    """Returns the import path "package.module.name" of every entry point of `group`, by name."""
    points = importlib.metadata.entry_points(group=group)
    return {point.name: point.value.replace(":", ".") for point in points}


def shipped_packages() -> list[str]:
    """Returns the top-level packages that are installed with lightkeras."""
    points = [point for group in GROUPS for point in importlib.metadata.entry_points(group=group)]
    ours = {point.value.split(".")[0] for point in points if getattr(point.dist, "name", "") == "lightkeras"}
    return ["lightkeras", *sorted(ours)]


@functools.cache
def packages() -> tuple[str, ...]:
    """Returns the packages that ship with lightkeras, and those of all registered tasks and benchmarks."""
    modules = [path.rpartition(".")[0] for group in GROUPS for path in registered(group).values()]
    return (*shipped_packages(), *(module.rpartition(".")[0] or module for module in modules))
