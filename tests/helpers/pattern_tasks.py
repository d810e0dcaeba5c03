"""Patterns of `helpers.patterns` as tasks: a conditional GAN, RealNVP, distillation, contrastive pretraining."""

import keras
import numpy as np
import tensorflow as tf

import lightkeras as lk
from helpers.drawing import dense
from helpers.toys import PointsData


class ConditionalGAN(lk.TaskModule):
    """Both networks see the class; the generator is updated after the discriminator."""

    data_module = PointsData

    def configure_model(self, data):
        self.generator, self.discriminator = (keras.Sequential([dense(6, "tanh"), dense(n)]) for n in (4, 1))

    def configure_optimizers(self):
        return {name: keras.optimizers.Adam(0.02) for name in ("discriminator", "generator")}

    def imagine(self, batch):
        label = tf.one_hot(batch["y"], 2)
        fake = self.generator(tf.concat([lk.random.normal(batch, 3), label], axis=-1))
        return tf.concat([fake, label], axis=-1), tf.concat([batch["x"], label], axis=-1)

    def discriminator_losses(self, batch, training):
        fake, real = (self.discriminator(points)[:, 0] for points in self.imagine(batch))
        return {"discriminator_loss": tf.nn.softplus(fake) + tf.nn.softplus(-real)}

    def generator_losses(self, batch, training):
        fake, _ = self.imagine(batch)
        return {"generator_loss": tf.nn.softplus(-self.discriminator(fake)[:, 0])}

    def train_step(self, batch):
        return {**self.minimize(self.discriminator_losses, batch), **self.minimize(self.generator_losses, batch)}


class RealNVP(lk.TaskModule):
    """Its layers have regularizers, which the loss leaves out."""

    data_module = PointsData
    MASKS = np.array([[0, 1, 0, 1], [1, 0, 1, 0]], np.float32)

    def configure_model(self, data):
        heavy = keras.regularizers.L2(10.0)
        self.couplings = [
            keras.Sequential([dense(6, "tanh"), keras.layers.Dense(8, kernel_regularizer=heavy)]) for _ in self.MASKS
        ]

    def configure_optimizers(self):
        return keras.optimizers.Adam(0.02)

    def losses_of(self, batch, training):
        x, volume = batch["x"], 0.0
        for mask, coupling in zip(self.MASKS, self.couplings, strict=True):
            scale, shift = tf.split(coupling(x * mask) * np.tile(1 - mask, 2), 2, axis=-1)  # (batch, 4) each
            scale = tf.tanh(scale)
            x, volume = x * tf.exp(-scale) - shift, volume - tf.reduce_sum(scale, axis=-1)
        return 0.5 * tf.reduce_sum(tf.square(x), axis=-1) - volume

    def train_step(self, batch):
        return self.minimize(self.losses_of, batch, regularize=False)

    def test_step(self, batch):
        return self.evaluate_loss(self.losses_of, batch, regularize=False)


class Distillation(lk.TaskModule):
    """A student learns from the labels and from a frozen teacher; its accuracy is a metric of Keras'."""

    data_module = PointsData
    TEMPERATURE = 3.0

    def configure_model(self, data):
        self.teacher, self.student = keras.Sequential([dense(8, "tanh"), dense(2)]), dense(2)
        self.teacher.trainable = False
        self.accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")

    def configure_optimizers(self):
        return keras.optimizers.Adam(0.05)

    def losses_of(self, batch, training):
        logits = self.student(batch["x"])
        soft, taught = (tf.nn.softmax(one / self.TEMPERATURE) for one in (logits, self.teacher(batch["x"])))
        self.accuracy.update_state(batch["y"], logits)
        of_labels = keras.losses.sparse_categorical_crossentropy(batch["y"], logits, from_logits=True)
        return 0.1 * of_labels + 0.9 * self.TEMPERATURE**2 * keras.losses.kl_divergence(taught, soft)

    def train_step(self, batch):
        return self.minimize(self.losses_of, batch)

    def test_step(self, batch):
        return self.evaluate_loss(self.losses_of, batch)


class Contrastive(lk.TaskModule):
    """Finds each row's second view among those of the batch; a linear probe learns the classes beside it."""

    data_module = PointsData

    def configure_model(self, data):
        self.encoder, self.head, self.probe = dense(6, "relu"), dense(4), dense(2)

    def configure_optimizers(self):
        return {"contrastive": keras.optimizers.Adam(0.02), "probe": keras.optimizers.Adam(0.02)}

    def optimizer_variables(self, name):
        layers = {"contrastive": (self.encoder, self.head), "probe": (self.probe,)}[name]
        return [variable for layer in layers for variable in layer.trainable_variables]

    def losses_of(self, batch, training):
        views = [batch["x"] + lk.random.normal(batch, 4, 0.0, 0.3) for _ in range(2)]
        one, other = (tf.math.l2_normalize(self.head(self.encoder(view)), axis=-1) for view in views)
        absent = 1e9 * (1 - lk.data.batches.weights_of(batch))  # padding is no view
        similar = tf.matmul(one, other, transpose_b=True) / 0.1 - absent  # (batch, batch)
        found = keras.losses.sparse_categorical_crossentropy(tf.range(tf.shape(one)[0]), similar, from_logits=True)
        logits = self.probe(tf.stop_gradient(self.encoder(batch["x"])))
        probed = keras.losses.sparse_categorical_crossentropy(batch["y"], logits, from_logits=True)
        return {"contrastive_loss": found, "probe_loss": probed}

    def train_step(self, batch):
        return self.minimize(self.losses_of, batch)
