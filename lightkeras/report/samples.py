"""The samples of a run, chosen evenly over its epochs so that the page stays small."""

import io
import re
from collections.abc import Sequence

from PIL import Image, UnidentifiedImageError

from lightkeras.report.blocks import Picture, Section, Text
from lightkeras.report.files import read_bytes
from lightkeras.utils.paths import Folder

MAX_TEXTS, MAX_PICTURES = 12, 12  # of the samples that are shown
MAX_BYTES = 2_000_000  # of the pictures together
MAX_ANIMATION = 1_000_000  # bytes
FRAMES, FRAME_SIDE = 24, 320  # of an animation that is made smaller: frames, pixels
WIDE = 640  # pixels of a picture that needs the page's whole width
PICTURES = (".png", ".gif", ".jpg", ".jpeg")


def sample_sections(folder: Folder) -> list[Section]:
    """Returns the section of a run's samples; none without samples."""
    names = sorted(path.name for path in folder.glob("*")) if folder.is_dir() else []
    names = [name for name in names if not name.startswith(".")]
    texts, pictures = ([n for n in names if n.endswith(kind)] for kind in ((".txt",), PICTURES))
    by_epoch = [name for name in pictures if re.match(r"epoch_\d+", name)]
    blocks = [*_texts(folder, texts), *_pictures(folder, by_epoch)]
    blocks += [shown for name in pictures if name not in by_epoch for shown in _animations(folder, name, by_epoch)]
    total = len(texts) + len(pictures)
    shown = f"{len(blocks)} of {total} samples, evenly chosen; all are in the run's folder samples/."
    return [Section("Samples", blocks, shown if len(blocks) < total else "")] if blocks else []


def choose(names: Sequence[str], most: int) -> list[str]:
    """Chooses at most this number of names, evenly spaced, the newest first, the first and the last among them."""
    if len(names) <= most:
        return list(reversed(names))
    places = {round(index * (len(names) - 1) / (most - 1)) for index in range(most)}
    return [names[place] for place in sorted(places, reverse=True)]


def _texts(folder: Folder, names: list[str]) -> list[Text]:
    found = [(name, read_bytes(folder, name)) for name in choose(names, MAX_TEXTS)]
    whole = [(name, data.decode("utf-8", "replace")) for name, data in found if data]
    return [Text(text, _title(name), folded=index > 0) for index, (name, text) in enumerate(whole)]


def _title(name: str) -> str:
    """`epoch_0010.png` -> `Epoch 10`."""
    found = re.fullmatch(r"epoch_0*(\d+)(.*)\.\w+", name)
    return f"Epoch {found[1]}{found[2].replace('_', ' ')}" if found else name


def _pictures(folder: Folder, names: list[str]) -> list[Picture]:
    """The chosen pictures that fit into `MAX_BYTES`; of large ones, fewer are chosen."""
    for most in range(MAX_PICTURES, 0, -1):
        found = [(name, read_bytes(folder, name)) for name in choose(names, most) or names[-1:]]
        whole = [(name, data) for name, data in found if data and _is_picture(data)]
        if sum(len(data) for _, data in whole) <= MAX_BYTES:
            break
    else:
        whole = []
    return [
        Picture(data, f"Sample after {_title(name)}", _title(name), folded=index > 2)
        for index, (name, data) in enumerate(whole)
    ]


def _is_picture(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
        return False
    return True


def _animations(folder: Folder, name: str, frames: list[str]) -> list[Picture]:
    """The animation, or a smaller one of some of its frames; folded, for it moves all the time."""
    size = (folder / name).stat().st_size
    data = read_bytes(folder, name) if size <= MAX_ANIMATION else _smaller(folder, frames)
    if not data or not _is_picture(data):
        return []
    return [Picture(data, "Samples of all epochs, one after the other", name, folded=True)]


def _smaller(folder: Folder, names: list[str]) -> bytes | None:
    chosen = [read_bytes(folder, name) for name in reversed(choose(names, FRAMES))]
    pictures = []
    for data in chosen:
        if data and _is_picture(data):
            picture = Image.open(io.BytesIO(data)).convert("P")
            picture.thumbnail((FRAME_SIDE, FRAME_SIDE), Image.Resampling.NEAREST)
            pictures.append(picture)
    if not pictures:
        return None
    file = io.BytesIO()
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=300, loop=0)
    return file.getvalue()


def is_wide(data: bytes) -> bool:
    """Returns whether a picture needs the page's whole width."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return picture.width > WIDE
    except (OSError, Image.DecompressionBombError):
        return False


def media_type(data: bytes) -> str:
    """Returns the media type of a picture by its first bytes."""
    kinds = {b"\x89PNG": "image/png", b"GIF8": "image/gif", b"\xff\xd8": "image/jpeg"}
    return next((kind for start, kind in kinds.items() if data.startswith(start)), "application/octet-stream")
