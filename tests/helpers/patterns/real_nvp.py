"""A RealNVP whose layers have regularizers, which its own step leaves out."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops, regularizers


def Coupling(input_shape):
    inputs = keras.Input(shape=(input_shape,))
    hidden = {"activation": "relu", "kernel_regularizer": regularizers.l2(0.01)}
    t = layers.Dense(8, **hidden)(inputs)
    t = layers.Dense(input_shape, activation="linear", kernel_regularizer=regularizers.l2(0.01))(t)
    s = layers.Dense(8, **hidden)(inputs)
    s = layers.Dense(input_shape, activation="tanh", kernel_regularizer=regularizers.l2(0.01))(s)
    return keras.Model(inputs=inputs, outputs=[s, t])


class RealNVP(keras.Model):
    def __init__(self, num_coupling_layers):
        super().__init__()
        self.num_coupling_layers = num_coupling_layers
        self.masks = np.array([[0, 1], [1, 0]] * (num_coupling_layers // 2), dtype="float32")
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.layers_list = [Coupling(2) for i in range(num_coupling_layers)]

    @property
    def metrics(self):
        return [self.loss_tracker]

    def call(self, x, training=True):
        log_det_inv = 0
        direction = -1 if training else 1
        for i in range(self.num_coupling_layers)[::direction]:
            x_masked = x * self.masks[i]
            reversed_mask = 1 - self.masks[i]
            s, t = self.layers_list[i](x_masked)
            s *= reversed_mask
            t *= reversed_mask
            gate = (direction - 1) / 2
            x = reversed_mask * (x * ops.exp(direction * s) + direction * t * ops.exp(gate * s)) + x_masked
            log_det_inv += gate * ops.sum(s, axis=1)
        return x, log_det_inv

    def log_loss(self, x):
        """The negative log-likelihood under a standard normal."""
        y, logdet = self(x)
        log_prob = -0.5 * ops.sum(ops.square(y), axis=1) - np.log(2 * np.pi).astype("float32")
        return -ops.mean(log_prob + logdet)

    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss = self.log_loss(data)
        g = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(g, self.trainable_variables))
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}

    def test_step(self, data):
        loss = self.log_loss(data)
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}


def build():
    model = RealNVP(num_coupling_layers=4)
    model.compile(optimizer=keras.optimizers.Adam(learning_rate=0.01))
    return model


def make_data():
    moons = np.random.default_rng(0).normal(size=(14, 2)).astype("float32")
    return {"x": moons, "validation_data": (moons[:5],), "batch_size": 4}


CALLBACKS = (lambda: keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=1, min_delta=10.0),)
