"""What a report shows of a GAN's health: losses, accuracies, coverage, and the nearest training images."""

import io
from typing import TYPE_CHECKING

import numpy as np

import lightkeras as lk
from tasks.dcgan import figures

if TYPE_CHECKING:
    from tasks.dcgan.task import DCGAN

COMPARED = 500  # generated and held-out images
SEARCHED = 10_000  # training images among which the nearest is looked for
SHOWN = 8  # generated images with their nearest
SEED = 1  # of the generated images; those of the samples have 0


def sections(task: "DCGAN") -> list[lk.report.Section]:
    """Returns the section "GAN health"."""
    train, held_out = (task.data.splits[name][0] for name in ("train", "validation"))
    count = min(COMPARED, len(held_out))
    images, real = task.generate(count, SEED), held_out[:count]
    some = train[:SEARCHED]
    nearest, distances = lk.metrics.find_nearest(images, some)
    _, usual = lk.metrics.find_nearest(real, some)
    pairs = np.concatenate([images[:SHOWN], some[nearest[:SHOWN]]])
    rows = [
        ["coverage of held-out images (1: all; Naeem et al. 2020)", lk.metrics.coverage(real, images)],
        ["mean distance to the nearest training image, generated", float(distances.mean())],
        ["the same, held-out images (much smaller above: copies)", float(usual.mean())],
    ]
    blocks = [
        lk.report.Curve(("generator_loss", "discriminator_loss"), "Losses"),
        lk.report.Curve(("real_accuracy", "fake_accuracy"), "The discriminator's accuracies"),
        lk.report.Curve(("val_generator_loss", "val_discriminator_loss"), "Losses in validation"),
        lk.report.Table(["figure", "value"], rows, f"{count} generated images in pixel space, pixels from 0 to 1"),
        _picture(pairs),
    ]
    note = (
        "The losses of a GAN need not fall: the networks move against each other. Accuracies that stay near 1 mean "
        "that the discriminator has won."
    )
    return [lk.report.Section("GAN health", blocks, note)]


def _picture(pairs: np.ndarray) -> lk.report.Picture:
    """Two rows: generated images above, below each the nearest training image."""
    file = io.BytesIO()
    figures.write_grid(file, pairs, columns=len(pairs) // 2)
    alt = f"Above, {len(pairs) // 2} generated images; below each the training image nearest to it"
    return lk.report.Picture(file.getvalue(), alt, "Generated images, and below each the nearest training image")
