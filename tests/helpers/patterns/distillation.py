"""Knowledge distillation: `compute_loss` of a student that learns from a teacher."""

import keras
import numpy as np
from keras import layers, ops


class Distiller(keras.Model):
    def __init__(self, student, teacher):
        super().__init__()
        self.teacher = teacher
        self.student = student

    def compile(self, optimizer, metrics, student_loss_fn, distillation_loss_fn, alpha=0.1, temperature=3):
        super().compile(optimizer=optimizer, metrics=metrics)
        self.student_loss_fn = student_loss_fn
        self.distillation_loss_fn = distillation_loss_fn
        self.alpha = alpha
        self.temperature = temperature

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, allow_empty=False):
        teacher_pred = self.teacher(x, training=False)
        student_loss = self.student_loss_fn(y, y_pred)
        distillation_loss = self.distillation_loss_fn(
            ops.softmax(teacher_pred / self.temperature, axis=1),
            ops.softmax(y_pred / self.temperature, axis=1),
        ) * (self.temperature**2)
        return self.alpha * student_loss + (1 - self.alpha) * distillation_loss

    def call(self, x):
        return self.student(x)


class StopLate(keras.callbacks.Callback):
    """Ends training by the model's own flag."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 2:
            self.model.stop_training = True


def build():
    teacher = keras.Sequential([keras.Input((5,)), layers.Dense(12, activation="relu"), layers.Dense(3)])
    teacher.trainable = False
    student = keras.Sequential(
        [keras.Input((5,)), layers.Dense(4, activation="relu"), layers.Dropout(0.2), layers.Dense(3)]
    )
    distiller = Distiller(student=student, teacher=teacher)
    distiller.compile(
        optimizer=keras.optimizers.Adam(0.01),
        metrics=[keras.metrics.SparseCategoricalAccuracy()],
        student_loss_fn=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        distillation_loss_fn=keras.losses.KLDivergence(),
        alpha=0.1,
        temperature=10,
    )
    return distiller


def make_data():
    numbers = np.random.default_rng(0)
    x, y = numbers.normal(size=(14, 5)).astype("float32"), numbers.integers(0, 3, 14)
    return {"x": x, "y": y, "validation_data": (x[:6], y[:6]), "batch_size": 4}


CALLBACKS = (StopLate,)
