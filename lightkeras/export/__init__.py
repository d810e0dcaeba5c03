"""Exports of trained tasks, for programs that have neither lightkeras nor Keras."""

from lightkeras.export.check import Compared, ExportError
from lightkeras.export.decoding import decoding_steps, greedy_search
from lightkeras.export.endpoints import Endpoint
from lightkeras.export.exporting import FORMATS, export
from lightkeras.export.folders import read_export
from lightkeras.export.loops import put, run_recurrent
from lightkeras.export.texts import TEXTS, CharacterCodec, WordCodec, checked_between, kept_characters, texts_of

__all__ = [
    "FORMATS",
    "TEXTS",
    "CharacterCodec",
    "Compared",
    "Endpoint",
    "ExportError",
    "WordCodec",
    "checked_between",
    "decoding_steps",
    "export",
    "greedy_search",
    "kept_characters",
    "put",
    "read_export",
    "run_recurrent",
    "texts_of",
]
