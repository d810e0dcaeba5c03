"""Our classifier of `shapes.points`, for the benchmarks of the loop and of checkpoints."""

import keras
import tensorflow as tf

import lightkeras as lk
from benchmarks.peers import shapes
from benchmarks.peers.keras import classifier


class Points(lk.DataModule):
    """The points in memory; the first `val_batches` batches are validated on."""

    def __init__(self, steps: int, batch: int, features: int, val_batches: int = 0):
        self.rows = dict(zip("xy", shapes.points(steps, batch, features), strict=True))
        self.batch, self.val_rows = batch, val_batches * batch

    def train_dataset(self):
        """All examples, shuffled."""
        return lk.AddressedDataset.from_arrays(self.rows, self.batch)

    def val_dataset(self):
        """The first examples, or None."""
        rows = {name: array[: self.val_rows] for name, array in self.rows.items()}
        return lk.AddressedDataset.from_arrays(rows, self.batch, shuffle=False) if self.val_rows else None


class Classifier(lk.TaskModule):
    """The classifier of `benchmarks.peers.keras` with cross entropy and Adam."""

    def __init__(self, width: int, layers: int, learning_rate: float = 1e-3):
        super().__init__()

    def configure_model(self, data):
        """Makes the network."""
        self.network = classifier(self.hparams.width, self.hparams.layers)

    def configure_optimizers(self):
        """Makes Adam."""
        return keras.optimizers.Adam(self.hparams.learning_rate)

    def loss_sums(self, batch, training):
        """Returns the sum of the cross entropy, and the sum of the weights."""
        logits = self.network(batch["x"], training=training)
        nats = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["y"], logits)
        return tf.reduce_sum(nats * batch["weight"]), tf.reduce_sum(batch["weight"])

    def train_step(self, batch):
        """One update."""
        return self.minimize(self.loss_sums, batch)

    def test_step(self, batch):
        """The loss of a batch."""
        return self.evaluate_loss(self.loss_sums, batch)


class SamplingClassifier(Classifier):
    """Writes samples too."""

    def write_samples(self, folder, name):
        """Writes a small file."""
        (folder / f"{name}.txt").write_text("a sample\n")
