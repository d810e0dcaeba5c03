"""Tasks made of a few functions, and updates made without a Trainer."""

import keras
import numpy as np
import tensorflow as tf

import lightkeras as lk
from lightkeras.distribution.strategies import make_strategy
from lightkeras.training.compute import parts_function
from lightkeras.training.optimizers import UpdateSettings
from lightkeras.training.step import differentiate


class Small(lk.TaskModule):
    """A task of functions.

    Args:
        layers: `() -> {attribute: layer}`.
        losses: `(task, batch, training) -> ` what a loss function returns.
        optimizers: `() -> ` what `configure_optimizers` returns; SGD(1.0) makes the change of a weight its gradient.
        train: `(task, batch) -> ` what `train_step` returns.
    """

    def __init__(self, layers, losses, optimizers=lambda: keras.optimizers.SGD(1.0), train=None):
        super().__init__()

    def configure_model(self, data):
        for name, layer in self.hparams["layers"]().items():
            setattr(self, name, layer)

    def configure_optimizers(self):
        return self.hparams["optimizers"]()

    def losses_of(self, batch, training):
        return self.hparams["losses"](self, batch, training)

    def train_step(self, batch):
        train = self.hparams["train"]
        return train(self, batch) if train else self.minimize(self.losses_of, batch)

    def test_step(self, batch):
        return self.evaluate_loss(self.losses_of, batch)


def linear(**kwargs):
    """Layers of a linear model with one output and the weights 0.1, 0.2, ..."""
    start = keras.initializers.Constant(np.arange(1, 4, dtype=np.float32)[:, None] / 10)
    return lambda: {"network": keras.layers.Dense(1, use_bias=False, kernel_initializer=start, **kwargs)}


def squares(task, batch, training):
    """Half the squared error, weighted by the entry "tokens" (1 without it): a sum and its weight."""
    weight = batch["weight"] * batch.get("tokens", 1.0)
    error = task.network(batch["x"], training=training)[:, 0] - batch["y"]
    return tf.reduce_sum(0.5 * tf.square(error) * weight), tf.reduce_sum(weight)


def points(size: int = 8, seed: int = 0) -> dict[str, np.ndarray]:
    """Inputs (size, 3), targets (size,), and very uneven weights (size,)."""
    numbers = np.random.default_rng(seed)
    return {
        "x": numbers.normal(size=(size, 3)).astype(np.float32),
        "y": 3 * numbers.normal(size=size).astype(np.float32),
        "tokens": (numbers.integers(0, 4, size) ** 3).astype(np.float32),
    }


def in_order(arrays, batch_size: int | None = None) -> lk.AddressedDataset:
    """The arrays, unshuffled; one batch unless told otherwise."""
    return lk.AddressedDataset.from_arrays(arrays, batch_size or len(next(iter(arrays.values()))), shuffle=False)


def made(task, dataset, devices: int = 1, **settings):
    """`task` built for `dataset`, its optimizers too, with the Trainer's `settings`."""
    with make_strategy(devices).scope():
        keras.utils.set_random_seed(0)
        task.configure_model(None)
        task.build_from(dataset.element_spec)
        task.build_optimizers(UpdateSettings(**settings))
    return task


def updated(task, dataset, steps: int = 1, **how) -> dict:
    """The logs after `steps` updates of a task that is `made`; `how` it compiles its steps."""
    with task.distribute_strategy.scope():
        task.compile_steps(**how)
        task.steps_per_epoch = steps
        task.begin_epoch(0)
        task.make_train_function()
        iterator = iter(dataset.replica_stream(task.distribute_strategy))
        for _ in range(steps):
            logs = task.train_function(iterator)
    return logs


def gradients(task, loss_function, batch):
    """Gradients by optimizer name, and the sums."""
    return differentiate(parts_function(task, loss_function, batch, True), batch, task.optimizers)[:2]


def weights(task) -> list[np.ndarray]:
    """The trainable weights, copied."""
    return [np.asarray(variable).copy() for variable in task.trainable_variables]
