"""Exports of plain Keras models, as SavedModel and as Keras' own file."""

import runpy

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.exporting import built, unchecked

import lightkeras as lk
from lightkeras.export import keras_file, reader


@keras.saving.register_keras_serializable("test_plain_models")
class Twice(keras.layers.Layer):
    """Is not Keras' own."""

    def call(self, x):
        return 2 * x


def difference(y, p):
    """Is not registered."""
    return y - p


@pytest.fixture(autouse=True)
def _here(monkeypatch, request):
    """Compares in this process, but for one test."""
    if request.function is test_a_process_without_lightkeras_reads_the_file:
        yield
        return
    with unchecked(monkeypatch):
        yield


def texts_and_numbers():
    """Several inputs and outputs, texts among them, and layers that look up and scale."""
    keras.utils.set_random_seed(0)
    a, b = keras.Input((3,), name="a"), keras.Input((), name="b", dtype="string")
    lookup, scale = keras.layers.StringLookup(), keras.layers.Normalization()
    lookup.adapt(["x", "y"])
    scale.adapt(np.arange(12.0).reshape(4, 3))
    embedded = keras.layers.Embedding(4, 2)(lookup(b))
    joined = keras.layers.Concatenate()([scale(a), embedded])
    return keras.Model([a, b], {"p": keras.layers.Dense(2)(joined), "q": joined})


def half_precision():
    policy = keras.DTypePolicy("mixed_float16")
    return keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(4, dtype=policy), keras.layers.Dense(2)])


def recurrent():
    cells = keras.layers.GRU(4, return_sequences=True, return_state=True)
    x = keras.Input((None, 3), name="x")
    return keras.Model(x, cells(x))


MODELS = {
    "texts": (texts_and_numbers, {"a": np.eye(3, dtype="float32"), "b": np.array(["x", "y", "z"])}),
    "float16": (half_precision, {"x": np.ones((2, 3), "float32")}),
    "recurrent": (recurrent, {"x": np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")}),
}


@pytest.mark.parametrize("form", ["saved_model", "keras"])
@pytest.mark.parametrize("make, inputs", MODELS.values(), ids=MODELS)
def test_a_model_gives_the_same_elsewhere(make, inputs, form, tmp_path, capsys):
    model = make()
    lk.export.export(model, tmp_path / "new", form)
    found = reader.OPENERS[form](tmp_path / "new", ["serve"])["serve"](inputs)
    tensors = [tf.constant(value) for value in inputs.values()]
    expected = keras.tree.flatten(model(tensors[0] if len(tensors) == 1 else tensors))
    assert len(found) == len(expected)
    for number, value in enumerate(expected):
        np.testing.assert_allclose(found[f"output_{number}"], value, rtol=1e-5, atol=1e-5)
    runpy.run_path(str(tmp_path / "new" / "read.py"))
    assert "output" in capsys.readouterr().out


def test_keras_layers_need_no_import_and_registered_ones_theirs(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "relu")])
    model.compile(loss=difference)  # is not loaded
    lk.export.export(model, tmp_path / "plain", "keras")
    assert lk.export.read_export(tmp_path / "plain")["imports"] == []
    task = built("text_generation")
    lk.export.export(task, tmp_path / "task", "keras")
    assert lk.export.read_export(tmp_path / "task")["imports"] == ["tasks.text_generation.task"]
    example = (tmp_path / "task" / "read.py").read_text(encoding="utf-8")
    assert "import tasks.text_generation.task\n" in example and "tasks.text_generation" in example
    loaded = keras.saving.load_model(tmp_path / "task" / "model.keras")
    assert loaded.generate("a", 5, 0.5, seed=1) == task.generate("a", 5, 0.5, seed=1)
    (tmp_path / "twice").mkdir()
    own = keras.Sequential([keras.Input((3,)), Twice()])
    assert keras_file.write(tmp_path / "twice", own) == [__name__]


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
def test_what_another_program_cannot_import_is_named(tmp_path):
    class Here(keras.layers.Layer):
        def call(self, x):
            return x

    for layer, name in ((Here(), "Here"), (keras.layers.Lambda(lambda x: x), r"without a name \(lambda\)")):
        with pytest.raises(lk.export.ExportError, match=rf"registered.*Received: .*{name}.*saved_model"):
            lk.export.export(keras.Sequential([keras.Input((3,)), layer]), tmp_path / "new", "keras")
    assert not list(tmp_path.iterdir())


def test_a_model_of_unknown_inputs_is_refused(tmp_path):
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(lk.utils.ArgumentError, match="built: trained"):
        lk.export.export(keras.Sequential([keras.layers.Dense(2)]), tmp_path / "new")
    model = Subclassed()
    model(np.ones((1, 2)))
    with pytest.raises(lk.utils.ArgumentError, match="a task, or a functional or sequential"):
        lk.export.export(model, tmp_path / "new")


def test_a_process_without_lightkeras_reads_the_file(tmp_path):
    model = keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(2)])
    compared = lk.export.export(model, tmp_path / "new", "keras")
    assert compared.differences["serve"] <= 1e-5 and compared.seconds["load"] > 0
