"""Photos with their captions and features."""

import pathlib

import numpy as np

from tasks.captioning.photos.encoders import Encoder
from tasks.captioning.photos.features import Features
from tasks.captioning.photos.photo_list import PhotoList
from tasks.captioning.photos.pixels import read_image


class PhotoCollection:
    """Photos whose features are on disk.

    Args:
        photos: The photos.
        encoder: The encoder of their features.
        folder: The folder of their features.

    Attributes:
        photos: The photos.
        features: What a batch reads: has `shape`, `dtype`, `unreadable` and `read(indices)`.
    """

    def __init__(self, photos: PhotoList, encoder: Encoder, folder: pathlib.Path):
        self.photos, self.features = photos, Features(folder, photos.paths, encoder)

    def image(self, index: int, size: int) -> np.ndarray:
        """Reads a photo as uint8 (size, size, 3)."""
        return read_image(self.photos.paths[index], size)

    def name(self, index: int) -> str:
        """Returns the file of a photo."""
        return str(self.photos.paths[index])
