"""Character-level text generation with a recurrent network."""

from tasks.text_generation.data import TextData
from tasks.text_generation.task import TextGeneration

__all__ = ["TextData", "TextGeneration"]
