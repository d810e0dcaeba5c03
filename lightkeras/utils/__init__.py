"""Argument checks, paths and the logger, for every package and task."""

from lightkeras.utils.checks import (
    ArgumentError,
    LightkerasError,
    new_file,
    require,
    require_choice,
    require_int,
    require_number,
)
from lightkeras.utils.messages import logger

__all__ = [
    "ArgumentError",
    "LightkerasError",
    "logger",
    "new_file",
    "require",
    "require_choice",
    "require_int",
    "require_number",
]
