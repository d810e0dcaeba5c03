"""DCGAN as the TensorFlow tutorial "Deep Convolutional Generative Adversarial Network" wrote it (Apache 2.0).

A `tf.function` with two tapes over one forward pass of each network. For 28 x 28 pixels and 64 filters the networks are
the tutorial's.
"""

import keras
import tensorflow as tf
from keras import layers


def networks(side: int, noise: int, filters: int, dropout: float) -> tuple[keras.Model, keras.Model]:
    """The generator, noise (batch, noise) to images (batch, side, side, 1), and the discriminator, to (batch, 1)."""
    sizes, quarter = {"kernel_size": 5, "padding": "same", "use_bias": False}, side // 4
    generator = keras.Sequential([
        layers.Input((noise,)),
        layers.Dense(quarter**2 * 4 * filters, use_bias=False), layers.BatchNormalization(), layers.LeakyReLU(0.3),
        layers.Reshape((quarter, quarter, 4 * filters)),
        layers.Conv2DTranspose(2 * filters, strides=1, **sizes), layers.BatchNormalization(), layers.LeakyReLU(0.3),
        layers.Conv2DTranspose(filters, strides=2, **sizes), layers.BatchNormalization(), layers.LeakyReLU(0.3),
        layers.Conv2DTranspose(1, strides=2, activation="tanh", **sizes),
    ])  # fmt: skip
    discriminator = keras.Sequential([
        layers.Input((side, side, 1)),
        layers.Conv2D(filters, 5, 2, padding="same"), layers.LeakyReLU(0.3), layers.Dropout(dropout),
        layers.Conv2D(2 * filters, 5, 2, padding="same"), layers.LeakyReLU(0.3), layers.Dropout(dropout),
        layers.Flatten(), layers.Dense(1),
    ])  # fmt: skip
    return generator, discriminator


class Tutorial:
    """The tutorial's networks, optimizers and step."""

    def __init__(self, side: int, noise: int, filters: int, dropout: float, batch: int):
        self.generator, self.discriminator = networks(side, noise, filters, dropout)
        self.generator_optimizer = keras.optimizers.Adam(1e-4)
        self.discriminator_optimizer = keras.optimizers.Adam(1e-4)
        self.cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)
        self.shape_of_noise = (batch, noise)
        self.train_step = tf.function(self._train_step)

    def discriminator_loss(self, real, fake):
        """Of the logits of real and generated images."""
        return self.cross_entropy(tf.ones_like(real), real) + self.cross_entropy(tf.zeros_like(fake), fake)

    def generator_loss(self, fake):
        """Of the logits of generated images."""
        return self.cross_entropy(tf.ones_like(fake), fake)

    def _train_step(self, images):
        noise = tf.random.normal(self.shape_of_noise)
        with tf.GradientTape() as gen_tape, tf.GradientTape() as disc_tape:
            generated = self.generator(noise, training=True)
            real, fake = self.discriminator(images, training=True), self.discriminator(generated, training=True)
            gen_loss, disc_loss = self.generator_loss(fake), self.discriminator_loss(real, fake)
        of_generator = gen_tape.gradient(gen_loss, self.generator.trainable_variables)
        of_discriminator = disc_tape.gradient(disc_loss, self.discriminator.trainable_variables)
        self.generator_optimizer.apply_gradients(zip(of_generator, self.generator.trainable_variables, strict=True))
        pairs = zip(of_discriminator, self.discriminator.trainable_variables, strict=True)
        self.discriminator_optimizer.apply_gradients(pairs)
        return gen_loss, disc_loss
