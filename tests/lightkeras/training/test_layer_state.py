"""Layers that keep more than variables come back as they were: from a checkpoint, and in a resumed run."""

import subprocess
import sys

import numpy as np
import pytest
from helpers.adapted import Adapted
from helpers.toys import Classifier, PointsData, quiet, weights

import lightkeras as lk
from lightkeras.training import layer_state


class Later(PointsData):
    """The same points, of which the layers are adapted to others when the run is resumed."""

    def setup(self, stage):
        super().setup(stage)
        if stage == "validate":
            self.x = self.x * 10


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    trainer = quiet(str(tmp_path_factory.mktemp("runs")), max_epochs=2)
    task = Adapted()
    trainer.fit(task, PointsData())
    return task, trainer.run_dir


X = {"x": np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)}


def test_a_loaded_task_predicts_as_the_trained_one(run):
    task, folder = run
    loaded = Adapted.load_from_checkpoint(folder)
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), task.predict(X, verbose=0))
    assert loaded.looked_up() == task.looked_up()
    assert loaded.words.get_vocabulary() == task.words.get_vocabulary() and len(loaded.words.get_vocabulary()) > 5


def test_weights_into_a_task_adapted_to_other_data(run):
    task, folder = run
    other = Adapted()
    found = quiet().validate(other, Later(), ckpt_path=folder)
    assert found == quiet().validate(task, Later())
    np.testing.assert_array_equal(other.predict(X, verbose=0), task.predict(X, verbose=0))


def test_a_new_process_predicts_the_same(run, tmp_path):
    task, folder = run
    np.savez(tmp_path / "x.npz", **X)
    code = f"""import lightkeras, numpy
from helpers.adapted import Adapted
task = Adapted.load_from_checkpoint(r"{folder}")
numpy.save(r"{tmp_path}/y.npy", task.predict(dict(numpy.load(r"{tmp_path}/x.npz")), verbose=0))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), task.predict(X, verbose=0))


def test_a_resumed_run_takes_the_layers_of_the_run(root):
    whole, killed, resumed = Adapted(), Adapted(), Adapted()
    quiet(max_steps=7).fit(whole, PointsData())
    trainer = quiet(root, max_steps=3, checkpoint_every_n_steps=1)
    trainer.fit(killed, PointsData())
    change, configure = np.random.default_rng(2).normal(size=(9, 4)), Adapted.configure_model

    def adapt_to_others(data):
        configure(resumed, data)
        resumed.normalize.adapt(change)
        resumed.bins.adapt(change)
        resumed.words.set_vocabulary(["z"])
        resumed.table.table = np.ones(5)

    resumed.configure_model = adapt_to_others
    quiet(root, max_steps=7).fit(resumed, PointsData(), ckpt_path=trainer.run_dir)
    for ours, theirs in zip(weights(resumed), weights(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert resumed.looked_up() == whole.looked_up()


def test_layers_of_another_model_are_named(run):
    class Plain(Adapted):
        def configure_model(self, data):
            Classifier.configure_model(self, data)

        features = staticmethod(lambda x: x)

    task = Plain()
    quiet(max_steps=1).fit(task, PointsData())
    with pytest.raises(lk.CheckpointError, match=r"Expected somewhere to hold the state .* layers/0001/Discretization"):
        layer_state.restore(task, layer_state.capture(run[0]), "somewhere")
    assert layer_state.capture(task) == {}


@pytest.mark.parametrize("name", ["../escaped.txt", "/tmp/lightkeras_escaped.txt", "a/../../escaped.txt"])
def test_a_file_of_a_layer_stays_in_its_folder(run, name):
    """An array's name comes from the checkpoint."""
    task, _ = run
    arrays = layer_state.capture(task)
    file = next(key for key in arrays if key.endswith("assets/text.txt"))
    arrays[file.replace("text.txt", name)] = arrays[file]
    with pytest.raises(lk.CheckpointError, match=r"Expected the name of a file of a layer, without '\.\.'"):
        layer_state.restore(task, arrays, "a checkpoint")
