"""Argument checks and files: what every package and task may use."""

from lightkeras.utils.checks import new_file, require, require_choice, require_int, require_number
from lightkeras.utils.files import locked, read_json, sha256, write_atomically, write_json, write_text

__all__ = [
    "locked", "new_file", "read_json", "require", "require_choice", "require_int", "require_number", "sha256",
    "write_atomically", "write_json", "write_text",
]  # fmt: skip
