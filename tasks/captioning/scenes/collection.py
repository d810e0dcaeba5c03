"""Drawn scenes with their captions and pixels."""

import pathlib

import numpy as np

from tasks.captioning.photos.annotations import Caption, Image
from tasks.captioning.photos.encoding import encode_in_memory
from tasks.captioning.photos.photo_list import PhotoList
from tasks.captioning.scenes.scene import Scene


class SceneCollection:
    """Scenes, drawn once and kept in memory; has the attributes and methods of `PhotoCollection`.

    Args:
        scenes: The scenes.
        size: Pixels per side.

    Attributes:
        scenes: The scenes.
        photos: The names and captions of the scenes.
        features: The collection itself: it has `shape`, `dtype`, `unreadable` and `read(indices)`.
    """

    def __init__(self, scenes: list[Scene], size: int):
        self.scenes, self.features, self.unreadable = scenes, self, {}
        captions = [Caption(i, text) for i, scene in enumerate(scenes) for text in scene.captions()]
        named = [Image(i, f"scene {i}") for i in range(len(scenes))]
        table = encode_in_memory([pathlib.Path("scenes.json")], [(0, [*named, *captions])])
        self.photos = PhotoList(table, [pathlib.Path()], np.arange(len(scenes)))
        self._pixels = np.stack([scene.draw(size) for scene in scenes])  # (scenes, size, size, 3)
        self.shape, self.dtype = self._pixels.shape[1:], self._pixels.dtype

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Returns the pixels of the scenes with the numbers `indices` (rows,): uint8 (rows, size, size, 3)."""
        return self._pixels[indices]

    def image(self, index: int, size: int) -> np.ndarray:
        """Draws a scene as uint8 (size, size, 3)."""
        return self.scenes[index].draw(size)

    def name(self, index: int) -> str:
        """Returns the name of a scene."""
        return str(self.photos.paths[index])
