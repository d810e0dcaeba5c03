"""How numbers and times are written for people: in lines of the terminal, and on pages."""

import math


def format_value(value: float) -> str:
    """`1.500`, `0.01234`, `12,345`, `1.23e+12`, `nan`; an int has all its digits."""
    if isinstance(value, int) or not math.isfinite(value):
        return f"{value:,}" if isinstance(value, int) else str(value)
    size = abs(value)
    if size >= 1e9 or 0 < size < 1e-4:
        return f"{value:.3g}"
    return f"{value:,.0f}" if size >= 999.95 else f"{value:#.4g}"


def show(value: float | None) -> str:
    """Writes a number as `format_value` does, without zeros at its end: `1.5`, `20`; None is empty."""
    text = "" if value is None else format_value(value)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def clock(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
