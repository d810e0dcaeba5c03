"""The page of captioning: drop a photo, and see where each word looked."""

from typing import TYPE_CHECKING

import lightkeras as lk
from tasks.captioning import figures
from tasks.captioning.photos.pixels import read_photo

if TYPE_CHECKING:
    from PIL import Image

    from tasks.captioning.task import Captioning

SIDE = 320  # pixels of a photo's longer side
END = "</s>"


def page(task: "Captioning") -> lk.demo.Page:
    """Returns the page of a trained task; builds its encoder, so that a missing file of weights is told at once."""
    task.data.network()

    def describe(photo: "Image.Image", beam_size: int) -> str:
        ((best,),) = task.search([photo], beam_size)
        pixels = read_photo(photo, SIDE)
        shown = [(lk.demo.picture(pixels, "The photo"), "")]
        for label, weights in zip(best.words, best.attention, strict=True):
            word = "(end)" if label == END else label
            lit = lk.demo.picture(figures.light(pixels, weights), f"The photo, light where “{word}” looked")
            shown.append((lit, word))
        return lk.demo.tiles(shown, best.text or "(an empty caption)")

    fields = {
        "photo": lk.demo.Photo("Photo", least_side=2 * max(SIDE, task.data.encoder.size)),
        "beam_size": lk.demo.Slider("Beams: prefixes that the search keeps", 3, 1, 10),
    }
    about = (
        f"The network describes a photo with the {len(task.data.vocabulary):,} words that it knows. Before each word "
        "it looks at places of the photo: these are light."
    )
    tool = lk.demo.Tool("Describe a photo", fields, describe, button="Describe")
    return lk.demo.Page("Image captioning", about, [tool])
