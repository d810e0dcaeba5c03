"""DCGAN's training step: milliseconds of the TensorFlow tutorial's own, and of `Trainer.fit` with the same networks.

MNIST's shape and number of images (random ones, in memory), batches of 128, Adam, dropout 0.3. A stretch is `STEPS`
updates within an epoch, the reading of batches and for the Trainer its logs included; what comes at an epoch's end
(validation, checkpoint, pictures) is in none. oneDNN's operations are on in both; a third competitor is the tutorial's
with them off, as TensorFlow itself has them on some processors.
"""

import tempfile
from pathlib import Path

import numpy as np

from benchmarks import harness

STEPS, BATCH, IMAGES, SIDE, NOISE = 20, 128, 60_000, 28, 100
TUTORIAL = "tutorial's loop"
COMPETITORS = {
    TUTORIAL: "benchmarks.dcgan_step:tutorial",
    "tutorial's loop, oneDNN off": "benchmarks.dcgan_step:tutorial_without_onednn",
    "Trainer.fit": "benchmarks.dcgan_step:trainer_fit",
}


def _images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 1), np.uint8)


# ---- the tutorial's (https://www.tensorflow.org/tutorials/generative/dcgan)


def _generator():
    from keras import Sequential, layers

    sizes = {"kernel_size": 5, "padding": "same", "use_bias": False}
    return Sequential([
        layers.Input((NOISE,)),
        layers.Dense(7 * 7 * 256, use_bias=False), layers.BatchNormalization(), layers.LeakyReLU(),
        layers.Reshape((7, 7, 256)),
        layers.Conv2DTranspose(128, strides=1, **sizes), layers.BatchNormalization(), layers.LeakyReLU(),
        layers.Conv2DTranspose(64, strides=2, **sizes), layers.BatchNormalization(), layers.LeakyReLU(),
        layers.Conv2DTranspose(1, strides=2, activation="tanh", **sizes),
    ])  # fmt: skip


def _discriminator():
    from keras import Sequential, layers

    return Sequential([
        layers.Input((SIDE, SIDE, 1)),
        layers.Conv2D(64, 5, 2, padding="same"), layers.LeakyReLU(), layers.Dropout(0.3),
        layers.Conv2D(128, 5, 2, padding="same"), layers.LeakyReLU(), layers.Dropout(0.3),
        layers.Flatten(), layers.Dense(1),
    ])  # fmt: skip


def _tutorial_step():
    import keras
    import tensorflow as tf

    generator, discriminator = _generator(), _discriminator()
    generator_optimizer, discriminator_optimizer = keras.optimizers.Adam(1e-4), keras.optimizers.Adam(1e-4)
    cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)

    @tf.function
    def train_step(images):
        noise = tf.random.normal([BATCH, NOISE])
        with tf.GradientTape() as of_generator, tf.GradientTape() as of_discriminator:
            generated = generator(noise, training=True)
            real, fake = discriminator(images, training=True), discriminator(generated, training=True)
            generator_loss = cross_entropy(tf.ones_like(fake), fake)
            discriminator_loss = cross_entropy(tf.ones_like(real), real) + cross_entropy(tf.zeros_like(fake), fake)
        for tape, loss, network, optimizer in (
            (of_generator, generator_loss, generator, generator_optimizer),
            (of_discriminator, discriminator_loss, discriminator, discriminator_optimizer),
        ):
            gradients = tape.gradient(loss, network.trainable_variables)
            optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))

    return train_step


def tutorial(gate, onednn: bool = True) -> None:
    """The tutorial's: a Python loop over batches, and a `tf.function` with two tapes."""
    harness.use_onednn(onednn)
    import tensorflow as tf

    images = (_images(IMAGES).astype(np.float32) - 127.5) / 127.5
    dataset = tf.data.Dataset.from_tensor_slices(images).shuffle(IMAGES).batch(BATCH, drop_remainder=True)
    train_step, batches = _tutorial_step(), iter(dataset.repeat())
    while True:
        gate()
        for _ in range(STEPS):
            train_step(next(batches))


def tutorial_without_onednn(gate) -> None:
    """The same, without oneDNN's operations."""
    tutorial(gate, onednn=False)


# ---- ours


def trainer_fit(gate) -> None:
    """`Trainer.fit` of the task as it comes, default callbacks too; a row of the logs every `STEPS` updates."""
    harness.use_onednn(True)
    import lightkeras as lk
    from tasks.dcgan import DCGAN, MNISTData

    class AtLogs(lk.Callback):
        def on_train_begin(self, logs=None):
            gate()

        def on_log(self, record):
            gate()

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "images.npz"
        images = _images(IMAGES + BATCH)
        np.savez(source, x_train=images[BATCH:], x_test=images[:BATCH])
        trainer = lk.Trainer(default_root_dir=folder, max_epochs=10**6, log_every_n_steps=STEPS, callbacks=[AtLogs()])
        trainer.fit(DCGAN(), MNISTData(str(source), batch_size=BATCH))


def main(arguments: list[str]) -> int:
    """Runs the benchmark; returns the exit code."""
    chosen = harness.options("dcgan_step").parse_args(arguments)
    raced = harness.race(COMPETITORS, chosen.rounds)
    samples = {name: [seconds / STEPS * 1e3 for seconds in c.seconds] for name, c in raced.items()}
    harness.show("DCGAN's step, 28 x 28 images", "ms", samples, base=TUTORIAL)
    start = {name: c.start_seconds for name, c in raced.items()}
    harness.write(chosen.out, "dcgan_step", {"steps": STEPS, "batch": BATCH, "images": IMAGES}, samples, start)
    return 0
