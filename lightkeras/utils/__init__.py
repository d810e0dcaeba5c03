"""Argument checks and paths: what every package and task may use."""

from lightkeras.utils.checks import new_file, require, require_choice, require_int, require_number

__all__ = ["new_file", "require", "require_choice", "require_int", "require_number"]
