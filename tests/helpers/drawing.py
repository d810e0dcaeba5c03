"""Tasks that draw random numbers in their steps: a VAE, a diffusion model and a WGAN with gradient penalty."""

import keras
import tensorflow as tf

import lightkeras as lk
from helpers.toys import PointsData


def dense(units, activation=None):
    return keras.layers.Dense(units, activation=activation)


class VAE(lk.TaskModule):
    """Kingma and Welling 2014."""

    data_module = PointsData

    def configure_model(self, data):
        self.encoder, self.decoder = dense(4), dense(4)

    def configure_optimizers(self):
        return keras.optimizers.Adam(0.05)

    def losses_of(self, batch, training):
        mean, log_variance = tf.split(self.encoder(batch["x"]), 2, axis=-1)  # (batch, 2) each
        latent = lk.random.normal(batch, 2, mean, tf.exp(log_variance / 2))
        error = tf.reduce_sum(tf.square(self.decoder(latent) - batch["x"]), axis=-1)
        divergence = 0.5 * tf.reduce_sum(tf.square(mean) + tf.exp(log_variance) - 1 - log_variance, axis=-1)
        return {"loss": error + divergence, "divergence": divergence}

    def train_step(self, batch):
        return self.minimize(self.losses_of, batch)

    def test_step(self, batch):
        return self.evaluate_loss(self.losses_of, batch)

    def predict_step(self, batch):
        return self.decoder(lk.random.normal(batch, 2))


class Diffusion(lk.TaskModule):
    """Predicts the noise (Ho et al. 2020), with classes left out at random (Ho and Salimans 2021) and dropout."""

    STEPS = 20
    data_module = PointsData

    def configure_model(self, data):
        self.hidden, self.head = dense(8, "tanh"), dense(4)

    def configure_optimizers(self):
        return keras.optimizers.Adam(0.05)

    def losses_of(self, batch, training):
        step = tf.cast(lk.random.integers(batch, (1,), 0, self.STEPS), tf.float32) / self.STEPS  # (batch, 1)
        noise = lk.random.normal(batch, 4)
        label = tf.cast(batch["y"], tf.float32)[:, None] * lk.random.bernoulli(batch, (1,), 0.9)
        noisy = tf.sqrt(1 - step) * batch["x"] + tf.sqrt(step) * noise
        hidden = self.hidden(tf.concat([noisy, step, label], axis=-1))
        if training:
            hidden = lk.random.dropout(hidden, 0.2)
        return tf.reduce_mean(tf.square(self.head(hidden) - noise), axis=-1)

    def train_step(self, batch):
        return self.minimize(self.losses_of, batch)

    def test_step(self, batch):
        return self.evaluate_loss(self.losses_of, batch)


class WGAN(lk.TaskModule):
    """Two updates of the critic, with gradient penalty, before each of the generator (Gulrajani et al. 2017)."""

    data_module = PointsData

    def configure_model(self, data):
        self.generator, self.critic = dense(4), keras.Sequential([dense(8, "tanh"), dense(1)])

    def configure_optimizers(self):
        return {"critic": keras.optimizers.Adam(0.02, 0.5), "generator": keras.optimizers.Adam(0.02, 0.5)}

    def critic_losses(self, batch, training):
        real, fake = batch["x"], self.generator(lk.random.normal(batch, 3))
        between = real + lk.random.uniform(batch, (1,)) * (fake - real)
        with tf.GradientTape() as tape:
            tape.watch(between)
            score = tf.reduce_sum(self.critic(between))
        slope = tf.norm(tape.gradient(score, between), axis=-1)
        return {"critic_loss": (self.critic(fake) - self.critic(real))[:, 0] + 10 * tf.square(slope - 1)}

    def generator_losses(self, batch, training):
        return {"generator_loss": -self.critic(self.generator(lk.random.normal(batch, 3)))[:, 0]}

    def train_step(self, batch):
        self.minimize(self.critic_losses, batch)
        return {**self.minimize(self.critic_losses, batch), **self.minimize(self.generator_losses, batch)}

    def test_step(self, batch):
        losses = self.evaluate_loss(self.critic_losses, batch)
        return {**losses, **self.evaluate_loss(self.generator_losses, batch)}
