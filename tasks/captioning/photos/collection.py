"""Photos with their captions and features."""

import pathlib

import numpy as np

from tasks.captioning.photos.annotations import Photo
from tasks.captioning.photos.encoders import Encoder
from tasks.captioning.photos.features import Features
from tasks.captioning.photos.pixels import read_image


class PhotoCollection:
    """Photos whose features are on disk.

    Args:
        photos: The photos.
        encoder: The encoder of their features.
        folder: The folder of their features.

    Attributes:
        captions: The captions of each photo.
        splits: The split that each photo carries, or None.
        features: What a batch reads: has `shape`, `dtype`, `unreadable` and `read(indices)`.
    """

    def __init__(self, photos: list[Photo], encoder: Encoder, folder: pathlib.Path):
        self._paths = [photo.path for photo in photos]
        self.captions, self.splits = [photo.captions for photo in photos], [photo.split for photo in photos]
        self.features = Features(folder, self._paths, encoder)

    def image(self, index: int, size: int) -> np.ndarray:
        """Reads a photo as uint8 (size, size, 3)."""
        return read_image(self._paths[index], size)

    def name(self, index: int) -> str:
        """Returns the file of a photo."""
        return str(self._paths[index])
