# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Two networks that compete, and digits that nobody wrote
#
# A *generator* turns random numbers into pictures. A *discriminator* is shown these and real ones, and has to tell them
# apart. Each learns from the other's mistakes, until the pictures look like handwriting (Goodfellow et al. 2014; with
# convolutions Radford et al. 2016: a DCGAN).
#
# You will see
#
# - how to define both networks, and one step that trains both,
# - why the losses of such a pair do not fall, and what to watch instead,
# - whether the generator copies its training images, and what lies between two of its pictures,
# - that a run which is stopped in the middle ends with the same bits as one that is not.
#
# Change any cell and run it again. All of it takes about ten minutes on two cores that do nothing else. (The outputs below are
# of two cores with much other work.)

# %% [markdown]
# ## Install
#
# The cell does nothing where `lightkeras` is there already.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("lightkeras") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "../.."], check=True)

# %%
import csv
import signal

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from keras import layers

import lightkeras as lk
from tasks.dcgan import MNISTData
from tasks.dcgan.figures import make_grid, write_grid

tf.get_logger().setLevel("ERROR")  # several trainings in one notebook: TensorFlow would give advice on loops

# %% [markdown]
# ## Choose
#
# `source` may also be a folder with pictures of your own. `"sample"` is the 1,797 small digits of scikit-learn: they need no
# download.

# %% tags=["parameters"]
source = "download"  # MNIST: 11 MB, checked by its SHA-256 sum, and kept for the next time
epochs = 6
filters = 32

# %% [markdown]
# ## Look at the data
#
# A `DataModule` knows where the data comes from, how it is split, and how a batch is made. The pixels of a batch lie between
# -1 and 1.

# %%
data = MNISTData(source, image_size=16 if source == "sample" else None, batch_size=128)
data.prepare_data()
data.setup("fit")
training, held_out = data.splits["train"][0], data.splits["validation"][0]
print(f"{len(training):,} images of {data.image_shape} to train on, {len(held_out):,} held out")


def show(images, columns=12, title=None):
    """Shows images uint8 (n, height, width, 1) in rows."""
    rows = -(-len(images) // columns)
    _, axes = plt.subplots(figsize=(8, 0.7 * rows + (0.3 if title else 0)), layout="constrained")
    axes.imshow(make_grid(images, columns).squeeze(), cmap="gray")
    axes.axis("off")
    axes.set_title(title or "", fontsize=10)
    plt.show()


show(training[:24])

# %% [markdown]
# ## The networks
#
# The generator begins with a small picture of many channels, and doubles its sides twice by *transposed convolutions*. The
# kernel of 4 pixels is a multiple of the stride of 2: so every pixel is written equally often, and no chessboard appears
# (Odena et al. 2016). The discriminator goes the other way, down to one number: above 0 it says "real". Dropout keeps it
# from winning too early.


# %%
def build_generator(image_shape, noise_dim):
    side = image_shape[0] // 4  # 7 for MNIST
    return keras.Sequential(
        [
            keras.Input((noise_dim,)),
            layers.Dense(side * side * 4 * filters, use_bias=False),
            layers.Reshape((side, side, 4 * filters)),
            layers.BatchNormalization(),
            layers.LeakyReLU(0.2),
            layers.Conv2DTranspose(2 * filters, 4, strides=2, padding="same", use_bias=False),  # 14 x 14
            layers.BatchNormalization(),
            layers.LeakyReLU(0.2),
            layers.Conv2DTranspose(image_shape[-1], 4, strides=2, padding="same", activation="tanh"),  # 28 x 28
        ],
        name="generator",
    )


def build_discriminator(image_shape):
    return keras.Sequential(
        [
            keras.Input(image_shape),
            layers.Conv2D(filters, 4, strides=2, padding="same"),
            layers.LeakyReLU(0.2),
            layers.Dropout(0.3),
            layers.Conv2D(2 * filters, 4, strides=2, padding="same"),
            layers.LeakyReLU(0.2),
            layers.Dropout(0.3),
            layers.Flatten(),
            layers.Dense(1),
        ],
        name="discriminator",
    )


# %% [markdown]
# ## The task
#
# A `TaskModule` is a `keras.Model` with its losses and its optimizers. Here it has two of each. The loss that is called
# `generator_loss` is the one that the optimizer `generator` makes smaller, by changing the layer `self.generator`, and
# likewise for the discriminator. One `train_step` updates both.
#
# With $D(x)$ for the probability that the discriminator gives to "real", it wants a high $D(x)$ for real images and a low
# one for generated ones; its loss is $-\ln D(x) - \ln(1 - D(G(z)))$. The generator wants the opposite: its loss is
# $-\ln D(G(z))$. The network returns $D$ before the sigmoid, so both are a `softplus`.
#
# `lk.random.normal(batch, ...)` draws the noise of an image from the run's seed and the image's place in the data. So the
# noise is the same on one device or many, and after a run was stopped and resumed.


# %%
class DCGAN(lk.TaskModule):
    data_module = MNISTData
    unit = "images"
    shown_metrics = ("val_pixel_frechet_distance", "generator_loss", "discriminator_loss")
    score_names = ("pixel_frechet_distance",)
    prefer_jit_compile = False

    def __init__(self, noise_dim=64, learning_rate=3e-4):
        super().__init__()

    def configure_model(self, data):
        self.generator = build_generator(data.image_shape, self.hparams.noise_dim)
        self.discriminator = build_discriminator(data.image_shape)

    def configure_optimizers(self):
        rate = self.hparams.learning_rate
        return {name: keras.optimizers.Adam(rate, beta_1=0.5) for name in ("generator", "discriminator")}

    def train_step(self, batch):
        return self.minimize(self.adversarial_losses, batch)

    def test_step(self, batch):
        return self.evaluate_loss(self.adversarial_losses, batch)

    def adversarial_losses(self, batch, training):
        """Both losses and both accuracies: a value for each image."""
        noise = lk.random.normal(batch, self.hparams.noise_dim)
        fakes = self.generator(noise, training=training)
        real = self.discriminator(batch["image"], training=training)[:, 0]
        fake = self.discriminator(fakes, training=training)[:, 0]
        return {
            "generator_loss": keras.ops.softplus(-fake),
            "discriminator_loss": keras.ops.softplus(-real) + keras.ops.softplus(fake),
            "real_accuracy": keras.ops.cast(real > 0, "float32"),
            "fake_accuracy": keras.ops.cast(fake < 0, "float32"),
        }

    def score(self, batches):
        """The Fréchet distance between the held-out images and as many generated ones."""
        distances = []
        for batch in batches:
            noise = lk.random.normal(batch, self.hparams.noise_dim)
            real, fakes = (keras.ops.convert_to_numpy(x) / 2 + 0.5 for x in (batch["image"], self.generator(noise)))
            kept = batch["weight"].numpy() > 0
            distances.append(lk.metrics.PixelFrechetDistance.from_images(real, fakes, kept))
        return {"pixel_frechet_distance": sum(distances[1:], distances[0])}  # of all batches together

    def draw(self, noise):
        """Turns noise (n, noise_dim) into images, uint8 (n, height, width, 1)."""
        return np.round(keras.ops.convert_to_numpy(self.generator(noise)) * 127.5 + 127.5).astype(np.uint8)

    def generate(self, n, seed=0):
        return self.draw(np.random.default_rng(seed).normal(size=(n, self.hparams.noise_dim)).astype("float32"))

    def write_samples(self, folder, name):
        """After every epoch: the pictures of the same noise."""
        write_grid(folder / f"{name}.png", self.generate(48), columns=12)


# %% [markdown]
# ## Before training
#
# `lk.show` prints what a run will be: the splits, the weights, and how long it will take, from a few timed updates of a
# copy. It trains nothing.

# %%
options = {"max_epochs": epochs, "seed": 0, "log_every_n_steps": 10}
print(lk.show(DCGAN(), data, **options))

# %% [markdown]
# ## Train
#
# In a notebook the Trainer shows a bar with the remaining time of the whole run. Beneath are the curves, and the pictures that
# the generator makes of the same noise after each epoch.

# %%
task = DCGAN()
trainer = lk.Trainer(**options, enable_model_summary=False)
history = trainer.fit(task, data)

# %% [markdown]
# The first row of every epoch, one beneath the other: each column is one and the same noise. First there are spots, then
# strokes, then digits. Some columns change from one digit into another: nobody tells the generator which it is to write.

# %%
samples = sorted((trainer.run_dir / "samples").glob("epoch_*.png"))
figure, axes = plt.subplots(len(samples), figsize=(8, 0.72 * len(samples)), layout="constrained", squeeze=False)
for number, (axis, path) in enumerate(zip(axes[:, 0], samples, strict=True), 1):
    picture = plt.imread(path)
    axis.imshow(picture[: picture.shape[0] // 4], cmap="gray")
    axis.set_ylabel(number, rotation=0, labelpad=12)
    axis.set(xticks=[], yticks=[])
figure.supylabel("epochs", fontsize=10)
plt.show()

# %% [markdown]
# ## Why the losses do not fall
#
# Elsewhere a loss measures the distance to a goal that stands still. Here it measures the *opponent*. If the generator
# becomes better, the discriminator's loss rises; then the discriminator learns the new weakness, and the generator's loss
# rises. Pictures can improve for hours while both curves go sideways.
#
# Two values help to read them. A discriminator that can only guess says 1/2 every time: its loss is $2 \ln 2 = 1.39$, the
# generator's is $\ln 2 = 0.69$. (The dotted lines.) Both curves come near them within a hundred updates, when the pictures are
# spots. They are still there at the end, when the pictures are digits.

# %%
with (trainer.run_dir / "metrics.csv").open() as file:
    rows = [row for row in csv.DictReader(file) if row["generator_loss"]]
updates = [int(row["step"]) for row in rows]
figure, axes = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
guesses = {"generator_loss": np.log(2), "discriminator_loss": 2 * np.log(2)}
for (name, guess), colour in zip(guesses.items(), ("tab:blue", "tab:orange"), strict=True):
    axes[0].plot(updates, [float(row[name]) for row in rows], color=colour, linewidth=1, label=name)
    axes[0].axhline(guess, color=colour, linestyle=":")
axes[0].set(xlabel="updates", ylabel="nats", title="losses, and those of a guess", ylim=(0, None))
for name in ("real_accuracy", "fake_accuracy"):
    axes[1].plot(updates, [float(row[name]) for row in rows], linewidth=1, label=name)
axes[1].set(xlabel="updates", title="the discriminator's accuracies", ylim=(0, 1.02))
distances = history.history["val_pixel_frechet_distance"]
axes[2].plot(range(1, len(distances) + 1), distances, marker="o", color="tab:green", label="Fréchet distance")
axes[2].set(xlabel="epochs", title="distance of held-out images", ylim=(0, None))
for axis in axes:
    axis.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## What to watch instead
#
# - **The accuracies.** Both near 1 and staying there: the discriminator has won, and the generator learns nothing more. Both
#   near 1/2: it can only guess. In between, as here, the two are a match for each other.
# - **The Fréchet distance** on the right above (Heusel et al. 2017): how far the mean and the covariance of the generated
#   images are from those of held-out ones. Here both are shrunk to 8 x 8 pixels, so it costs little. It falls while the losses
#   stand still. Its lowest value is not 0: two sets of real images are a small distance apart too.
# - **Coverage** (Naeem et al. 2020): the share of held-out images that have a generated image near them. A generator that
#   writes perfect ones and nothing else has a low coverage.
# - **The nearest training image.** A generator can also win by copying. Then the distance to the nearest training image is
#   much smaller than that of held-out images.
# - **The pictures.** No figure replaces a look.

# %%
real = held_out[:1000]
images = task.generate(len(real), seed=1)
half = len(real) // 2
halves = [part / np.float32(255) for part in (real[:half], real[half : 2 * half])]
between = lk.metrics.PixelFrechetDistance.from_images(*halves)
noise = np.random.default_rng(0).integers(0, 256, real.shape).astype(np.uint8)
print(f"Fréchet distance: {distances[0]:.2f} after 1 epoch, {distances[-1]:.2f} after {epochs}")
print(f"  of one half of the real images to the other half: {between.result():.2f}")
print(f"coverage of {len(real):,} held-out images: {lk.metrics.coverage(real, images):.2f}")
print(f"  by as many training images: {lk.metrics.coverage(real, training[: len(real)]):.2f}")
print(f"  by noise: {lk.metrics.coverage(real, noise):.2f}")
nearest, apart = lk.metrics.find_nearest(images[:200], training)
_, usual = lk.metrics.find_nearest(real[:200], training)
print(f"mean distance to the nearest training image: {apart.mean():.2f}, of held-out images {usual.mean():.2f}")

# %%
show(
    np.concatenate([images[:12], training[nearest[:12]]]),
    title="generated; below each the training image nearest to it",
)

# %% [markdown]
# Nothing is copied: the generated images are farther from the training images than other people's digits are. Half of the
# held-out digits have a generated one near them, so there is still much to learn.
#
# ## Use it
#
# New noise gives new digits. Most are read at once; some are no digits at all. The longer training of the whole task (see the
# end) has fewer of these.

# %%
show(task.generate(60, seed=2))

# %% [markdown]
# Between two points of noise lie pictures too. Each row goes from one digit to another in small steps. The noise moves on a
# sphere: on a straight line it would become shorter in the middle than any noise that the generator has seen.

# %%
generator = np.random.default_rng(3)
ways = []
for _ in range(4):
    first, last = generator.normal(size=(2, task.hparams.noise_dim))
    angle = np.arccos(first @ last / np.linalg.norm(first) / np.linalg.norm(last))
    ways += [
        (np.sin((1 - t) * angle) * first + np.sin(t * angle) * last) / np.sin(angle) for t in np.linspace(0, 1, 12)
    ]
show(task.draw(np.array(ways, "float32")))

# %% [markdown]
# ## Stop it, resume it
#
# Two networks, two Adams with two moments of every weight, dropout, noise, batch statistics, the order of the images: a run
# has many parts, and one that is forgotten leads the resumed run astray.
#
# Below, a run is stopped in the middle of its first epoch, by the signal that a cluster's scheduler sends. A *new* task then
# takes up where it ended. Beside it is a run that nobody stopped.


# %%
class Stop(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if self.model.global_step == 7:
            signal.raise_signal(signal.SIGTERM)


def train(ckpt_path=None, callbacks=()):
    task = DCGAN()
    trainer = lk.Trainer(max_steps=12, seed=1, default_root_dir="runs/stopped", logger=False, callbacks=[*callbacks],
                         enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    trainer.fit(task, data, ckpt_path=ckpt_path)
    return task, trainer.run_dir


whole, _ = train()
stopped, folder = train(callbacks=[Stop()])
resumed, _ = train(ckpt_path=folder)
pairs = zip(whole.state_variables().values(), resumed.state_variables().values(), strict=True)
same = [np.array_equal(a.numpy(), b.numpy()) for a, b in pairs]
print(f"stopped after {stopped.global_step} updates, resumed, {resumed.global_step} in the end")
print(f"{sum(same)} of {len(same)} arrays (weights, moments, random states) are equal to the last bit")

# %% [markdown]
# A run that is killed without any warning loses the updates since its last checkpoint, and computes them again: with the same
# result.
#
# ## What is left of it
#
# The run's folder holds everything. `report.html` is a page to open in a browser, a single file: the curves, the pictures of
# all epochs, where the time went, and the whole configuration.

# %%
print(*sorted(path.name for path in trainer.run_dir.iterdir()), sep="\n")

# %% [markdown]
# A checkpoint is enough to draw: neither the data nor an optimizer is needed. No metric tells surely which checkpoint of a GAN
# is the best, so the last one is taken.

# %%
again = DCGAN.load_from_checkpoint(trainer.run_dir)
show(again.generate(12, seed=4))

# %% [markdown]
# ## Where lightkeras saved you work
#
# | you would have written | here |
# | --- | --- |
# | two gradient tapes, two `apply_gradients`, and which variables belong to which | a dict of losses and a dict of optimizers |
# | a loop over epochs, validation, checkpoints, logs, sample pictures | `Trainer(...).fit(task, data)` |
# | noise that is the same after a restart, and on any number of devices | `lk.random.normal(batch, ...)` |
# | a restart in the middle of an epoch | `ckpt_path=...` |
# | Fréchet distance, coverage, nearest images | `lk.metrics` |
#
# Next: `filters = 64` and `epochs = 20` for better digits, pictures of your own by `source = "my_pictures/"`, or
# [the whole task](README.md) by `lightkeras fit dcgan`: there, batch normalisation is the same on any number of devices,
# other losses can be chosen, and a classifier judges the digits.
