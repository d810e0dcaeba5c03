"""The home folder in every path that a user gives."""

from pathlib import Path

import numpy as np
import pytest
from helpers.toys import Classifier, PointsData, quiet

import lightkeras as lk
from lightkeras.data.download import Download, fetch
from lightkeras.metrics import image_classifier
from lightkeras.tuning import Tuner
from lightkeras.utils.checks import new_file
from lightkeras.utils.files import sha256
from lightkeras.utils.paths import as_path, local_path
from tasks.captioning.photos.encoders import Encoder
from tasks.dcgan import MNISTData
from tasks.text_generation import TextData
from tasks.translation import TranslationData


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """The home folder; the present one is another, and must stay empty."""
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    yield tmp_path / "home"
    assert not list((tmp_path / "here").iterdir())


def test_a_path_begins_in_the_home_folder(home):
    assert as_path("~/runs") == local_path("~/runs") == home / "runs" and as_path("~") == home
    assert as_path("~nobody.txt") == Path("~nobody.txt") and as_path("a/~") == Path("a/~")  # plain names
    assert str(as_path("ram://~/a")) == "ram://~/a"


def test_new_files(home):
    assert new_file("out", "~/a.png") == home / "a.png"
    (home / "a.png").write_bytes(b"")
    with pytest.raises(FileExistsError, match="a new file"):
        new_file("out", "~/a.png")
    assert sha256("~/a.png") == sha256(home / "a.png")


def test_runs_and_their_checkpoints(home):
    task = Classifier()
    trainer = quiet("~/runs", max_epochs=1, limit_val_batches=0)
    trainer.fit(task, PointsData())
    assert trainer.run_dir.parent.parent == home / "runs"
    run = f"~/runs/{trainer.run_dir.parent.name}/{trainer.run_dir.name}"
    again = Classifier.load_from_checkpoint(run)
    np.testing.assert_array_equal(again.weights[0], task.weights[0])


def test_sources(home, monkeypatch):
    (home / "a.txt").write_text("a text of letters. " * 99, encoding="utf-8")
    data = TextData("~/a.txt", seq_len=8)
    data.setup("fit")
    assert len(data.splits["train"]) > 1000
    (home / "b.txt").write_text("".join(f"x{i}\ty{i}\n" for i in range(9)), encoding="utf-8")
    with pytest.raises(ValueError, match=r"share no sentence"):  # it was read
        TranslationData("~/b.txt").setup("fit")
    np.savez(home / "c.npz", x_train=np.zeros((40, 8, 8), np.uint8))
    MNISTData("~/c.npz").setup("fit")
    monkeypatch.setenv("LIGHTKERAS_DATA", "~")
    download = Download(url="http://x/a", size=1, checksum="md5:" + "0" * 32, folder=".", name="a.txt")
    assert fetch(download) == home / "a.txt"
    (home / "m.keras").write_bytes(b"x")
    assert Encoder("~/m.keras").settings["model"] == "m"


def test_searches_and_caches(home):
    tuner = Tuner(
        Classifier, {"task.units": {"int": [1, 4]}}, folder="~/search", max_trials=1, trainer={"max_epochs": 1}
    )
    assert tuner.folder == home / "search"
    (home / "space.yaml").write_text("task.units: {int: [1, 4]}\n", encoding="utf-8")
    assert (
        Tuner(Classifier, "~/space.yaml", folder="~/search", max_trials=1, trainer={"max_epochs": 1})
        .space.space[0]
        .name
        == "task.units"
    )
    train = lk.metrics.LabelledImages(np.zeros((2, 8, 8, 1), np.uint8), np.array([0, 1]))
    old, image_classifier.MIN_UPDATES = image_classifier.MIN_UPDATES, 1
    image_classifier.load_or_train(train, "~/cache")
    image_classifier.MIN_UPDATES = old
    assert [path.suffix for path in (home / "cache").iterdir()] == [".npz"]
