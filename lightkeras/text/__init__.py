"""Text: reading, tokenizing, vocabularies and their special ids."""

from lightkeras.text.characters import CharacterVocabulary
from lightkeras.text.encoded import EncodedText
from lightkeras.text.file_cache import FileCache, digest_files, require_text, show_progress
from lightkeras.text.files import TextCache, find_texts
from lightkeras.text.ids import END, FIRST_WORD, PAD, START, UNKNOWN
from lightkeras.text.rows import BLOCK, Rows, RowsFile, RowsInMemory, are_saved, cut, row_paths
from lightkeras.text.subwords import SubwordVocabulary
from lightkeras.text.tokenize import JOIN, detokenize, normalize_text, read_text, split_lines, tokenize
from lightkeras.text.words import WordVocabulary

__all__ = [
    "BLOCK",
    "END",
    "FIRST_WORD",
    "JOIN",
    "PAD",
    "START",
    "UNKNOWN",
    "CharacterVocabulary",
    "EncodedText",
    "FileCache",
    "Rows",
    "RowsFile",
    "RowsInMemory",
    "SubwordVocabulary",
    "TextCache",
    "WordVocabulary",
    "are_saved",
    "cut",
    "detokenize",
    "digest_files",
    "find_texts",
    "normalize_text",
    "read_text",
    "require_text",
    "row_paths",
    "show_progress",
    "split_lines",
    "tokenize",
]
