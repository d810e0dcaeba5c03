"""The parts of an answer, as HTML in which all texts are escaped."""

import base64
import io
from collections.abc import Iterable, Sequence
from typing import Any

import markupsafe
import numpy as np
from markupsafe import Markup
from PIL import Image

WIDTH = 512  # pixels of the page: the most that a picture is enlarged to
ENLARGED = 12  # pixels of the page for one of a picture, at most


def text(*parts: str) -> Markup:
    """Shows a text with its line breaks; the direction follows the script. Of several parts, the first is marked.

    Args:
        *parts: The texts, which are put one after the other.
    """
    first, rest = (parts[0], parts[1:]) if len(parts) > 1 else ("", parts)
    given = Markup('<mark class="lk-given">{}</mark>').format(first) if first else Markup("")
    return Markup('<pre class="lk-text" dir="auto">{}{}</pre>').format(given, "".join(rest))


def picture(pixels: Any, alt: str, sharp: bool = False) -> Markup:
    """Shows a picture.

    Args:
        pixels: uint8 (height, width), (height, width, 1) or (height, width, 3).
        alt: What it shows, in words, for people who do not see it.
        sharp: Whether pixels stay squares when the picture is enlarged; else it is compressed as a photo is.
    """
    pixels, kind = np.asarray(pixels), "png" if sharp else "jpeg"
    data = base64.b64encode(_encode(pixels, kind)).decode()
    width = min(WIDTH, ENLARGED * pixels.shape[1]) if sharp else pixels.shape[1]
    return Markup('<img class="lk-picture{}" alt="{}" width="{}" src="data:image/{};base64,{}">').format(
        " lk-sharp" if sharp else "", alt, width, kind, data
    )


def _encode(pixels: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[2:] == (1,) else pixels).save(file, kind, quality=90)
    return file.getvalue()


def stack(*parts: Markup) -> Markup:
    """Puts parts below one another."""
    return Markup('<div class="lk-stack">{}</div>').format(Markup("").join(parts))


def tiles(pairs: Iterable[tuple[Markup, str]], title: str = "") -> Markup:
    """Shows pictures side by side, in as many rows as they need.

    Args:
        pairs: Each a picture and the text below it.
        title: A text above them.
    """
    shown = Markup("").join(
        Markup('<figure class="lk-tile">{}<figcaption dir="auto">{}</figcaption></figure>').format(one, below)
        for one, below in pairs
    )
    above = Markup('<p class="lk-answer" dir="auto">{}</p>').format(title) if title else Markup("")
    return Markup('{}<div class="lk-tiles">{}</div>').format(above, shown)


def attention(source: Sequence[str], target: Sequence[str], weights: Any, title: str = "") -> Markup:
    """Shows two rows of words: a word that is pointed at, or reached by the keyboard, lights what it looked at.

    Args:
        source: The words that are looked at, (slots,).
        target: The words that look, (steps,).
        weights: Attention (steps, slots), from 0 to 1.
        title: A text above them.
    """
    weights = np.asarray(weights, np.float64)
    above = Markup('<p class="lk-answer" dir="auto">{}</p>').format(title) if title else Markup("")
    return Markup(
        '{}<div class="lk-attention"><p class="lk-note" aria-live="polite">{}</p>{}{}</div>'
    ).format(above, "Point at a word to see what it looked at.", _words(target, weights, "looks"),
             _words(source, weights.T, "seen"))  # fmt: skip


def _words(words: Sequence[str], weights: np.ndarray, kind: str) -> Markup:
    shown = Markup("").join(
        Markup('<button type="button" class="lk-word" data-weights="{}">{}</button>').format(
            " ".join(f"{weight:.3f}" for weight in row), word
        )
        for word, row in zip(words, weights, strict=True)
    )
    return Markup('<div class="lk-words" data-kind="{}" dir="auto">{}</div>').format(kind, shown)


def problem(sentence: str) -> Markup:
    """Shows an error."""
    return Markup('<p class="lk-problem" role="alert">{}</p>').format(markupsafe.escape(sentence))
