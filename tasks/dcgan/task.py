"""A deep convolutional generative adversarial network."""

import functools
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import lightkeras as lk
from tasks.dcgan import demo, figures, report
from tasks.dcgan.data import MNISTData
from tasks.dcgan.export import endpoints
from tasks.dcgan.model import Discriminator, Generator

SAMPLES = 64  # images in a grid
ROWS = 256  # images generated at once
GENERATING = 1 << 31  # a stream of noise that training does not use


def non_saturating(real, fake, label_smoothing):
    """Losses (batch,) of discriminator and generator (Goodfellow et al. 2014), from the logits (batch,).

    Cross entropy with the labels 1 (or `1 - label_smoothing`; Salimans et al. 2016) for real images and 0 for
    generated ones; the generator's is that of generated images with the label 1.
    """
    real_loss = tf.nn.sigmoid_cross_entropy_with_logits(tf.fill(tf.shape(real), 1.0 - label_smoothing), real)
    return real_loss + tf.nn.softplus(fake), tf.nn.softplus(-fake)


def hinge(real, fake, label_smoothing):
    """Losses (batch,) of discriminator and generator (Lim and Ye 2017), from the logits (batch,)."""
    return tf.nn.relu(1.0 - real) + tf.nn.relu(1.0 + fake), -fake


LOSSES = {"non_saturating": non_saturating, "hinge": hinge}


class DCGAN(lk.TaskModule):
    """A generator makes images from noise, and a discriminator tells them from real ones; each has an optimizer.

    The metrics are both losses, and the shares of real and of generated images that the discriminator classifies
    correctly. Validation adds `pixel_frechet_distance` between the real images and one generated image for each
    (`lk.metrics.PixelFrechetDistance`). The noise of an example is keyed by the run's seed and the example's address
    (`lk.random.normal`), so it does not depend on how the batch is cut.

    Args:
        noise_dim: Size of the noise vector that an image is made from.
        generator_filters: Filters before the generator's last layer; twice as many for each halving of the side.
        discriminator_filters: Filters of the discriminator's first layer; twice as many after each halving.
        dropout: Share of the discriminator's outputs dropped in training.
        loss: "non_saturating" or "hinge".
        label_smoothing: Subtracted from the label 1 of real images; with "non_saturating" only.
        critic_steps: 0 updates both networks at once, from one shared forward pass. A positive number is the number of
            discriminator updates, each with other noise, before each update of the generator.
        generator_learning_rate: Learning rate of the generator's Adam.
        discriminator_learning_rate: Learning rate of the discriminator's Adam.
        beta_1: Decay of the first moments in both (Radford et al. 2016 use 0.5).
    """

    data_module = MNISTData
    sample_every = 10
    unit = "images"
    shown_metrics = (
        "val_pixel_frechet_distance",
        "generator_loss",
        "discriminator_loss",
        "real_accuracy",
        "fake_accuracy",
    )
    score_names = ("pixel_frechet_distance",)
    search_space = {
        "task.generator_learning_rate": {"float": [5e-5, 1e-3, "log"]},
        "task.discriminator_learning_rate": {"float": [5e-5, 1e-3, "log"]},
        "task.beta_1": {"choice": [0.5, 0.9]},
        "task.dropout": {"float": [0.0, 0.5, 0.1]},
    }

    def __init__(
        self,
        noise_dim: int = 100,
        generator_filters: int = 64,
        discriminator_filters: int = 64,
        dropout: float = 0.3,
        loss: str = "non_saturating",
        label_smoothing: float = 0.0,
        critic_steps: int = 0,
        generator_learning_rate: float = 1e-4,
        discriminator_learning_rate: float = 1e-4,
        beta_1: float = 0.9,
    ):
        super().__init__()
        lk.utils.require_int("noise_dim", noise_dim)
        lk.utils.require_int("generator_filters", generator_filters)
        lk.utils.require_int("discriminator_filters", discriminator_filters)
        lk.utils.require_number("dropout", dropout, inclusive=True, below=1.0)
        lk.utils.require_choice("loss", loss, LOSSES)
        lk.utils.require_number("label_smoothing", label_smoothing, inclusive=True, below=1.0)
        lk.utils.require(
            loss != "hinge" or not label_smoothing, "label_smoothing", '0 with loss="hinge"', label_smoothing
        )
        lk.utils.require_int("critic_steps", critic_steps, minimum=0)
        lk.utils.require_number("generator_learning_rate", generator_learning_rate)
        lk.utils.require_number("discriminator_learning_rate", discriminator_learning_rate)
        lk.utils.require_number("beta_1", beta_1, inclusive=True, below=1.0)

    def configure_model(self, data) -> None:
        """Creates the networks for the size of the data's images."""
        h, shape = self.hparams, data.image_shape
        self.data = data
        self.generator = Generator(shape, h.generator_filters, name="generator")
        self.discriminator = Discriminator(shape, h.discriminator_filters, h.dropout, name="discriminator")

    def configure_optimizers(self):
        """An Adam for each network."""
        h = self.hparams
        return {
            "generator": keras.optimizers.Adam(h.generator_learning_rate, h.beta_1),
            "discriminator": keras.optimizers.Adam(h.discriminator_learning_rate, h.beta_1),
        }

    def train_step(self, batch):
        """Updates both networks from one forward pass; or first the discriminator and then the generator."""
        critic_steps = self.hparams.critic_steps
        if not critic_steps:
            return self.minimize(self.adversarial_losses, batch)
        for _ in range(critic_steps):
            critic = self.minimize(self.discriminator_losses, batch)
        return {**critic, **self.minimize(self.generator_losses, batch)}

    def test_step(self, batch):
        """The losses on held-out images, without dropout, with the moving averages of batch normalisation."""
        return self.evaluate_loss(self.adversarial_losses, batch)

    def score(self, batches):
        """The distance between the real images and one generated image for each, with the noise of validation."""
        distances = []
        for batch in batches:
            real, generated = (images.numpy() for images in self._pairs(batch["image"], self.noise(batch)))
            kept = batch["weight"].numpy() > 0
            distances.append(lk.metrics.PixelFrechetDistance.from_images(real, generated, kept))
        return {"pixel_frechet_distance": sum(distances[1:], distances[0])}

    @functools.cached_property
    def _pairs(self):
        """The compiled pairs of real and generated images: float32 (batch, size, size, channels) in [0, 1]."""

        def pairs(images, noise):
            return [tf.cast(x, tf.float32) / 2 + 0.5 for x in (images, self.generator(noise))]

        return tf.function(pairs, reduce_retracing=True)

    def predict_step(self, batch):
        """Generates an image for every address: float32 (batch, size, size, channels) in [-1, 1]."""
        return self.generator(self.noise(batch))

    def noise(self, batch):
        """Standard normal numbers (batch, noise_dim), other ones in each update of a step."""
        return lk.random.normal(batch, self.hparams.noise_dim)

    def adversarial_losses(self, batch, training):
        """Both losses and both accuracies of every image, from one forward pass of each network."""
        weight = batch["weight"]
        images = self.generator(self.noise(batch), weight, training=training)
        real = self.discriminator(batch["image"], training=training)  # (batch,)
        fake = self.discriminator(images, training=training)  # (batch,)
        discriminator, generator = LOSSES[self.hparams.loss](real, fake, self.hparams.label_smoothing)
        return {
            "generator_loss": generator,
            "discriminator_loss": discriminator,
            "real_accuracy": tf.cast(real > 0, tf.float32),
            "fake_accuracy": tf.cast(fake < 0, tf.float32),
        }

    def discriminator_losses(self, batch, training):
        """The discriminator's part of `adversarial_losses`."""
        values = self.adversarial_losses(batch, training)
        return {name: values[name] for name in values if name != "generator_loss"}

    def generator_losses(self, batch, training):
        """The generator's part of `adversarial_losses`."""
        return {"generator_loss": self.adversarial_losses(batch, training)["generator_loss"]}

    # ---- making images

    def generate(self, n: int = SAMPLES, seed: int = 0) -> np.ndarray:
        """Generates images, uint8 (n, size, size, channels).

        Args:
            n: Number of images.
            seed: The same seed gives the same images, whatever `n` is.
        """
        lk.utils.require_int("n", n)
        return self.images_of(self.seeded_noise(n, seed))

    def interpolate(self, n: int = 8, seed: int = 0) -> np.ndarray:
        """Generates a series of images from one to another, both included: uint8 (n, size, size, channels).

        The noise moves at a constant speed on a sphere (White 2016): on a straight line it would become too short.
        """
        lk.utils.require_int("n", n, minimum=2)
        first, last = self.seeded_noise(2, seed)
        return self.between(first, last, np.linspace(0.0, 1.0, n))

    def between(self, first: np.ndarray, last: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Generates images on the way from one noise, (noise_dim,), to another, at the shares `at` (n,) of it."""
        return self.images_of(slerp(first, last, at))

    def seeded_noise(self, n: int, seed: int) -> np.ndarray:
        """Draws the noise of the `n` images of `generate`: float32 (n, noise_dim)."""
        lk.utils.require_int("seed", seed, minimum=0)
        lk.utils.require(seed < 2**32, "seed", "below 2**32", seed)
        keys = np.stack([np.arange(n), np.full(n, seed)], axis=1)
        return self.noise_of(tf.constant(keys, tf.int64)).numpy()

    def noise_of(self, keys: tf.Tensor) -> tf.Tensor:
        """Returns the noise of generated images, (rows, noise_dim), by number and seed: int64 (rows, 2)."""
        return lk.random.normal(keys, self.hparams.noise_dim, stream=GENERATING)

    def images_of(self, noise: np.ndarray) -> np.ndarray:
        """Generates the images of noise, float32 (n, noise_dim): uint8 (n, size, size, channels)."""
        parts = [self._to_images(noise[i : i + ROWS]).numpy() for i in range(0, len(noise), ROWS)]
        return np.concatenate(parts)

    @functools.cached_property
    def _to_images(self):
        """The compiled generator."""
        return tf.function(self.to_images, input_signature=[tf.TensorSpec((None, self.hparams.noise_dim), tf.float32)])

    def to_images(self, noise: tf.Tensor) -> tf.Tensor:
        """Turns noise (rows, noise_dim) into images, uint8 (rows, size, size, channels)."""
        return tf.saturate_cast(tf.round(self.generator(noise) * 127.5 + 127.5), tf.uint8)

    def exports(self):
        """Returns the endpoints of an export: see `tasks/dcgan/export.py`."""
        return endpoints(self)

    def demo(self):
        """Returns the page of `lightkeras demo`: see `tasks/dcgan/demo.py`."""
        return demo.page(self)

    def report_sections(self):
        """Returns the figures of the GAN's health for the run's report."""
        return report.sections(self)

    def write_samples(self, folder: Path, name: str) -> None:
        """Writes a grid of images, from the same noise each time, and all grids in the folder as an animated GIF."""
        figures.write_grid(folder / f"{name}.png", self.generate(SAMPLES))
        figures.write_animation(folder / "animation.gif", sorted(folder.glob("epoch_*.png")))

    def predict_command(
        self, num: int = SAMPLES, seed: int = 0, out: str = "images.png", interpolate: bool = False
    ) -> str:
        """Writes generated images to a picture: `lightkeras predict dcgan`.

        Args:
            num: Images in the picture.
            seed: The same seed gives the same images.
            out: Name of a new PNG file.
            interpolate: Draw a series of `num` images from one to another.
        """
        path = lk.utils.new_file("out", out)
        images = self.interpolate(num, seed) if interpolate else self.generate(num, seed)
        figures.write_grid(path, images)
        return f"Wrote {path}: {num} images"


def slerp(first: np.ndarray, last: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Interpolates two vectors (dim,) on a sphere (Shoemake 1985) at the shares `at` (n,): float32 (n, dim)."""
    cosine = np.dot(first, last) / np.linalg.norm(first) / np.linalg.norm(last)
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    if np.sin(angle) < 1e-6:
        return np.outer(1 - at, first).astype(np.float32) + np.outer(at, last).astype(np.float32)
    weighted = np.outer(np.sin((1 - at) * angle), first) + np.outer(np.sin(at * angle), last)
    return (weighted / np.sin(angle)).astype(np.float32)
