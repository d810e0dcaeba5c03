"""Drawn scenes with their captions and pixels."""

import numpy as np

from tasks.captioning.scenes.scene import Scene


class SceneCollection:
    """Scenes, drawn once and kept in memory; has the attributes and methods of `PhotoCollection`.

    Args:
        scenes: The scenes.
        size: Pixels per side.

    Attributes:
        scenes: The scenes.
        captions: The captions of each scene.
        splits: None, as no scene carries a split.
        features: The collection itself: it has `shape`, `dtype`, `unreadable` and `read(indices)`.
    """

    def __init__(self, scenes: list[Scene], size: int):
        self.scenes, self.features = scenes, self
        self.captions, self.splits, self.unreadable = [scene.captions() for scene in scenes], None, {}
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
        return f"scene {index}"
