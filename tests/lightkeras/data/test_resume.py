"""Runs on data as it is brought, stopped and resumed: the same bits as without a stop, or a word about it."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.toys import quiet

import lightkeras as lk
from lightkeras.checkpoint import CheckpointError
from lightkeras.data.brought import as_dataset

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


@pytest.mark.parametrize("form", KEPT)
def test_a_resumed_run_ends_with_the_same_bits(form, tmp_path, caplog):
    data, keywords = KEPT[form](tmp_path)
    whole, _ = fit(data, tmp_path / "whole", keywords)
    task, path = None, None
    with caplog.at_level(logging.INFO, "lightkeras"):
        for stop in (2, 4, EPOCHS * STEPS):  # in the first epoch, in the second, at the end
            again, keywords = KEPT[form](tmp_path)
            task, trainer = fit(again, tmp_path / "cut", keywords, path, max_steps=stop)
            path = trainer.run_dir
    np.testing.assert_array_equal(weights(task), weights(whole))
    assert "differs" not in caplog.text
    streamed = form.startswith(("tf.data", "iterable"))
    assert ("Read past" in caplog.text) == streamed


@pytest.mark.parametrize("kind", ["equal", "drawn", "shuffled anew"])
def test_a_pass_that_differs_is_said_in_the_same_run_unless_it_is_shuffled(kind, tmp_path, caplog):
    data = rows().shuffle(21, seed=5) if kind == "shuffled anew" else rows()
    if kind == "drawn":
        data = data.map(lambda x, y: (x + tf.random.uniform(()), y))
    with caplog.at_level(logging.WARNING, "lightkeras"):
        fit(data.batch(8), tmp_path, {}, enable_checkpointing=False)
    said = "than in pass 0, and no `shuffle` is in it: something draws at random"
    assert caplog.text.count(said) == (kind == "drawn")


def test_a_shuffle_without_a_seed_is_said_at_the_start():
    data = rows()
    tf.random.set_seed(None)  # that of the process would give the shuffle one
    reading = as_dataset("data", data.shuffle(21).batch(8), None, False).reading
    assert reading.describe("").endswith(
        "A shuffle in it has no seed: a stopped run is resumed, but not to the same bits."
    )


def test_a_shuffle_without_a_seed_is_said_when_the_run_is_resumed(tmp_path, caplog):
    def data():
        return Batches(np.random.default_rng())

    _, run = fit(data(), tmp_path, {}, max_steps=2)
    with caplog.at_level(logging.WARNING, "lightkeras"):
        task, _ = fit(data(), tmp_path, {}, run.run_dir)
    assert "The Batches differs from that of the run that is resumed: pass 0 begins with another batch" in caplog.text
    assert task.global_step == EPOCHS * STEPS


def test_a_generator_resumes_from_the_start_of_an_epoch(tmp_path, caplog):
    def data():
        return (batch for _ in range(EPOCHS) for batch in Batches())

    with caplog.at_level(logging.INFO, "lightkeras"):
        whole, _ = fit(data(), tmp_path / "whole", {})
    assert "generator, streamed. A run resumes to the same bits from the start of an epoch only." in caplog.text
    _, run = fit(data(), tmp_path, {}, max_steps=STEPS + 1)
    task, _ = fit((batch for batch in [*Batches(), *Batches()]), tmp_path, {}, run.run_dir)
    np.testing.assert_array_equal(weights(task), weights(whole))


@pytest.mark.parametrize("form", ["arrays", "on disk", "TFRecords", "examples", "PyDataset", "tf.data"])
def test_other_data_is_refused_by_name(form, tmp_path):
    data, keywords = KEPT[form](tmp_path)
    _, run = fit(data, tmp_path, keywords, max_steps=2)
    other = {"tf.data": (rows().batch(9), {}), "PyDataset": (Other(), {})}
    data, keywords = other.get(form, ((X + 1, Y), {"batch_size": 8}))
    with pytest.raises(CheckpointError, match=r"data\.init_args\.data\.\w+: .* then, .* now"):
        fit(data, tmp_path, keywords, run.run_dir)


class Other(Shuffling):
    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x + 1, y


def test_the_folder_says_that_the_data_cannot_be_made_again(tmp_path):
    _, run = fit((X, Y), tmp_path, {"batch_size": 8}, max_steps=1)
    text = (run.run_dir / "config.yaml").read_text(encoding="utf-8")
    assert "class_path: lightkeras.data.brought.BroughtData" in text and "examples: 21" in text
    assert text.startswith("# Not in this file, since made in Python: the data")
    task = Line.load_from_checkpoint(run.run_dir)
    assert task.network(X).shape == (21, 1)
    with pytest.raises(
        ValueError, match="`data` to be given to `fit` again: the run's folder has only what identifies"
    ):
        quiet(max_epochs=1).fit(Line(), lk.data.brought.BroughtData({"kind": "arrays"}))
