"""The fields of a page: what people can put in, and what the task gets.

Values come from a browser, or from any program that sends some: `read` takes nothing else than the field allows.
"""

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

from PIL import Image

from lightkeras.data.images import ImageError, open_image
from lightkeras.utils.checks import ArgumentError

MOST_BYTES = 30 * 2**20  # of a photo
MOST_NUMBER = 2**32 - 1


def rejected(label: str, expected: str, received: Any) -> ArgumentError:
    """Returns the error whose sentence the page shows."""
    return ArgumentError(f"Expected “{label}” to be {expected}. Received: {received}")


@dataclasses.dataclass(frozen=True)
class Text:
    """A text.

    Args:
        label: Its name on the page.
        value: What it has at first.
        lines: Lines of the box.
        least: The fewest characters.
        most: The most characters.
    """

    label: str
    value: str = ""
    lines: int = 1
    least: int = 1
    most: int = 5000

    def read(self, given: Any) -> str:
        """Returns the text."""
        if not isinstance(given, str) or len(given) < self.least:
            raise rejected(self.label, f"a text of at least {self.least} character{'s' * (self.least > 1)}", "none")
        if len(given) > self.most:
            raise rejected(self.label, f"a text of at most {self.most:,} characters", f"{len(given):,}")
        return given


@dataclasses.dataclass(frozen=True)
class Slider:
    """A number of a range; a whole one if `step` is.

    Args:
        label: Its name on the page.
        value: What it has at first.
        least, most: The range, both ends included.
        step: The distance between two values.
    """

    label: str
    value: float
    least: float
    most: float
    step: float = 1

    def read(self, given: Any) -> float:
        """Returns the number."""
        right = isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)
        if not right or not self.least <= given <= self.most:
            raise rejected(self.label, f"a number from {self.least:g} to {self.most:g}", given)
        return round(given) if isinstance(self.step, int) else float(given)


@dataclasses.dataclass(frozen=True)
class Number:
    """A whole number, such as a seed.

    Args:
        label: Its name on the page.
        value: What it has at first.
        least, most: The range, both ends included.
    """

    label: str
    value: int = 0
    least: int = 0
    most: int = MOST_NUMBER

    def read(self, given: Any) -> int:
        """Returns the number."""
        whole = isinstance(given, int | float) and math.isfinite(given) and given == int(given)
        if not whole or isinstance(given, bool) or not self.least <= given <= self.most:
            raise rejected(self.label, f"a whole number from {self.least} to {self.most}", given)
        return int(given)


@dataclasses.dataclass(frozen=True)
class Photo:
    """A file with a photo; the task gets it as Pillow's picture, upright, "L" or "RGB" (see `lk.data.open_image`).

    Args:
        label: Its name on the page.
        least_side: Pixels of a side that are enough: a larger JPEG file is decoded at a fraction of its size.
        most: The most bytes.
    """

    label: str
    least_side: int | None = 1024
    most: int = MOST_BYTES

    def read(self, given: Any) -> Image.Image:
        """Reads the file."""
        if not isinstance(given, str | os.PathLike):
            raise rejected(self.label, "a photo", "none. Drop one first")
        path = Path(given)
        size = path.stat().st_size
        if size > self.most:
            raise rejected(self.label, f"a file of at most {self.most / 2**20:.0f} MB", f"{size / 2**20:.1f} MB")
        try:
            return open_image(path, self.least_side)
        except ImageError as error:
            raise rejected(self.label, "a photo", error.reason.replace(str(path), path.name)) from error


Field = Text | Slider | Number | Photo
FIELDS = (Text, Slider, Number, Photo)
