"""The options of a run by their full names, as config.yaml has them."""

from collections.abc import Iterator
from typing import Any

INIT_ARGS = "init_args"


def flatten_options(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (full name, value): "task" (the class, or the function), "task.units", "trainer.seed"."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and len(value) == 2 and isinstance(value.get(INIT_ARGS, 0), dict | None):
            (named,) = (other for other in value if other != INIT_ARGS)
            yield key, value[named]
            yield from flatten_options(value[INIT_ARGS] or {}, f"{key}.")
        elif isinstance(value, dict) and value:
            yield from flatten_options(value, f"{key}.")
        else:
            yield key, value
