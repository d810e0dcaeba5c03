"""Image captioning with attention."""

from tasks.captioning.data import CaptionData
from tasks.captioning.task import Captioned, Captioning

__all__ = ["CaptionData", "Captioned", "Captioning"]
