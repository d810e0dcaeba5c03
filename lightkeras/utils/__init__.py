"""Argument checks, files and the logger, for every package and task."""

from lightkeras.utils.checks import (
    ArgumentError,
    LightkerasError,
    lightkeras_error,
    listed,
    new_file,
    require,
    require_choice,
    require_int,
    require_number,
)
from lightkeras.utils.files import locked, read_json, sha256, write_atomically, write_json, write_text
from lightkeras.utils.messages import logger
from lightkeras.utils.paths import cache_folder, local_path

__all__ = [
    "ArgumentError", "LightkerasError", "cache_folder", "lightkeras_error", "listed", "local_path", "locked", "logger",
    "new_file", "read_json", "require", "require_choice", "require_int", "require_number", "sha256", "write_atomically",
    "write_json", "write_text",
]  # fmt: skip
