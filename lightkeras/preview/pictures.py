"""Pictures as characters."""

import numpy as np
from PIL import Image
from rich.color import Color
from rich.style import Style
from rich.text import Text

SHADES = " .:-=+*#%@"  # from dark to light
MIN_SIDE = 8  # pixels of a picture; a smaller array is one of numbers
WIDTH = 40  # columns


def is_picture(value: np.ndarray) -> bool:
    """Returns whether an array is one picture: (height, width) or (height, width, 1, 3 or 4 channels)."""
    sides, channels = value.shape[:2], value.shape[2:]
    known = value.ndim == 2 or (value.ndim == 3 and channels[0] in (1, 3, 4))
    return known and min(sides) >= MIN_SIDE and (value.dtype == np.uint8 or value.dtype.kind == "f")


def to_pixels(picture: np.ndarray, width: int = WIDTH) -> np.ndarray:
    """Returns uint8 (rows, columns, 3), no wider than `width` and with an even number of rows.

    Args:
        picture: uint8 or floats of any range, (height, width[, channels]).
        width: The greatest width.
    """
    values = picture[..., :3] if picture.ndim == 3 else picture
    if values.dtype != np.uint8:
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        values = (255 * (np.nan_to_num(values) - low) / ((high - low) or 1.0)).round().astype(np.uint8)
    image = Image.fromarray(values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values).convert("RGB")
    columns = min(width, image.width)
    rows = max(2, 2 * round(image.height * columns / image.width / 2))
    return np.asarray(image.resize((columns, rows), Image.Resampling.BOX))


def draw_colours(pixels: np.ndarray) -> Text:
    """Draws two rows of pixels in each line, in colours: the upper one as the character, the lower one behind it."""
    lines = [Text() for _ in range(len(pixels) // 2)]
    for line, upper, lower in zip(lines, pixels[::2], pixels[1::2], strict=True):
        for above, below in zip(upper.tolist(), lower.tolist(), strict=True):
            line.append("▀", Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below)))
    return Text("\n").join(lines)


def draw_shades(pixels: np.ndarray) -> Text:
    """Draws two rows of pixels in each line, as characters that look darker or lighter."""
    grey = pixels.astype(float) @ (0.299, 0.587, 0.114)  # (rows, columns)
    levels = ((grey[::2] + grey[1::2]) / 2 / 256 * len(SHADES)).astype(int)
    return Text("\n".join("".join(SHADES[level] for level in row).rstrip() for row in levels))
