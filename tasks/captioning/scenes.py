"""Drawn scenes with captions: one or two coloured shapes in a grid of 3 x 3 places, and where each of them is.

They need no download, and because every object's pixels are known, a test can ask whether the attention at the word
"circle" lies on the circle.
"""

import dataclasses
import itertools
import math

import numpy as np

COLOURS = {
    "red": (214, 40, 40),
    "green": (44, 160, 60),
    "blue": (40, 80, 210),
    "yellow": (240, 205, 40),
    "purple": (140, 60, 170),
    "black": (30, 30, 30),
}
BACKGROUND = (236, 236, 232)
GRID = 3
PLACES = tuple(itertools.product(range(GRID), range(GRID)))  # (row, column), from the top left
WHERE = ("in the top left", "at the top", "in the top right", "on the left", "in the middle", "on the right",
         "in the bottom left", "at the bottom", "in the bottom right")  # fmt: skip
RELATIONS = {  # of the first object to the second, by the signs of the difference of their rows and columns
    (-1, 0): "above", (0, -1): "to the left of", (-1, -1): "to the upper left of", (-1, 1): "to the upper right of",
}  # fmt: skip
KEY = 0x5CE7E5  # keys the draws apart from any other use of a seed


def _circle(x, y):
    return 1.0 - np.hypot(x, y)


def _square(x, y):
    return 0.88 - np.maximum(np.abs(x), np.abs(y))


def _triangle(x, y):
    slope = np.hypot(2.0, 1.0)
    return np.minimum(0.85 - y, (y + 1.0 - 2.0 * np.abs(x)) / slope)


def _cross(x, y):
    x, y = np.abs(x), np.abs(y)
    return np.maximum(np.minimum(1.0 - x, 0.34 - y), np.minimum(0.34 - x, 1.0 - y))


SHAPES = {"circle": _circle, "square": _square, "triangle": _triangle, "cross": _cross}  # distance within the outline


@dataclasses.dataclass(frozen=True)
class Object:
    """A coloured shape in a place.

    Args:
        colour: One of `COLOURS`.
        shape: One of `SHAPES`.
        place: (row, column) in the grid.
        centre: (x, y) as fractions of the picture's width and height.
        radius: As a fraction of the picture's width.
    """

    colour: str
    shape: str
    place: tuple[int, int]
    centre: tuple[float, float]
    radius: float

    @property
    def phrase(self) -> str:
        """ "a red circle" """
        return f"a {self.colour} {self.shape}"

    def coverage(self, size: int) -> np.ndarray:
        """The share of each pixel that the object covers: float (size, size)."""
        pixels = (np.arange(size) + 0.5) / size
        x, y = (pixels - self.centre[0]) / self.radius, (pixels - self.centre[1]) / self.radius
        inside = SHAPES[self.shape](x[None, :], y[:, None])  # (size, size), in radii
        return np.clip(inside * self.radius * size + 0.5, 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Scene:
    """One or two objects in different places of a picture, in reading order: from the top, and then from the left."""

    objects: tuple[Object, ...]

    def draw(self, size: int) -> np.ndarray:
        """The picture: uint8 (size, size, 3)."""
        picture = np.full((size, size, 3), BACKGROUND, float)
        for thing in self.objects:
            cover = thing.coverage(size)[..., None]
            picture = (1 - cover) * picture + cover * np.array(COLOURS[thing.colour], float)
        return np.round(picture).astype(np.uint8)

    def mask(self, word: str, size: int) -> np.ndarray:
        """The pixels of the objects whose colour or shape is `word`: bool (size, size); none for any other word."""
        named = [thing.coverage(size) >= 0.5 for thing in self.objects if word in (thing.colour, thing.shape)]
        return np.logical_or.reduce(named) if named else np.zeros((size, size), bool)

    def boxes(self, word: str, size: int) -> list[tuple[int, int, int, int]]:
        """(left, top, right, bottom), the last two exclusive, of each object whose colour or shape is `word`."""
        found = []
        for thing in self.objects:
            if word in (thing.colour, thing.shape):
                rows, columns = (np.flatnonzero((thing.coverage(size) >= 0.5).any(axis)) for axis in (1, 0))
                found.append((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
        return found

    def attended(self, word: str, attention: np.ndarray) -> float:
        """The share of a word's attention (slots,), places of a square grid, on places that what it names lies in."""
        side = math.isqrt(len(attention))
        mask = self.mask(word, 8 * side).reshape(side, 8, side, 8)
        return float(attention[mask.any((1, 3)).ravel()].sum())

    def captions(self) -> tuple[str, ...]:
        """What the picture shows, in four ways."""
        first = self.objects[0]
        if len(self.objects) == 1:
            where = WHERE[PLACES.index(first.place)]
            return (
                f"{first.phrase} {where}",
                f"there is {first.phrase} {where}",
                f"the picture shows {first.phrase} {where}",
                f"{where} is {first.phrase}",
            )
        second = self.objects[1]
        relation = RELATIONS[tuple(np.sign(np.subtract(first.place, second.place)).tolist())]
        return (
            f"{first.phrase} {relation} {second.phrase}",
            f"there is {first.phrase} {relation} {second.phrase}",
            f"the picture shows {first.phrase} {relation} {second.phrase}",
            f"{first.phrase} is {relation} {second.phrase}",
        )


def make_scenes(count: int, seed: int = 0) -> list[Scene]:
    """`count` different scenes, the same for the same seed; every twentieth has one object, the others have two.

    No two have the same objects in the same places, so a scene that was kept for the test is not in training; where in
    its place an object lies, and how large it is, varies a little. Two objects differ in colour and in shape, so that
    each word means one of them.

    Raises:
        ValueError: More than there are.
    """
    things = list(itertools.product(COLOURS, SHAPES))
    singles = list(itertools.product(things, PLACES))
    most = 20 * len(singles)
    if count > most:
        raise ValueError(f"Expected `count` to be at most {most}. Received: count={count}")
    draw = np.random.Generator(np.random.Philox(key=[seed, KEY]))
    single = iter(draw.permutation(len(singles)))
    seen, scenes = set(), []
    while len(scenes) < count:
        if len(scenes) % 20 == 0:
            chosen = [singles[next(single)]]
        else:
            chosen = [singles[i] for i in draw.choice(len(singles), 2, replace=False)]
        if _differ(chosen) and frozenset(chosen) not in seen:
            seen.add(frozenset(chosen))
            in_order = sorted(chosen, key=lambda one: one[1])  # by place
            scenes.append(Scene(tuple(_placed(draw, *one) for one in in_order)))
    return scenes


def _differ(chosen: list[tuple[tuple[str, str], tuple[int, int]]]) -> bool:
    """Whether the objects have other colours, other shapes, and other places."""
    parts = [(colour, shape, place) for (colour, shape), place in chosen]
    return all(len(set(part)) == len(chosen) for part in zip(*parts, strict=True))


def _placed(draw: np.random.Generator, thing: tuple[str, str], place: tuple[int, int]) -> Object:
    row, column = place
    shift = draw.uniform(-0.03, 0.03, 2)
    centre = ((column + 0.5) / GRID + shift[0], (row + 0.5) / GRID + shift[1])
    return Object(*thing, place, (float(centre[0]), float(centre[1])), float(draw.uniform(0.1, 0.13)))
