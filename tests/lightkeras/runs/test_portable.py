"""A task round-trips through deepcopy, pickle, the `.keras` format, and Keras' ModelCheckpoint."""

import copy
import pickle
import subprocess
import sys

import keras
import numpy as np
import pytest
from helpers.adapted import Readable
from helpers.toys import Classifier, PointsData, quiet

import lightkeras as lk

X = {"x": np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)}


class Counted(PointsData):
    """Knows how many classes there are from its examples alone."""

    def setup(self, stage):
        super().setup(stage)
        self.classes = int(self.y.max()) + 1

    def state_dict(self):
        return {"classes": self.classes}

    def load_state_dict(self, state):
        self.classes = state["classes"]


class Wide(Classifier):
    """Has a layer for each class, dropout, and a weight of its own."""

    data_module = Counted

    def __init__(self, units: int = 5, name_of_run: str = "a", **kwargs):
        super().__init__(**kwargs)

    def configure_model(self, data):
        head = keras.layers.Dense(data.classes)
        self.network = keras.Sequential([keras.layers.Dense(self.hparams.units), keras.layers.Dropout(0.5), head])
        self.scale = self.add_weight(name="scale", initializer="ones")

    def configure_optimizers(self):
        return keras.optimizers.Adam(0.05)

    def losses_of(self, batch, training):
        return super().losses_of({**batch, "x": self.scale * batch["x"]}, training)


class Half(Classifier):
    """Computes in bfloat16, but for its last layer."""

    def configure_model(self, data):
        self.network = keras.Sequential([keras.layers.Dense(5), keras.layers.Dense(2, dtype="float32")])


def through_file(task, folder, **options):
    task.save(folder / "t.keras")
    return keras.models.load_model(folder / "t.keras", **options)


WAYS = {
    "deepcopy": lambda task, folder: copy.deepcopy(task),
    "pickle": lambda task, folder: pickle.loads(pickle.dumps(task)),
    "keras": through_file,
}
TASKS = {
    "weights and dropout": (lambda: Wide(units=7), Counted),
    "adapted layers": (Readable, PointsData),
    "bfloat16": (Half, PointsData),
}


@pytest.fixture(scope="module", params=TASKS, ids=TASKS)
def task(request):
    make, data = TASKS[request.param]
    task = make()
    precision = "bf16-mixed" if request.param == "bfloat16" else "32"
    quiet(max_steps=4, precision=precision).fit(task, data())
    return task


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_copy_predicts_the_same(task, way, tmp_path):
    copied = way(task, tmp_path)
    assert type(copied) is type(task) and copied is not task
    assert copied.init_args == task.init_args and copied.global_step == 4 and copied.seed == task.seed
    for ours, theirs in zip(copied.variables, task.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.value is not theirs.value
    np.testing.assert_array_equal(copied.predict(X, verbose=0), task.predict(X, verbose=0))


def test_a_copy_trains_on_and_leaves_the_original(tmp_path):
    task = Wide()
    quiet(max_steps=2, seed=1).fit(task, Counted())
    copied, before = copy.deepcopy(task), task.predict(X, verbose=0)
    again = through_file(copied, tmp_path)
    for one in (copied, again):
        quiet(max_steps=3, seed=1).fit(one, Counted())
    np.testing.assert_array_equal(copied.predict(X, verbose=0), again.predict(X, verbose=0))
    np.testing.assert_array_equal(task.predict(X, verbose=0), before)
    assert abs(copied.predict(X, verbose=0) - before).max() > 1e-3


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
def test_a_task_that_is_not_built_is_made_again(way, tmp_path):
    copied = way(Wide(units=3), tmp_path)
    assert not copied.built and copied.hparams.units == 3
    quiet(max_steps=1).fit(copied, Counted())


def test_classes_within_a_function(tmp_path):
    class Data(Counted):
        pass

    class Here(Wide):
        data_module = Data

    task = Here()
    quiet(max_steps=1).fit(task, Data())
    found = through_file(task, tmp_path, custom_objects={"Here": Here})
    for copied in (copy.deepcopy(task), found):
        np.testing.assert_array_equal(copied.predict(X, verbose=0), task.predict(X, verbose=0))


def test_the_model_checkpoint_of_keras(tmp_path):
    task, path = Wide(), str(tmp_path / "{epoch}.keras")
    quiet(max_epochs=2, callbacks=[keras.callbacks.ModelCheckpoint(path)]).fit(task, Counted())
    first, last = (keras.models.load_model(path.format(epoch=epoch)) for epoch in (1, 2))
    np.testing.assert_array_equal(last.predict(X, verbose=0), task.predict(X, verbose=0))
    assert abs(first.predict(X, verbose=0) - last.predict(X, verbose=0)).max() > 1e-3
    assert (first.global_step, last.global_step) == (5, 10)


def test_a_copy_of_a_task_loaded_from_a_checkpoint(root, tmp_path):
    trainer = quiet(root, max_steps=2)
    trainer.fit(Readable(), PointsData())
    task = Readable.load_from_checkpoint(trainer.run_dir)
    for way in WAYS.values():
        np.testing.assert_array_equal(way(task, tmp_path).predict(X, verbose=0), task.predict(X, verbose=0))


def test_a_new_process_reads_file_and_pickle(tmp_path):
    task = Readable()
    quiet(max_steps=2).fit(task, PointsData())
    task.save(tmp_path / "t.keras")
    (tmp_path / "t.pickle").write_bytes(pickle.dumps(task))
    np.savez(tmp_path / "x.npz", **X)
    code = f"""import lightkeras, keras, numpy, pickle, helpers.adapted
x = dict(numpy.load(r"{tmp_path}/x.npz"))
from_pickle = pickle.load(open(r"{tmp_path}/t.pickle", "rb"))
for number, task in enumerate((keras.models.load_model(r"{tmp_path}/t.keras"), from_pickle)):
    numpy.save(rf"{tmp_path}/{{number}}.npy", task.predict(x, verbose=0))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for number in range(2):
        np.testing.assert_array_equal(np.load(tmp_path / f"{number}.npy"), task.predict(X, verbose=0))


def test_data_in_a_file_must_be_data(tmp_path):
    task = Wide()
    quiet(max_steps=1).fit(task, Counted())
    config = task.get_build_config()
    config["task"] = config["task"].replace(f"{Counted.__module__}.Counted", "subprocess.Popen")
    with pytest.raises(ImportError, match=r"Expected subprocess\.Popen to be a DataModule"):
        Wide().build_from_config(config)
    assert lk.TaskModule.get_compile_config(task) is None
