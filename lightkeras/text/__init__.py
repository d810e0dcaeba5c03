"""Text: reading, tokenizing, vocabularies and their special ids."""

from lightkeras.text.characters import CharacterVocabulary
from lightkeras.text.encoded import EncodedText
from lightkeras.text.files import TextCache, find_texts
from lightkeras.text.ids import END, FIRST_WORD, PAD, START, UNKNOWN
from lightkeras.text.subwords import SubwordVocabulary
from lightkeras.text.tokenize import JOIN, detokenize, normalize_text, read_text, split_lines, tokenize
from lightkeras.text.words import WordVocabulary

__all__ = [
    "END",
    "FIRST_WORD",
    "JOIN",
    "PAD",
    "START",
    "UNKNOWN",
    "CharacterVocabulary",
    "EncodedText",
    "SubwordVocabulary",
    "TextCache",
    "WordVocabulary",
    "detokenize",
    "find_texts",
    "normalize_text",
    "read_text",
    "split_lines",
    "tokenize",
]
