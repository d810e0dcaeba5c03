"""Contrastive pretraining with a linear probe: two optimizers, and two data sets that are zipped."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops


class ContrastiveModel(keras.Model):
    def __init__(self):
        super().__init__()
        self.temperature = 0.1
        self.contrastive_augmenter = keras.Sequential([layers.GaussianNoise(0.3, seed=1), layers.Dropout(0.1, seed=2)])
        self.encoder = keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(6, activation="relu")])
        self.projection_head = keras.Sequential([layers.Dense(6, activation="relu"), layers.Dense(6)])
        self.linear_probe = keras.Sequential([layers.Dense(3)])

    def compile(self, contrastive_optimizer, probe_optimizer, **kwargs):
        super().compile(**kwargs)
        self.contrastive_optimizer = contrastive_optimizer
        self.probe_optimizer = probe_optimizer
        self.probe_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.contrastive_loss_tracker = keras.metrics.Mean(name="c_loss")
        self.contrastive_accuracy = keras.metrics.SparseCategoricalAccuracy(name="c_acc")
        self.probe_loss_tracker = keras.metrics.Mean(name="p_loss")
        self.probe_accuracy = keras.metrics.SparseCategoricalAccuracy(name="p_acc")

    @property
    def metrics(self):
        return [self.contrastive_loss_tracker, self.contrastive_accuracy, self.probe_loss_tracker, self.probe_accuracy]

    def contrastive_loss(self, projections_1, projections_2):
        projections_1 = ops.normalize(projections_1, axis=1)
        projections_2 = ops.normalize(projections_2, axis=1)
        similarities = ops.matmul(projections_1, ops.transpose(projections_2)) / self.temperature
        batch_size = ops.shape(projections_1)[0]
        contrastive_labels = ops.arange(batch_size)
        self.contrastive_accuracy.update_state(contrastive_labels, similarities)
        self.contrastive_accuracy.update_state(contrastive_labels, ops.transpose(similarities))
        one = keras.losses.sparse_categorical_crossentropy(contrastive_labels, similarities, from_logits=True)
        two = keras.losses.sparse_categorical_crossentropy(
            contrastive_labels, ops.transpose(similarities), from_logits=True
        )
        return (one + two) / 2

    def train_step(self, data):
        unlabeled_images, (labeled_images, labels) = data
        images = ops.concatenate((unlabeled_images, labeled_images), axis=0)
        augmented_images_1 = self.contrastive_augmenter(images, training=True)
        augmented_images_2 = self.contrastive_augmenter(images, training=True)
        with tf.GradientTape() as tape:
            features_1 = self.encoder(augmented_images_1, training=True)
            features_2 = self.encoder(augmented_images_2, training=True)
            contrastive_loss = self.contrastive_loss(self.projection_head(features_1), self.projection_head(features_2))
        weights = self.encoder.trainable_weights + self.projection_head.trainable_weights
        gradients = tape.gradient(contrastive_loss, weights)
        self.contrastive_optimizer.apply_gradients(zip(gradients, weights))
        self.contrastive_loss_tracker.update_state(contrastive_loss)

        with tf.GradientTape() as tape:
            features = self.encoder(labeled_images, training=False)
            class_logits = self.linear_probe(features, training=True)
            probe_loss = self.probe_loss(labels, class_logits)
        gradients = tape.gradient(probe_loss, self.linear_probe.trainable_weights)
        self.probe_optimizer.apply_gradients(zip(gradients, self.linear_probe.trainable_weights))
        self.probe_loss_tracker.update_state(probe_loss)
        self.probe_accuracy.update_state(labels, class_logits)
        return {m.name: m.result() for m in self.metrics}

    def test_step(self, data):
        labeled_images, labels = data
        class_logits = self.linear_probe(self.encoder(labeled_images, training=False), training=False)
        self.probe_loss_tracker.update_state(self.probe_loss(labels, class_logits))
        self.probe_accuracy.update_state(labels, class_logits)
        return {m.name: m.result() for m in self.metrics[2:]}


def build():
    model = ContrastiveModel()
    model.compile(
        contrastive_optimizer=keras.optimizers.Adam(0.01),
        probe_optimizer=keras.optimizers.Adam(0.01),
    )
    return model


def make_data():
    numbers = np.random.default_rng(0)
    unlabeled = tf.data.Dataset.from_tensor_slices(numbers.normal(size=(14, 5)).astype("float32")).batch(4)
    labeled_x, labels = numbers.normal(size=(7, 5)).astype("float32"), numbers.integers(0, 3, 7)
    labeled = tf.data.Dataset.from_tensor_slices((labeled_x, labels)).batch(2)
    test = tf.data.Dataset.from_tensor_slices((labeled_x, labels)).batch(3)
    return {"x": tf.data.Dataset.zip((unlabeled, labeled)), "validation_data": test}


class BestProbe(keras.callbacks.Callback):
    """Keeps the best weights in memory by a metric of the validation."""

    def on_test_end(self, logs=None):
        assert set(logs) == {"p_loss", "p_acc"}


CALLBACKS = (BestProbe,)
