"""Coloured shapes."""

import dataclasses

import numpy as np

COLOURS = {
    "red": (214, 40, 40),
    "green": (44, 160, 60),
    "blue": (40, 80, 210),
    "yellow": (240, 205, 40),
    "purple": (140, 60, 170),
    "black": (30, 30, 30),
}


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


SHAPES = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
}  # distance from the outline, positive inside


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
        """Returns the share of each pixel that the object covers: float (size, size)."""
        pixels = (np.arange(size) + 0.5) / size
        x, y = (pixels - self.centre[0]) / self.radius, (pixels - self.centre[1]) / self.radius
        inside = SHAPES[self.shape](x[None, :], y[:, None])  # (size, size), in radii
        return np.clip(inside * self.radius * size + 0.5, 0.0, 1.0)
