"""Text: reading, tokenizing, vocabularies."""

from lightkeras.text.characters import CharacterVocabulary
from lightkeras.text.subwords import SubwordVocabulary
from lightkeras.text.tokenize import detokenize, normalize_text, read_text, tokenize
from lightkeras.text.words import WordVocabulary

__all__ = [
    "CharacterVocabulary",
    "SubwordVocabulary",
    "WordVocabulary",
    "detokenize",
    "normalize_text",
    "read_text",
    "tokenize",
]
