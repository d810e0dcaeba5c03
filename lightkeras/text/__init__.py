"""Text: reading, tokenizing, vocabularies and their special ids."""

from lightkeras.text.characters import CharacterVocabulary
from lightkeras.text.encoded import EncodedText
from lightkeras.text.file_cache import require_text
from lightkeras.text.files import TextCache, find_texts
from lightkeras.text.ids import END, FIRST_WORD, PAD, START, UNKNOWN
from lightkeras.text.row_texts import WordRows, append_texts, count_numbers, every_text, read_texts
from lightkeras.text.rows import BLOCK, Rows, RowsFile, RowsInMemory, cut
from lightkeras.text.rows_cache import RowsCache
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
    "Rows",
    "RowsCache",
    "RowsFile",
    "RowsInMemory",
    "SubwordVocabulary",
    "TextCache",
    "WordRows",
    "WordVocabulary",
    "append_texts",
    "count_numbers",
    "cut",
    "detokenize",
    "every_text",
    "find_texts",
    "normalize_text",
    "read_text",
    "read_texts",
    "require_text",
    "split_lines",
    "tokenize",
]
