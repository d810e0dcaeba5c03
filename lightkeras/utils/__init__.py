"""Argument checks, paths and the logger, for every package and task."""

from lightkeras.utils.checks import new_file, require, require_choice, require_int, require_number
from lightkeras.utils.messages import logger

__all__ = ["logger", "new_file", "require", "require_choice", "require_int", "require_number"]
