"""Batches keep the form of the data: a dict, or (x, y, sample_weight)."""

import json
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.toys import quiet, weights

import lightkeras as lk
from lightkeras.data.batches import named_entries, spec_from_json, spec_to_json, weights_of
from lightkeras.distribution.strategies import make_strategy

HALVES, ROWS = np.full(6, 0.5), np.arange(12.0).reshape(6, 2)


@pytest.mark.parametrize(
    "arrays, names, weights",
    [
        (ROWS, ["sample_weight", "x"], [1, 1, 0, 0]),
        ((ROWS,), ["sample_weight", "x"], [1, 1, 0, 0]),
        ((ROWS, HALVES), ["sample_weight", "x", "y"], [1, 1, 0, 0]),
        ((ROWS, HALVES, HALVES), ["sample_weight", "x", "y"], [0.5, 0.5, 0, 0]),
        (({"a": ROWS, "b": (ROWS, HALVES)}, ROWS), ["sample_weight", "x/a", "x/b/0", "x/b/1", "y"], [1, 1, 0, 0]),
        ({"a": ROWS, "weight": HALVES}, ["a", "weight"], [0.5, 0.5, 0, 0]),
        ((ROWS, None, np.full((6, 3), 0.5)), ["sample_weight", "x"], [[0.5] * 3, [0.5] * 3, [0] * 3, [0] * 3]),
    ],
)
def test_batches_keep_the_form_of_the_data(arrays, names, weights):
    dataset = lk.AddressedDataset.from_arrays(arrays, 4, shuffle=False)
    last = list(dataset.stream(epochs=1))[-1]
    assert sorted(named_entries(last)) == names == sorted(named_entries(dataset.element_spec))
    assert weights_of(last).numpy().tolist() == weights
    written = json.loads(json.dumps(spec_to_json(dataset.element_spec)))
    assert keras.tree.map_structure(lambda s: s and (s.shape, s.dtype), spec_from_json(written)) == (
        keras.tree.map_structure(lambda s: s and (s.shape, s.dtype), dataset.element_spec)
    )


class Pairs(lk.DataModule):
    def train_dataset(self):
        return lk.AddressedDataset.from_arrays((ROWS, ROWS.sum(axis=1)), 4)

    def val_dataset(self):
        return self.train_dataset()


class PairTask(lk.TaskModule):
    def configure_model(self, data):
        self.layer = keras.layers.Dense(1)

    def configure_optimizers(self):
        return keras.optimizers.SGD(1e-3)

    def squares(self, batch, training):
        x, y, weight = batch
        return tf.reduce_sum((self.layer(x)[:, 0] - y) ** 2 * weight), tf.reduce_sum(weight)

    def train_step(self, batch):
        return self.minimize(self.squares, batch)

    def test_step(self, batch):
        return self.evaluate_loss(self.squares, batch)


@pytest.mark.parametrize("options", [{"micro_batches": 2}, {"strategy": "two"}, {"run_eagerly": True}])
def test_a_task_trains_on_pairs_and_comes_back(options, tmp_path):
    options = {"strategy": make_strategy(2)} if "strategy" in options else options
    reference, task = PairTask(), PairTask()
    quiet(max_epochs=2).fit(reference, Pairs())
    trainer = quiet(tmp_path, max_epochs=2, **options)
    trainer.fit(task, Pairs())
    np.testing.assert_allclose(weights(task)[0], weights(reference)[0], rtol=1e-5)
    loaded = PairTask.load_from_checkpoint(trainer.run_dir)
    np.testing.assert_array_equal(weights(loaded)[0], weights(task)[0])
    assert pickle.loads(pickle.dumps(loaded)).spec == loaded.spec


class PairPredictor(PairTask):
    def predict_step(self, batch):
        return self.layer(batch[0])[:, 0]


def test_keras_methods_take_what_keras_takes():
    task = PairPredictor()
    quiet(max_epochs=1).fit(task, Pairs())
    sums, rows = ROWS.sum(axis=1), task.predict(ROWS, verbose=0, batch_size=4)
    np.testing.assert_allclose(rows, ROWS @ weights(task)[0][:, 0] + weights(task)[1], rtol=1e-5)
    expected = np.mean((rows - sums) ** 2)
    batches = tf.data.Dataset.from_tensor_slices((ROWS, sums)).batch(4)
    for given in ((ROWS, sums), ((ROWS, sums),), (batches,)):
        assert task.evaluate(*given, verbose=0) == pytest.approx(expected, rel=1e-5)
    first, one = np.eye(6)[0], (rows[0] - sums[0]) ** 2
    assert task.evaluate(ROWS, sums, sample_weight=first, verbose=0) == pytest.approx(one, rel=1e-4)
    assert task.test_on_batch(ROWS, sums) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(task.predict(batches, verbose=0), rows, rtol=1e-5)
    with pytest.raises(ValueError, match="`y` to be None: it is a part of the batches in `x`"):
        task.evaluate(batches, sums)
