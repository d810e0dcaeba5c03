"""What a report shows of captioning: where each word looked, and captions beside their references."""

import io
from typing import TYPE_CHECKING

import lightkeras as lk
from tasks.captioning import figures

if TYPE_CHECKING:
    from tasks.captioning.task import Captioning

SHOWN = 10  # captions
SIDE = 320  # pixels of a photo
DRAWN = (1, 2)  # photos with their attention; the first is among the samples


def sections(task: "Captioning") -> list[lk.report.Section]:
    """Returns the captions (3 beams) of the first validation photos, and the attention of some."""
    found = [best for (best,) in task.search_inputs(next(task.data.inputs("validation"))[:SHOWN])]
    names, references = task.data.names("validation"), task.data.references("validation")
    rows = [[names[i], one.text, references[i][0], round(one.score, 3)] for i, one in enumerate(found)]
    table = lk.report.Table(["photo", "caption", "a reference", "log-probability"], rows, "Captions")
    pictures = [_draw(task, number, found[number]) for number in DRAWN if number < len(found)]
    note = "Each panel is light where the caption's word looked."
    return [lk.report.Section("Captions", [*pictures, table], note)]


def _draw(task: "Captioning", number: int, found) -> lk.report.Picture:
    file = io.BytesIO()
    photo = task.data.image("validation", number, SIDE)
    figures.write_attention(file, photo, found.words, found.attention)
    return lk.report.Picture(file.getvalue(), f"Photo, and the attention of each word of: {found.text}", found.text)
