"""Translation with attention."""

from tasks.translation.data import TranslationData
from tasks.translation.task import Translated, Translation

__all__ = ["Translated", "Translation", "TranslationData"]
