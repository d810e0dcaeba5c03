"""Scenes of one or two objects in a grid of places, their pictures, and their captions."""

import dataclasses
import itertools
import math

import numpy as np

from tasks.captioning.scenes.objects import COLOURS, SHAPES, Object

BACKGROUND = (236, 236, 232)
GRID = 3
PLACES = tuple(itertools.product(range(GRID), range(GRID)))  # (row, column), from the top left
WHERE = ("in the top left", "at the top", "in the top right", "on the left", "in the middle", "on the right",
         "in the bottom left", "at the bottom", "in the bottom right")  # fmt: skip
RELATIONS = {  # of the first object to the second, by the signs of the difference of their rows and columns
    (-1, 0): "above", (0, -1): "to the left of", (-1, -1): "to the upper left of", (-1, 1): "to the upper right of",
}  # fmt: skip
KEY = 0x5CE7E5  # separates the draws from other uses of a seed


@dataclasses.dataclass(frozen=True)
class Scene:
    """One or two objects in different places of a picture, in reading order: from the top, then from the left."""

    objects: tuple[Object, ...]

    def draw(self, size: int) -> np.ndarray:
        """Draws the picture: uint8 (size, size, 3)."""
        picture = np.full((size, size, 3), BACKGROUND, float)
        for thing in self.objects:
            cover = thing.coverage(size)[..., None]
            picture = (1 - cover) * picture + cover * np.array(COLOURS[thing.colour], float)
        return np.round(picture).astype(np.uint8)

    def mask(self, word: str, size: int) -> np.ndarray:
        """Marks the pixels of the objects whose colour or shape is `word`, if there are any: bool (size, size)."""
        named = [thing.coverage(size) >= 0.5 for thing in self.objects if word in (thing.colour, thing.shape)]
        return np.logical_or.reduce(named) if named else np.zeros((size, size), bool)

    def boxes(self, word: str, size: int) -> list[tuple[int, int, int, int]]:
        """Returns (left, top, right, bottom), the latter two exclusive, of objects whose colour or shape is `word`."""
        found = []
        for thing in self.objects:
            if word in (thing.colour, thing.shape):
                rows, columns = (np.flatnonzero((thing.coverage(size) >= 0.5).any(axis)) for axis in (1, 0))
                found.append((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
        return found

    def attended(self, word: str, attention: np.ndarray) -> float:
        """Returns the share of a word's attention that lies on its objects.

        Args:
            word: A colour or a shape.
            attention: Weights (slots,) over the places of a square grid; those in which a part of an object lies count.
        """
        side = math.isqrt(len(attention))
        mask = self.mask(word, 8 * side).reshape(side, 8, side, 8)
        return float(attention[mask.any((1, 3)).ravel()].sum())

    def captions(self) -> tuple[str, ...]:
        """Returns four captions of the picture."""
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
    """Makes `count` different scenes, the same for the same seed; every twentieth has one object, the others have two.

    No two scenes have the same objects in the same places, so no test scene is in training. The position of an object
    within its place and its size vary a little. Two objects differ in colour and in shape, so that each word means one
    of them.

    Raises:
        ValueError: `count` is larger than the number of possible scenes.
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
    """Whether the objects differ in colour, in shape, and in place."""
    parts = [(colour, shape, place) for (colour, shape), place in chosen]
    return all(len(set(part)) == len(chosen) for part in zip(*parts, strict=True))


def _placed(draw: np.random.Generator, thing: tuple[str, str], place: tuple[int, int]) -> Object:
    row, column = place
    shift = draw.uniform(-0.03, 0.03, 2)
    centre = ((column + 0.5) / GRID + shift[0], (row + 0.5) / GRID + shift[1])
    return Object(*thing, place, (float(centre[0]), float(centre[1])), float(draw.uniform(0.1, 0.13)))
