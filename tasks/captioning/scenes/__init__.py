"""Drawn scenes with captions: one or two coloured shapes in a grid of 3 x 3 places, with known positions.

They need no download. Because the pixels of every object are known, a test can check that the attention of the word
"circle" lies on the circle.
"""

from tasks.captioning.scenes.collection import SceneCollection
from tasks.captioning.scenes.objects import COLOURS, SHAPES, Object
from tasks.captioning.scenes.scene import BACKGROUND, RELATIONS, Scene, make_scenes

__all__ = ["BACKGROUND", "COLOURS", "RELATIONS", "SHAPES", "Object", "Scene", "SceneCollection", "make_scenes"]
