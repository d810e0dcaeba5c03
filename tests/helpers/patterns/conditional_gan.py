"""A conditional GAN with two optimizers in `compile`."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

CLASSES, LATENT = 3, 4


class ConditionalGAN(keras.Model):
    def __init__(self, discriminator, generator, latent_dim):
        super().__init__()
        self.discriminator = discriminator
        self.generator = generator
        self.latent_dim = latent_dim
        self.seed_generator = keras.random.SeedGenerator(1337)
        self.gen_loss_tracker = keras.metrics.Mean(name="generator_loss")
        self.disc_loss_tracker = keras.metrics.Mean(name="discriminator_loss")

    @property
    def metrics(self):
        return [self.gen_loss_tracker, self.disc_loss_tracker]

    def compile(self, d_optimizer, g_optimizer, loss_fn):
        super().compile()
        self.d_optimizer = d_optimizer
        self.g_optimizer = g_optimizer
        self.loss_fn = loss_fn

    def train_step(self, data):
        # Unpack the data.
        real_images, one_hot_labels = data
        image_one_hot_labels = one_hot_labels[:, None, None]
        image_one_hot_labels = ops.repeat(image_one_hot_labels, repeats=[6 * 6])
        image_one_hot_labels = ops.reshape(image_one_hot_labels, (-1, 6, 6, CLASSES))

        # Sample random points in the latent space and concatenate the labels.
        batch_size = ops.shape(real_images)[0]
        random_latent_vectors = keras.random.normal(shape=(batch_size, self.latent_dim), seed=self.seed_generator)
        random_vector_labels = ops.concatenate([random_latent_vectors, one_hot_labels], axis=1)

        # Train the discriminator on generated and real images.
        generated_images = self.generator(random_vector_labels)
        fake = ops.concatenate([generated_images, image_one_hot_labels], -1)
        real = ops.concatenate([real_images, image_one_hot_labels], -1)
        combined_images = ops.concatenate([fake, real], axis=0)
        labels = ops.concatenate([ops.ones((batch_size, 1)), ops.zeros((batch_size, 1))], axis=0)
        with tf.GradientTape() as tape:
            predictions = self.discriminator(combined_images)
            d_loss = self.loss_fn(labels, predictions)
        grads = tape.gradient(d_loss, self.discriminator.trainable_weights)
        self.d_optimizer.apply_gradients(zip(grads, self.discriminator.trainable_weights))

        # Train the generator by labels that say "all real images".
        random_latent_vectors = keras.random.normal(shape=(batch_size, self.latent_dim), seed=self.seed_generator)
        random_vector_labels = ops.concatenate([random_latent_vectors, one_hot_labels], axis=1)
        misleading_labels = ops.zeros((batch_size, 1))
        with tf.GradientTape() as tape:
            fake_images = self.generator(random_vector_labels)
            predictions = self.discriminator(ops.concatenate([fake_images, image_one_hot_labels], -1))
            g_loss = self.loss_fn(misleading_labels, predictions)
        grads = tape.gradient(g_loss, self.generator.trainable_weights)
        self.g_optimizer.apply_gradients(zip(grads, self.generator.trainable_weights))

        self.gen_loss_tracker.update_state(g_loss)
        self.disc_loss_tracker.update_state(d_loss)
        return {"g_loss": self.gen_loss_tracker.result(), "d_loss": self.disc_loss_tracker.result()}


class Samples(keras.callbacks.Callback):
    """Draws an image of each class, by the model's own generator."""

    def on_epoch_end(self, epoch, logs=None):
        codes = np.concatenate([np.zeros((CLASSES, LATENT)), np.eye(CLASSES)], axis=1).astype("float32")
        logs["sample"] = float(np.mean(self.model.generator(codes)))


def build():
    discriminator = keras.Sequential(
        [
            keras.Input((6, 6, 1 + CLASSES)),
            layers.Conv2D(4, 3, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.GlobalMaxPooling2D(),
            layers.Dense(1),
        ],
        name="discriminator",
    )
    generator = keras.Sequential(
        [
            keras.Input((LATENT + CLASSES,)),
            layers.Dense(3 * 3 * 4),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Reshape((3, 3, 4)),
            layers.Conv2DTranspose(1, 4, strides=2, padding="same", activation="sigmoid"),
        ],
        name="generator",
    )
    model = ConditionalGAN(discriminator=discriminator, generator=generator, latent_dim=LATENT)
    model.compile(
        d_optimizer=keras.optimizers.Adam(learning_rate=0.003),
        g_optimizer=keras.optimizers.Adam(learning_rate=0.003),
        loss_fn=keras.losses.BinaryCrossentropy(from_logits=True),
    )
    return model


def make_data():
    numbers = np.random.default_rng(0)
    images = numbers.uniform(size=(14, 6, 6, 1)).astype("float32")
    labels = keras.utils.to_categorical(numbers.integers(0, CLASSES, 14), CLASSES)
    return {"x": images, "y": labels, "batch_size": 4}


CALLBACKS = (Samples,)
