"""Runs in a remote folder. TensorFlow's file system in memory stands for `gs://`: it knows no local paths, cannot
rename folders and keeps no times. That it is written to by `tf.io.gfile` alone is what they have in common."""

import itertools
import os

import pytest
import tensorflow as tf
import yaml
from helpers.resuming import assert_same, outcome
from helpers.toys import Classifier, PointsData, quiet
from PIL import Image

import lightkeras as lk
from lightkeras import checkpoint
from lightkeras.checkpoint import storage
from lightkeras.cli import main as cli
from lightkeras.runs import folder as run_folder
from lightkeras.utils.paths import RemotePath, as_local, as_path, copy_files, truncate

SETTING = {"max_epochs": 3, "log_every_n_steps": 2, "val_check_interval": 3, "deterministic": True}
NUMBER = itertools.count()


@pytest.fixture
def remote():
    """A folder of its own."""
    return as_path(f"ram://bucket-{next(NUMBER)}/runs")


class Draws(Classifier):
    """Writes text, and a picture by a library that knows local paths alone."""

    def write_samples(self, folder, name):
        updates = str(self.global_step)
        (folder / f"{name}.txt").write_text(updates)
        Image.new("L", (4, 4), self.global_step).save(folder / f"{name}.png")
        (folder / "all.txt").write_text(" ".join(sorted(path.name for path in folder.glob("*.txt"))))


class At(lk.Callback):
    """Raises, or sends a signal, after an update."""

    def __init__(self, step, error):
        super().__init__()
        self.step, self.error = step, error

    def on_train_batch_end(self, batch, logs=None):
        if self.model.global_step == self.step:
            if isinstance(self.error, BaseException):
                raise self.error
            os.kill(os.getpid(), self.error)


class Killed(BaseException):
    """Takes the place of SIGKILL, at which all in memory would be gone."""


def task():
    return Draws(dropout=0.4), PointsData()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run in a local folder that nothing stops."""
    trainer = quiet(str(tmp_path_factory.mktemp("whole")), **SETTING)
    trainer.fit(*task())
    return outcome(trainer.run_dir)


@pytest.mark.parametrize("at", [3, 7, 11])
def test_a_run_in_a_remote_folder_goes_on_to_the_same_bits(remote, whole, at):
    first = quiet(str(remote), **SETTING, callbacks=[lk.ModelCheckpoint(every_n_steps=1), At(at + 1, Killed())])
    with pytest.raises(Killed):
        first.fit(*task())
    trainer = quiet(str(remote), **SETTING)
    trainer.fit(*task(), ckpt_path="last")
    assert trainer.run_dir == first.run_dir and str(trainer.run_dir).startswith(f"{remote}/draws/")
    assert_same(outcome(trainer.run_dir), whole)
    assert whole["samples"]["all.txt"] == b"all.txt epoch_0001.txt epoch_0002.txt epoch_0003.txt"
    logs = ["metrics.csv", "report.html"]
    names = ["checkpoints", "config.yaml", *logs, "samples", "tensorboard", "timeline.jsonl"]
    assert [path.name for path in trainer.run_dir.iterdir()] == names


def test_a_remote_run_is_limited_and_repeated_from_its_config(remote, whole, tmp_path, monkeypatch):
    """`auto` begins and goes on; an older checkpoint goes on in a new folder, here or there."""
    for steps in (4, 8):
        trainer = quiet(str(remote), **SETTING, max_steps=steps)
        trainer.fit(*task(), ckpt_path="auto")
    assert len((remote / "draws").iterdir()) == 1
    older = checkpoint.checkpoints(trainer.run_dir / "checkpoints")[0]
    for root in (str(remote), str(tmp_path)):
        other = quiet(root, **SETTING)
        other.fit(*task(), ckpt_path=older)
        assert other.run_dir != trainer.run_dir and str(other.run_dir).startswith(root)
        ours = outcome(other.run_dir)
        assert (ours["rows"], ours["events"]) == (whole["rows"], whole["events"])
    made = Draws.load_from_checkpoint(str(trainer.run_dir))
    assert made.hparams["dropout"] == 0.4
    assert set(quiet().validate(made, PointsData())) == {"val_loss", "val_accuracy"}


def test_a_damaged_remote_checkpoint_is_put_aside(remote):
    trainer = quiet(str(remote), max_epochs=2, run_eagerly=True)
    trainer.fit(*task())
    first, last = checkpoint.checkpoints(trainer.run_dir / "checkpoints")
    shard = as_path(last) / "arrays-00000.npz"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(bytes(content))
    with pytest.warns(UserWarning, match=f"(?s)resumed from {first}. .*arrays-00000.npz to have SHA-256"):
        quiet(str(remote), max_epochs=2, run_eagerly=True).fit(*task(), ckpt_path="auto")
    assert [p.name for p in as_path(last + ".damaged").iterdir()] == ["arrays-00000.npz", "manifest.json"]
    assert checkpoint.load_checkpoint(last).step == 10  # made again


def test_an_error_leaves_the_weights_and_a_full_store_the_checkpoint_before(remote, monkeypatch):
    trainer = quiet(str(remote), max_epochs=2, run_eagerly=True, callbacks=[At(7, OSError("no more"))])
    with pytest.raises(OSError, match="no more") as raised:
        trainer.fit(*task())
    where = trainer.run_dir / "after_error" / "step_000000007"
    assert f"The weights of update 7 are in {where}. The run is saved up to update 5" in raised.value.__notes__[0]
    assert lk.checkpoint.load_checkpoint(where).step == 7

    def full(*args):
        raise tf.errors.ResourceExhaustedError(None, None, "quota")

    monkeypatch.setattr(storage.RemoteFiles, "commit", full)
    with pytest.raises(lk.CheckpointError, match=r"quota. Checkpoints there are intact, the latest: .*step_000000005"):
        quiet(str(remote), max_epochs=2, run_eagerly=True).fit(*task(), ckpt_path="last")


def test_the_command_line(remote, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    quickly = ["--trainer.limit_val_batches=0", "--trainer.num_sanity_val_steps=0", "--trainer.run_eagerly=true"]
    begin = [
        "fit",
        "helpers.toys.Classifier",
        "--trainer.default_root_dir",
        str(remote),
        "--trainer.max_steps=2",
        *quickly,
    ]
    assert cli.main([*begin, "--ckpt_path", "auto"]) == 0
    run = run_folder.newest_run(remote, "classifier")
    assert f"Run: {run}\n" in capsys.readouterr().out
    config = run / "config.yaml"
    assert yaml.safe_load(config.read_text())["trainer"]["default_root_dir"] == str(remote)
    assert cli.main(["fit", "--config", str(config), "--ckpt_path", "last", "--trainer.max_steps", "3"]) == 0
    assert cli.main(["fit", f"--config={config}", "--ckpt_path=auto", "--trainer.max_steps=4"]) == 0
    assert checkpoint.latest_checkpoint(run / "checkpoints").endswith("step_000000004")
    assert cli.main(["validate", "helpers.toys.Classifier", "--trainer.default_root_dir", str(remote)]) == 0
    assert len((remote / "classifier").iterdir()) == 1 and list(tmp_path.iterdir()) == []
    assert cli.main(["fit", "--config", f"{run}/none.yaml"]) == 2
    assert "lightkeras: error:" in capsys.readouterr().err


def test_a_file_system_that_tensorflow_has_not_is_refused(root):
    of_tensorflow = "a local path, or one of TensorFlow's file systems .*gs://, ram://.*"
    with pytest.raises(ValueError, match=f"`default_root_dir` to be {of_tensorflow}: default_root_dir='s4://b/runs'"):
        lk.Trainer(default_root_dir="s4://b/runs")
    with pytest.raises(ValueError, match=f"`ckpt_path` to be {of_tensorflow}: ckpt_path='s4://b/runs'"):
        quiet(root).fit(*task(), ckpt_path="s4://b/runs")


# ---- paths


def test_a_remote_path_has_what_a_local_one_has(remote, tmp_path):
    for folder in (remote / "a", tmp_path / "a"):
        folder.mkdir(parents=True)
        with pytest.raises(FileExistsError):
            folder.mkdir()
        file = folder / "b.txt"
        assert (file.name, file.parent) == ("b.txt", folder) and not file.exists() and folder.is_dir()
        for call in (file.read_bytes, file.unlink, file.stat):
            with pytest.raises(FileNotFoundError):
                call()
        with file.open("w", newline="", encoding="utf-8") as opened:
            opened.write("é\n")
        with file.open("a", newline="", encoding="utf-8") as opened:
            opened.write("2")
        with file.open(newline="", encoding="utf-8") as opened:
            assert list(opened) == ["é\n", "2"]
        assert file.read_text(encoding="utf-8") == "é\n2" and file.stat().st_size == 4
        truncate(file, 2)
        assert file.read_bytes() == "é".encode() and not file.is_dir()
        file.replace(folder / "c.txt")
        (folder / "d").mkdir()
        (folder / "d" / "e").write_bytes(b"1")
        assert [path.name for path in sorted(folder.glob("*"))] == ["c.txt", "d"]
        assert [path.name for path in folder.glob("*.txt")] == ["c.txt"]
    for source, target in [(remote / "a", tmp_path / "t"), (tmp_path / "t", remote / "t")]:
        copy_files(source, target)
        assert (target / "c.txt").read_bytes() == "é".encode() and (target / "d" / "e").read_bytes() == b"1"


def test_names_of_remote_paths():
    path = as_path("ram://bucket//a/../b/")
    assert isinstance(path, RemotePath) and str(path) == os.fspath(path) == "ram://bucket/b"
    assert path == RemotePath("ram://bucket/b") and len({path, RemotePath("ram://bucket/b")}) == 1
    assert sorted([path / "z", path / "a"])[0].name == "a" and repr(path) == "RemotePath('ram://bucket/b')"
    assert as_path(path) == path and str(as_path("gs://b")) == "gs://b"


def test_only_what_is_new_is_copied_back(remote, monkeypatch):
    (remote / "old.txt").parent.mkdir(parents=True)
    (remote / "old.txt").write_text("1")
    (remote / "other.txt").write_text("1")
    written, write = [], RemotePath.write_bytes
    monkeypatch.setattr(RemotePath, "write_bytes", lambda path, data: (written.append(path.name), write(path, data)))
    with as_local(remote) as local:
        (local / "old.txt").write_text("2")
        (local / "deep").mkdir()
        (local / "deep" / "new.txt").write_text("3")
    assert sorted(written) == ["new.txt", "old.txt"]
    assert (remote / "old.txt").read_text() == "2" and (remote / "deep" / "new.txt").read_text() == "3"
