"""A small task that every feature of the Trainer can be tried on, and a text task as small."""

import keras
import numpy as np
import tensorflow as tf

import lightkeras as lk


class PointsData(lk.DataModule):
    """`size` points in 4 dimensions, of two classes; the last batch is short."""

    def __init__(self, size: int = 37, batch_size: int = 8, shuffle: bool = True):
        self.size, self.batch_size, self.shuffle = size, batch_size, shuffle

    def setup(self, stage):
        numbers = np.random.default_rng(0)
        self.x = numbers.normal(size=(self.size, 4)).astype(np.float32)
        self.y = (self.x.sum(axis=1) > 0).astype(np.int32)

    def train_dataset(self):
        return lk.AddressedDataset.from_arrays({"x": self.x, "y": self.y}, self.batch_size, self.shuffle)

    def val_dataset(self):
        return lk.AddressedDataset.from_arrays({"x": self.x[:10], "y": self.y[:10]}, 4, shuffle=False)

    def test_dataset(self):
        return self.val_dataset()


class Classifier(lk.TaskModule):
    """Two dense layers, with accuracy as a metric."""

    data_module = PointsData

    def __init__(self, units: int = 5, learning_rate: float = 0.05, dropout: float = 0.0):
        super().__init__()

    def configure_model(self, data):
        units, dropout = self.hparams["units"], self.hparams["dropout"]
        hidden = keras.layers.Dense(units, activation="tanh", name="hidden")
        self.network = keras.Sequential([hidden, keras.layers.Dropout(dropout), keras.layers.Dense(2, name="head")])

    def configure_optimizers(self):
        return keras.optimizers.Adam(self.hparams["learning_rate"])

    def losses_of(self, batch, training):
        logits = self.network(batch["x"], training=training)
        nats = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["y"], logits)
        right = tf.cast(tf.argmax(logits, -1, output_type=tf.int32) == batch["y"], tf.float32)
        weight, count = batch["weight"], tf.reduce_sum(batch["weight"])
        return {
            "loss": (tf.reduce_sum(nats * weight), count),
            "accuracy": (tf.reduce_sum(right * weight), count),
        }

    def train_step(self, batch):
        return self.minimize(self.losses_of, batch)

    def test_step(self, batch):
        return self.evaluate_loss(self.losses_of, batch)

    def predict_step(self, batch):
        return self.network(batch["x"], training=False)


class Recorder(lk.Callback):
    """Keeps every record of the logs."""

    def __init__(self):
        super().__init__()
        self.logs, self.validations = [], []

    def on_log(self, record):
        self.logs.append(dict(record))

    def on_validation_end(self, record):
        self.validations.append(dict(record))


def quiet(root=None, **arguments) -> lk.Trainer:
    """A Trainer that prints nothing and, without a `root`, writes nothing."""
    arguments = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        **arguments,
    }
    if root is None:
        return lk.Trainer(logger=False, enable_checkpointing=False, **arguments)
    return lk.Trainer(default_root_dir=root, **arguments)


def weights(task) -> list[np.ndarray]:
    """Every state variable's value."""
    return [np.asarray(variable) for variable in task.state_variables().values()]
