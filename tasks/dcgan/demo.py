"""The page of a DCGAN: draw images by moving through the noise that they are made from."""

from typing import TYPE_CHECKING

import numpy as np

import lightkeras as lk
from tasks.dcgan import figures

if TYPE_CHECKING:
    from tasks.dcgan.task import DCGAN

IMAGES = 64  # of a grid
STEPS = 9  # from one image to another
DIRECTIONS = 4
FAR = 3.0  # the ends of a direction
DIRECTIONS_SEED = 1000


def page(task: "DCGAN") -> lk.demo.Page:
    """Returns the page of a trained task."""
    about = (
        f"The generator turns {task.hparams.noise_dim} random numbers, the noise, into an image. Near noise gives "
        "images that are alike."
    )
    return lk.demo.Page("DCGAN", about, [_grid(task), _between(task), _directions(task)])


def _grid(task: "DCGAN") -> lk.demo.Tool:
    def draw(seed: int, count: int) -> str:
        whole = figures.make_grid(task.generate(count, seed))
        return lk.demo.picture(whole, f"{count} generated images in rows", sharp=True)

    fields = {"seed": _seed(), "count": lk.demo.Slider("Images", IMAGES, 1, 100)}
    return lk.demo.Tool("A grid of images", fields, draw, button=None)


def _between(task: "DCGAN") -> lk.demo.Tool:
    def draw(seed: int, first: int, last: int, place: int) -> str:
        noise = task.seeded_noise(max(first, last), seed)
        ends = noise[first - 1], noise[last - 1]
        shown = task.between(*ends, np.array([place / 100]))
        way = task.between(*ends, np.linspace(0.0, 1.0, STEPS))
        one = lk.demo.picture(shown[0], f"The image at {place} % of the way", sharp=True)
        row = lk.demo.picture(figures.make_grid(way, STEPS), f"The way in {STEPS} images", sharp=True)
        return lk.demo.stack(one, row)

    fields = {
        "seed": _seed(),
        "first": lk.demo.Slider("From image", 1, 1, 100),
        "last": lk.demo.Slider("To image", 2, 1, 100),
        "place": lk.demo.Slider("Place on the way, in %", 50, 0, 100),
    }
    note = "Images are counted from the top left of the grid of the same seed. The way is an arc on a sphere."
    return lk.demo.Tool("From one image to another", fields, draw, button=None, note=note)


def _directions(task: "DCGAN") -> lk.demo.Tool:
    def draw(seed: int, image: int, **places: float) -> str:
        noise = task.seeded_noise(image, seed)[image - 1]  # (noise_dim,)
        length = np.linalg.norm(noise)
        moved = noise + np.array([*places.values()]) @ directions * length / FAR
        moved *= length / max(np.linalg.norm(moved), 1e-6)  # back on the sphere
        pixels = task.images_of(moved[None].astype(np.float32))[0]
        return lk.demo.picture(pixels, "The image at this noise", sharp=True)

    directions = task.seeded_noise(DIRECTIONS, DIRECTIONS_SEED)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    fields = {"seed": _seed(), "image": lk.demo.Slider("Image", 1, 1, 100)}
    sliders = {
        f"direction_{i}": lk.demo.Slider(f"Direction {i}", 0.0, -FAR, FAR, 0.1) for i in range(1, DIRECTIONS + 1)
    }
    note = "Each slider moves the noise of the image along a random direction."
    return lk.demo.Tool("Turn an image", {**fields, **sliders}, draw, button=None, note=note)


def _seed() -> lk.demo.Number:
    return lk.demo.Number("Seed")
