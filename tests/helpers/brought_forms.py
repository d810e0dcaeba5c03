"""A task, and data in each form that is brought to it, for tests of resumed runs and of several workers."""

import keras
import numpy as np
import tensorflow as tf

import lightkeras as lk
from helpers.toys import quiet

X = np.random.default_rng(0).normal(size=(21, 3)).astype(np.float32)
Y = X.sum(axis=1)
EPOCHS, STEPS = 3, 3


class Line(lk.TaskModule):
    def configure_model(self, data):
        self.network = keras.layers.Dense(1)

    def configure_optimizers(self):
        return keras.optimizers.Adam(0.1)

    def losses_of(self, batch, training):
        x, y, _ = batch
        return tf.square(self.network(x)[:, 0] - y)

    def train_step(self, batch):
        return self.minimize(self.losses_of, batch)

    def test_step(self, batch):
        return self.evaluate_loss(self.losses_of, batch)


class Shuffling(keras.utils.PyDataset):
    """Shuffles its own rows after each epoch, as the guides of Keras do: by NumPy's global generator."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.rows, self.begun = np.arange(21), 0

    def __len__(self):
        return STEPS

    def __getitem__(self, index):
        rows = self.rows[8 * index : 8 * index + 8]
        return X[rows], Y[rows]

    def on_epoch_begin(self):
        self.begun += 1

    def on_epoch_end(self):
        np.random.shuffle(self.rows)  # noqa: NPY002


class Batches:
    """Can be iterated over anew."""

    def __init__(self, rng=None):
        self.rng = rng

    def __iter__(self):
        order = np.arange(21) if self.rng is None else self.rng.permutation(21)
        for start in (0, 8, 16):
            yield X[order[start : start + 8]], Y[order[start : start + 8]]


def rows():
    tf.random.set_seed(1)  # a shuffle's seed is mixed with it, and an earlier run in this process sets it
    return tf.data.Dataset.from_tensor_slices((X, Y))


def tfrecords(folder):
    path = folder / "points.tfrecord"
    if not path.exists():
        with tf.io.TFRecordWriter(str(path)) as writer:
            for x, y in zip(X, Y, strict=True):
                writer.write(np.append(x, y).tobytes())
    return lk.data.TFRecords(str(path), parse)


def parse(record):
    values = tf.io.decode_raw(record, tf.float32)
    return tf.ensure_shape(values[:3], (3,)), values[3]


def on_disk(folder):
    np.save(folder / "x.npy", X)
    return np.load(folder / "x.npy", mmap_mode="r"), Y


KEPT = {  # to the bit
    "arrays": lambda folder: ((X, Y), {"batch_size": 8}),
    "on disk": lambda folder: (on_disk(folder), {"batch_size": 8}),
    "TFRecords": lambda folder: (tfrecords(folder), {"batch_size": 8}),
    "examples": lambda folder: (lk.data.Examples(range(21), lambda i: (X[i], Y[i])), {"batch_size": 8}),
    "PyDataset": lambda folder: (Shuffling(workers=2), {}),
    "tf.data": lambda folder: (rows().batch(8), {}),
    "tf.data, shuffled anew": lambda folder: (rows().shuffle(21, seed=5).batch(8), {}),
    "tf.data, endless": lambda folder: (rows().shuffle(21, seed=5).batch(8).repeat(), {}),
    "iterable": lambda folder: (Batches(), {}),
}


def weights(task):
    return np.concatenate([np.asarray(v).ravel() for v in task.state_variables().values()])


def fit(data, root, keywords, ckpt_path=None, **arguments):
    task = Line()
    trainer = quiet(root, seed=4, logger=False, limit_train_batches=STEPS, **{"max_epochs": EPOCHS, **arguments})
    trainer.fit(task, data, ckpt_path=ckpt_path, **keywords)
    return task, trainer
