"""Exports: the same results in a process without lightkeras and Keras, and the errors."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.exporting import Bundle, built, call_here, unchecked
from helpers.source_tree import ROOT
from helpers.toys import Classifier, PointsData, quiet

import lightkeras as lk
from lightkeras.cli import main as cli
from lightkeras.cli.exports import read_trial_data
from lightkeras.export import check

NAMES = ("text_generation", "dcgan", "translation", "captioning")


@pytest.fixture(scope="module")
def tasks():
    return {name: built(name) for name in NAMES}


@pytest.fixture(scope="module")
def exported(tasks, tmp_path_factory):
    """The folder of all endpoints of all tasks, and how they compared in a process of their own."""
    folder = tmp_path_factory.mktemp("exports") / "all"
    return folder, lk.export.export(Bundle(tasks), folder)


@pytest.fixture(scope="module")
def loaded(exported):
    return tf.saved_model.load(str(exported[0]))


def serve(task):
    return {"predict": lk.export.Endpoint(lambda x: {"logits": task.network(x)}, {"x": tf.TensorSpec((None, 4))})}


class Exported(Classifier):
    def exports(self):
        return serve(self)


@pytest.fixture(scope="module")
def classifier():
    task = Exported()
    quiet(max_steps=2, limit_val_batches=0).fit(task, PointsData())
    return task


def test_a_process_without_keras_gives_what_the_tasks_give(exported):
    """`export` has compared every endpoint there: texts and images equal, numbers to 1e-5."""
    folder, compared = exported
    assert {name.partition("__")[0] for name in compared.differences} == set(NAMES)
    assert max(compared.differences.values()) <= 1e-5 and compared.seconds["load"] > 0
    card = lk.export.read_export(folder)
    assert card["compared"]["differences"] == compared.differences and card["format"] == "saved_model"


def test_texts_of_any_number_and_length(tasks, loaded):
    task = tasks["text_generation"]
    found = loaded.text_generation__generate(["\n", "  ", "\n\n"], 9, 0.5, 3)["text"].numpy()
    expected = [task.generate(one, 9, 0.5, seed=3, num_samples=3)[i] for i, one in enumerate(["\n", "  ", "\n\n"])]
    assert [text.decode() for text in found] == expected
    (alone,) = loaded.text_generation__generate(["\n"], 9, 0.5, 3)["text"].numpy()
    assert alone == found[0]
    (long,) = loaded.text_generation__generate(["ab\n" * 3000], 5, 0.5, 3)["text"].numpy()
    assert long.decode() == task.generate("ab\n" * 3000, 5, 0.5, seed=3)[0]


def test_a_prompt_with_unknown_characters_is_an_error(loaded):
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"characters of the vocabulary.*unknown:\] \[☃ ✈\]"):
        loaded.text_generation__generate(["a☃", "✈☃"], 3, 0.5, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least one character"):
        loaded.text_generation__generate(["a", ""], 3, 0.5, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expected `length` to be at least 1"):
        loaded.text_generation__generate(["a"], 0, 0.5, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Invalid formatting"):
        loaded.text_generation__generate([b"\xff"], 3, 0.5, 3)


def test_images_of_a_seed(tasks, loaded):
    images = loaded.dcgan__generate(5, 11)["images"].numpy()
    assert np.abs(images.astype(int) - tasks["dcgan"].generate(5, 11)).max() <= 1
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expected `seed` to be below 4294967296"):
        loaded.dcgan__generate(5, 2**32)


def test_translations_with_scores(tasks, loaded):
    sentences = tasks["translation"].data.sources("validation")[:3]
    found = loaded.translation__translate_beam(sentences, 1.0, 0.0)
    best = [ranked[0] for ranked in tasks["translation"].search(sentences)]
    assert [text.decode() for text in found["text"][:, 0].numpy()] == [one.text for one in best]
    np.testing.assert_allclose(found["score"][:, 0], [one.score for one in best], atol=1e-5)
    assert loaded.translation__translate(sentences)["text"].numpy().tolist() == found["text"][:, 0].numpy().tolist()
    with pytest.raises(tf.errors.InvalidArgumentError, match="composed form"):
        loaded.translation__translate(["e\u0301"])


def test_the_reading_example_runs(exported, capsys):
    folder, _ = exported
    script = (folder / "read.py").read_text()
    assert script.strip() in (folder / "README.md").read_text()
    exec(compile(script, "read.py", "exec"), {"__file__": str(folder / "read.py")})
    assert "text_generation__generate: text" in capsys.readouterr().out


def test_captions_of_jpeg_files(tasks, loaded):
    files = sorted((ROOT / "tasks" / "captioning" / "images").glob("*.jpg"))[:3]
    found = loaded.captioning__caption([path.read_bytes() for path in files])["text"].numpy()
    assert [text.decode() for text in found] == tasks["captioning"].caption(files)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"(?i)jpeg"):
        loaded.captioning__caption([b"no photo"])


# ---- the folder


def test_every_file_that_is_cut_is_named(exported, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(exported[0], folder)
    files = [
        path for path in folder.rglob("*") if path.is_file() and path.stat().st_size and path.name != "export.json"
    ]
    assert {"saved_model.pb", "read.py", "README.md", "variables.index"} <= {path.name for path in files}
    for path in files:
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(lk.utils.ArgumentError, match=rf"{path.name} has \d+ bytes instead of {len(whole)}"):
            lk.export.read_export(folder)
        path.write_bytes(whole)
    card = (folder / "export.json").read_bytes()
    (folder / "export.json").write_bytes(card[: len(card) // 2])
    with pytest.raises(lk.utils.ArgumentError, match=r"export.json to describe an export"):
        lk.export.read_export(folder)


def test_trials_are_of_the_validation_data_where_it_is_at_hand(tasks):
    text, translation = tasks["text_generation"], tasks["translation"]
    (prompt, _) = text.exports()["generate"].examples[0]["prompt"]
    assert prompt == text.vocabulary.decode(text.data.splits["validation"].windows(np.array([0]), 5)[0])
    assert translation.exports()["translate"].examples[0]["sentences"][:3] == translation.data.sources("validation")[:3]
    features = tasks["captioning"].exports()["encode"].examples[0]["image"]
    np.testing.assert_array_equal(features, next(tasks["captioning"].data.inputs("validation"))[:2])


def test_a_cut_or_changed_export_is_recognised(exported, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(exported[0], folder)
    assert lk.export.read_export(folder)["name"] == "bundle"
    (variables,) = (folder / "variables").glob("*.data*")
    whole = variables.read_bytes()
    variables.write_bytes(whole[:-5])
    with pytest.raises(lk.utils.ArgumentError, match=rf"variables.data\S+ has {len(whole) - 5} bytes instead of"):
        lk.export.read_export(folder)
    variables.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(lk.utils.ArgumentError, match="has other bytes"):
        lk.export.read_export(folder)
    variables.unlink()
    with pytest.raises(lk.utils.ArgumentError, match="is missing"):
        lk.export.read_export(folder)
    with pytest.raises(FileNotFoundError, match=r"with a file export.json"):
        lk.export.read_export(tmp_path)
    card = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    (tmp_path / "secret").write_text("x", encoding="utf-8")
    (folder / "export.json").write_text(json.dumps({**card, "files": {"../secret": {"bytes": 1, "sha256": ""}}}))
    with pytest.raises(lk.utils.ArgumentError, match=r"\.\./secret is not in the folder"):
        lk.export.read_export(folder)


def test_nothing_is_left_of_an_export_that_fails(classifier, tmp_path, monkeypatch):
    """Another result than the task's is an error that names the endpoint."""

    def other(folder, form, inputs, imports):
        outputs, report = call_here(folder, form, inputs)
        return {key: value + 1e-3 for key, value in outputs.items()}, report

    monkeypatch.setattr(check, "call_elsewhere", other)
    with pytest.raises(lk.export.ExportError, match=r'endpoint "predict" \(output "logits", trial 1\).* 0.001'):
        classifier.export(tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_bad_input(classifier, tmp_path, monkeypatch):
    with pytest.raises(FileExistsError, match="Expected `folder` to be a new folder"):
        classifier.export(tmp_path)
    with pytest.raises(FileNotFoundError, match="a folder in an existing one"):
        classifier.export(tmp_path / "none" / "new")
    with pytest.raises(lk.utils.ArgumentError, match='Did you mean "saved_model"'):
        classifier.export(tmp_path / "new", format="savedmodel")
    with pytest.raises(lk.utils.ArgumentError, match="built: trained"):
        Exported().export(tmp_path / "new")
    monkeypatch.setattr(Exported, "exports", Classifier.exports)
    with pytest.raises(NotImplementedError, match=r"Exported has no `exports\(\)`"):
        classifier.export(tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_a_keras_model_has_the_endpoint_serve(tmp_path, monkeypatch):
    model = keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(2)])
    with unchecked(monkeypatch):
        lk.export.export(model, tmp_path / "new")
    loaded = tf.saved_model.load(str(tmp_path / "new"))
    found = loaded.serve(tf.ones((2, 3)))
    np.testing.assert_allclose(found["output_0"], model(tf.ones((2, 3))), atol=1e-6)


def test_the_command_names_the_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Classifier, "exports", serve)
    quiet("runs", max_epochs=2).fit(Classifier(), PointsData())
    task = "helpers.toys.Classifier"
    with unchecked(monkeypatch):
        assert cli.main(["export", task, "--out", "new"]) == 0
    assert "predict" in (out := capsys.readouterr().out) and out.endswith("Export: new\n")
    card = json.loads((tmp_path / "new" / "export.json").read_text())
    assert (card["name"], card["version"]) == ("classifier", lk.__version__)
    assert card["run"]["step"] in (5, 10) and card["run"]["data"]["init_args"]["size"] == 37
    assert set(card["run"]["metrics"]) == {"loss", "accuracy", "learning_rate", "val_loss", "val_accuracy"}
    assert "| val_loss |" in (tmp_path / "new" / "README.md").read_text()
    assert cli.main(["export", task, "--out", "new"]) == 1 and "a new folder" in capsys.readouterr().err
    assert cli.main(["export", task, "--out", "other", "--format", "onx"]) == 1


@pytest.mark.parametrize("there", [True, False])
def test_the_command_tries_examples_of_the_data_that_is_there(there, tmp_path, monkeypatch, caplog):
    tried = []

    class Read(PointsData):
        def setup(self, stage):
            tried.append(stage)
            if not there and stage == "validate":
                raise FileNotFoundError("points.csv is gone")

    task = Classifier()
    task.data = Read()
    with caplog.at_level("WARNING", "lightkeras"):
        read_trial_data(task)
    assert tried == ["validate"]
    told = "tried with made-up values, as the run's data cannot be read (FileNotFoundError: points.csv is gone)"
    assert (told in caplog.text) is not there
