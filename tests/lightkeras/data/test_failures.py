"""An example that cannot be read ends the run with one sentence: example, batch and epoch."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.toys import Classifier, quiet

import lightkeras as lk
from lightkeras.data import failures

SIZE, BATCH, BROKEN = 23, 4, 13


class Line(Classifier):
    def configure_model(self, data):
        self.network = keras.layers.Dense(1)

    def configure_optimizers(self):
        return keras.optimizers.SGD(1e-3)

    def losses_of(self, batch, training):
        error = self.network(batch["x"][:, None])[:, 0]
        return tf.reduce_sum(batch["weight"] * error**2), tf.reduce_sum(batch["weight"])

    def predict_step(self, batch):
        return batch["x"]


@pytest.mark.parametrize("place", ["", "Error in user-defined function passed to MapDataset:48 transformation with "
    "iterator: Iterator::Root::BatchV2::Map: "])  # fmt: skip
def test_a_message_has_no_place_in_tensorflows_graph(place):
    message = f"{place}OSError: 13.wav is cut off\nTraceback ...\n\t [[{{{{node PyFunc}}}}]] [Op:IteratorGetNext]"
    assert failures.first_line(message) == "OSError: 13.wav is cut off"


def fail_in_python(index):
    def number(i):
        if i == BROKEN:
            raise OSError(f"{i}.wav is cut off")
        return np.float32(i)

    return tf.ensure_shape(tf.numpy_function(number, [index], tf.float32), ())


def fail_in_tensorflow(index):
    return tf.strings.to_number(tf.where(index == BROKEN, "no number", tf.strings.as_string(index)))


REASONS = {
    fail_in_python: r"OSError: 13\.wav is cut off$",
    fail_in_tensorflow: "StringToNumberOp could not .*no number$",
}


class Files(lk.DataModule):
    """`make(read, shuffle)` with a broken example in training or in validation."""

    def __init__(self, make, read, broken="train"):
        self.make, self.read, self.broken = make, read, broken

    def of(self, split):
        def whole(index):
            return tf.cast(index, tf.float32)

        return self.make(self.read if split == self.broken else whole, split == "train")

    def train_dataset(self):
        return self.of("train")

    def val_dataset(self):
        return self.of("val")

    test_dataset = val_dataset


def from_examples(read, shuffle):
    return lk.AddressedDataset.from_examples(lambda index, epoch: {"x": read(index)}, SIZE, BATCH, shuffle)


def from_batches(read, shuffle):
    def fetch(indices, epoch):
        return {"x": tf.ensure_shape(tf.map_fn(read, indices, tf.float32), indices.shape)}

    return lk.AddressedDataset.from_batches(fetch, SIZE, BATCH, shuffle)


def grouped(read, shuffle):
    def load(index, epoch, width):
        return {"x": read(index)}

    return lk.AddressedDataset.from_examples(load, SIZE, BATCH, shuffle, lengths=np.arange(SIZE) % 5)


def sentence(of):
    with pytest.raises(lk.utils.ArgumentError) as caught:
        of()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("make", [from_examples, from_batches, grouped])
@pytest.mark.parametrize("read", REASONS)
@pytest.mark.parametrize("cut", [{}, {"steps_per_execution": 4}, {"run_eagerly": True}])
def test_a_broken_example_in_training_is_named_with_its_address(make, read, cut):
    data, seed = Files(make, read), 3
    table = data.train_dataset().indices(seed, 0)
    (step,) = np.flatnonzero((table == BROKEN).any(axis=1))
    said = sentence(lambda: quiet(max_epochs=1, seed=seed, limit_val_batches=0, **cut).fit(Line(), data))
    assert f"Received: example {BROKEN}, in batch {step} of epoch 0: " in said
    assert re.search(REASONS[read], said)


def test_a_broken_example_in_validation_and_prediction_is_named():
    data = Files(from_examples, fail_in_python, broken="val")
    task = Line()
    expected = f"example {BROKEN}, in batch 3 of epoch 0: OSError"
    assert expected in sentence(lambda: quiet(max_epochs=1).fit(task, data))
    assert expected in sentence(lambda: quiet().validate(task, data))
    assert expected in sentence(lambda: quiet().predict(task, data))


def test_errors_of_the_model_stay_as_they_are():
    class Wrong(Line):
        def losses_of(self, batch, training):
            tf.debugging.assert_less(batch["x"], 5.0, message="too large for this model")
            return super().losses_of(batch, training)

    with pytest.raises(tf.errors.InvalidArgumentError, match="too large for this model"):
        quiet(max_epochs=1, limit_val_batches=0).fit(Wrong(), Files(from_examples, lambda i: tf.cast(i, tf.float32)))
