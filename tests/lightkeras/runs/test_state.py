"""Resuming: a run that was killed, interrupted or limited at any update goes on to the very same bits."""

import contextlib
import errno
import itertools
import json
import shutil
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import yaml
from helpers.resuming import assert_same, outcome
from helpers.stopping import At, Killed, interrupt, kill
from helpers.toys import Classifier, PointsData, quiet, weights

import lightkeras as lk
from lightkeras import checkpoint as files
from lightkeras.checkpoint import archive
from lightkeras.cli import main as cli
from lightkeras.runs import folder as run_folder

SETTING = {
    "max_epochs": 3,
    "log_every_n_steps": 2,
    "val_check_interval": 3,
    "deterministic": True,
}  # 5 updates an epoch


def toys():
    return Classifier(dropout=0.4), PointsData()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing stops."""
    trainer = quiet(str(tmp_path_factory.mktemp("whole")), **SETTING)
    trainer.fit(*toys())
    return outcome(trainer.run_dir)


def stopped(root, at: int, how) -> lk.Trainer:
    """A run stopped after update `at` by a callback's `how()`, or limited to so many updates."""
    if how is None:
        trainer = quiet(root, **SETTING, max_steps=at)
        trainer.fit(*toys())
        return trainer
    saves = lk.ModelCheckpoint(every_n_steps=1)
    trainer = quiet(root, **SETTING, callbacks=[saves, At(at + (how is kill), how)])
    if how is kill:
        with pytest.raises(Killed):
            trainer.fit(*toys())
    else:
        trainer.fit(*toys())
        assert trainer.interrupted == signal.SIGINT
    return trainer


def history_of(left: dict) -> dict:
    return left["state"]["callbacks"]["callbacks"]["History-1"]


def test_the_whole_run(whole):
    assert whole["state"]["step"] == 15 and history_of(whole)["epoch"] == [0, 1, 2]
    rows = [line.split(",")[:2] for line in whole["rows"][1:]]
    assert rows == [  # logs each 2 updates and as an epoch ends, validations after 3 of an epoch and as it ends
        ["0", "2"], ["0", "3"], ["0", "4"], ["0", "5"], ["0", "5"],
        ["1", "6"], ["1", "8"], ["1", "8"], ["1", "10"], ["1", "10"],
        ["2", "12"], ["2", "13"], ["2", "14"], ["2", "15"], ["2", "15"],
    ]  # fmt: skip


@pytest.mark.parametrize("how", [kill, interrupt, None], ids=["killed", "interrupted", "limited"])
@pytest.mark.parametrize("at", [3, 5, 9])
def test_a_stopped_run_goes_on_to_the_same_bits(root, whole, at, how):
    first = stopped(root, at, how)
    trainer = quiet(root, **SETTING)
    history = trainer.fit(*toys(), ckpt_path="last")
    assert trainer.run_dir == first.run_dir and history.history == history_of(whole)["history"]
    assert_same(outcome(trainer.run_dir), whole)


def test_a_run_may_be_stopped_again_and_again(root, whole):
    for at in (2, 7, 11):
        quiet(root, **SETTING, max_steps=at).fit(*toys(), ckpt_path="auto")
    trainer = quiet(root, **SETTING)
    trainer.fit(*toys(), ckpt_path="auto")
    assert_same(outcome(trainer.run_dir), whole)
    assert len(list(Path(root, "classifier").iterdir())) == 1


# ---- what is continued, and what is refused


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of 2 epochs with each epoch's checkpoint kept; not to be written to."""
    saves = lk.ModelCheckpoint(keep_last=5)
    trainer = quiet(str(tmp_path_factory.mktemp("run")), max_epochs=2, run_eagerly=True, callbacks=[saves])
    trainer.fit(*toys())
    return trainer.run_dir


# ---- another cut, and changes that are allowed


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A run without dropout that was stopped within its second epoch, and the state of the whole run."""
    trainer = quiet(str(tmp_path_factory.mktemp("plain")), **SETTING)
    task = Classifier()
    trainer.fit(task, PointsData())
    root = str(tmp_path_factory.mktemp("stopped"))
    quiet(root, **SETTING, max_steps=8).fit(Classifier(), PointsData())
    return root, weights(task)


@pytest.mark.parametrize("cut", [{"devices": 2}, {"micro_batches": 2}, {"steps_per_execution": 3}], ids=str)
def test_a_run_may_go_on_in_another_cut(plain, root, cut):
    stopped_at_8, expected = plain
    shutil.copytree(stopped_at_8, root)
    task = Classifier()
    quiet(root, **SETTING, **cut).fit(task, PointsData(), ckpt_path="last")
    assert task.global_step == 15
    for ours, theirs in zip(weights(task), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-6)


def test_what_may_differ_is_allowed_by_name(run, root):
    there, task = copied(run, root), Classifier(dropout=0.1, learning_rate=0.01)
    refused = r"task.init_args.learning_rate: 0.05 then, 0.01 now.* allow_changes=\['task.init_args.learning_rate'\]"
    with pytest.raises(lk.CheckpointError, match=refused):
        quiet(root, max_epochs=3).fit(task, PointsData(), "last", allow_changes=["task.init_args.dropout"])
    trainer = quiet(root, max_epochs=3, run_eagerly=True)
    trainer.fit(task, PointsData(), "last", allow_changes=["task"])
    assert trainer.run_dir == there and task.global_step == 15
    assert task.optimizers.learning_rates()["learning_rate"] == pytest.approx(0.01)
    quiet(root, max_epochs=4, run_eagerly=True).fit(task, PointsData(), "last")  # it is this run's now


@pytest.mark.parametrize("changes", [["lr"], ["steps_per_epoch"], "data", [3]])
def test_what_cannot_be_allowed_is_refused(root, changes):
    with pytest.raises((ValueError, TypeError), match="`allow_changes` to be a list of names such as"):
        quiet(root).fit(*toys(), allow_changes=changes)


def test_a_run_begins_with_the_weights_of_another(run, root):
    saved = lk.checkpoint.load_checkpoint(files.latest_checkpoint(run / "checkpoints"))
    task, seen = Classifier(learning_rate=0.0), PointsData(size=20)
    trainer = quiet(root, max_epochs=1, run_eagerly=True, limit_val_batches=0)
    trainer.fit(task, seen, weights_path=str(run / "last"))
    assert task.global_step == 3 and trainer.run_dir.parent.parent == Path(root)
    trained = [array for name, array in saved.arrays.items() if name.startswith("model/") and "generator" not in name]
    for ours, theirs in zip(weights(task)[:4], trained, strict=True):  # it has no dropout, so no generator
        np.testing.assert_array_equal(ours, theirs)
    assert list(task.optimizers.update_counts().values()) == [3]  # a new optimizer


class Tuned(Classifier):
    """Two optimizers of another kind."""

    def configure_optimizers(self):
        return {"hidden": keras.optimizers.SGD(0.0, momentum=0.9), "head": keras.optimizers.RMSprop(0.01)}

    def optimizer_variables(self, name):
        return self.network.get_layer(name).trainable_variables

    def losses_of(self, batch, training):
        sums = super().losses_of(batch, training)
        return {"hidden_loss": sums["loss"], "head_loss": sums["loss"], **sums}


Tuned.__module__, Tuned.__qualname__ = Classifier.__module__, Classifier.__qualname__  # the run's task as it is now


def test_weights_alone_are_trained_on_by_other_optimizers(run, root):
    saved = lk.checkpoint.load_checkpoint(files.latest_checkpoint(run / "checkpoints")).arrays
    task = Tuned(dropout=0.4)
    quiet(root, max_steps=3, run_eagerly=True, limit_val_batches=0).fit(task, PointsData(), weights_path=f"{run}/last")
    trained = task.state_variables()
    kernels = [name for name in saved if name.startswith("model/") and name.endswith("kernel")]
    same = [np.array_equal(np.asarray(trained[name]), saved[name]) for name in kernels]
    assert same == [True, False]  # the first has a learning rate of 0
    assert task.optimizers.update_counts() == {"hidden": 3, "head": 3} and task.global_step == 3


def test_weights_are_for_the_beginning_of_a_run(run, root):
    with pytest.raises(ValueError, match="`weights_path` to be None with a ckpt_path to resume"):
        quiet(root).fit(*toys(), ckpt_path="last", weights_path=str(run))
    with pytest.raises(lk.CheckpointError, match="to be of this task and data"):
        quiet(root).fit(Other(dropout=0.4), PointsData(), weights_path=str(run))
    for epochs in (1, 2):
        trainer = quiet(root, max_epochs=epochs, run_eagerly=True)
        trainer.fit(*toys(), ckpt_path="auto", weights_path=str(run))
    assert trainer.history.epoch == [0, 1] and len(list(Path(root, "classifier").iterdir())) == 1


def copied(run: Path, root: str) -> Path:
    return Path(shutil.copytree(run, Path(root) / "classifier" / run.name))


def continued(root, ckpt_path, task=None, data=None, **arguments) -> lk.Trainer:
    trainer = quiet(root, **{"max_epochs": 3, "run_eagerly": True, **arguments})
    trainer.fit(task or toys()[0], data or PointsData(), ckpt_path=str(ckpt_path))
    return trainer


def test_a_run_folder_holds_what_repeats_the_run(run):
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["task"] == {
        "class_path": "helpers.toys.Classifier", "init_args": {"units": 5, "learning_rate": 0.05, "dropout": 0.4},
    }  # fmt: skip
    assert config["data"] == {
        "class_path": "helpers.toys.PointsData", "init_args": {"size": 37, "batch_size": 8, "shuffle": True},
    }  # fmt: skip
    assert config["trainer"]["max_epochs"] == 2 and config["trainer"]["seed"] == 0
    assert config["trainer"]["callbacks"] == [
        {
            "class_path": "lightkeras.callbacks.model_checkpoint.ModelCheckpoint",
            "init_args": {
                "monitor": "val_loss", "mode": "min", "save_top_k": 1, "every_n_steps": None, "keep_last": 5,
                "every_seconds": 600.0,
            },
        }
    ]  # fmt: skip
    logs = ["metrics.csv", "report.html", "tensorboard", "timeline.jsonl"]
    assert sorted(path.name for path in run.iterdir()) == ["checkpoints", "config.yaml", *logs]


def test_what_no_file_can_hold_is_named_in_the_config(root):
    trainer = quiet(root, max_steps=1, run_eagerly=True, callbacks=[keras.callbacks.TerminateOnNaN(), At(9, kill)])
    trainer.fit(*toys())
    text = (trainer.run_dir / "config.yaml").read_text()
    assert text.startswith("# Not in this file, since made in Python: keras.src.callbacks.terminate_on_nan.TerminateOn")
    assert "helpers.stopping.At" in text.splitlines()[0]
    assert yaml.safe_load(text)["trainer"]["callbacks"] is None


@pytest.mark.parametrize(
    ("task", "data", "arguments", "difference"),
    [
        (Classifier(units=6, dropout=0.4), None, {}, "task.init_args.units: 5 then, 6 now"),
        (None, PointsData(batch_size=4), {}, "data.init_args.batch_size: 8 then, 4 now"),
        (None, None, {"seed": 1}, "seed: 0 then, 1 now"),
        (None, None, {"limit_train_batches": 2}, "steps_per_epoch: 5 then, 2 now"),
    ],
)
def test_another_run_is_not_continued(run, root, task, data, arguments, difference):
    with pytest.raises(lk.CheckpointError, match=f"to be resumed as it was. Received: {difference}"):
        continued(root, run, task, data, **arguments)
    assert not Path(root).exists()


class Other(Classifier):
    """Another task of the same shape."""


OTHER = f"{Other.__module__}.Other"


class Words(PointsData):
    """Data with a vocabulary that depends on where it is read."""

    words = ["a", "b"]

    def state_dict(self):
        return {"words": self.words}

    def load_state_dict(self, state):
        self.words = state["words"]


def test_another_task_or_vocabulary_is_refused(run, root):
    with pytest.raises(lk.CheckpointError, match=f"task.class_path: 'helpers.toys.Classifier' then, '{OTHER}' now"):
        continued(root, run, task=Other(dropout=0.4))
    with pytest.raises(lk.CheckpointError, match=f"of {OTHER}. Received: .* Expected helpers.toys.Classifier to be"):
        Other.load_from_checkpoint(str(run))
    with pytest.raises(lk.CheckpointError, match=f"task: 'helpers.toys.Classifier' then, '{OTHER}' now"):
        quiet(root).test(Other(), PointsData(), ckpt_path=str(run))
    trainer = quiet(root, max_steps=1, run_eagerly=True)
    trainer.fit(Classifier(), Words())
    other = Words()
    other.words = ["a", "c"]
    with pytest.raises(lk.CheckpointError, match=r"data_state.words: \['a', 'b'\] then, \['a', 'c'\] now"):
        continued(root, "last", Classifier(), other)
    with pytest.raises(lk.CheckpointError, match=r"data_state.words: \['a', 'b'\] then"):
        quiet(root).test(Classifier(), other, ckpt_path="last")


def shorten(checkpoint: Path) -> str:
    shard = checkpoint / "arrays-00000.npz"
    shard.write_bytes(shard.read_bytes()[:-100])
    return "size in bytes"


def flip_a_byte(checkpoint: Path) -> str:
    shard = checkpoint / "arrays-00000.npz"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    return "to have SHA-256"


def lose_a_shard(checkpoint: Path) -> str:
    (checkpoint / "arrays-00000.npz").unlink()
    return "No such file"


def halve_the_manifest(checkpoint: Path) -> str:
    manifest = checkpoint / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[: manifest.stat().st_size // 2])
    return "to be whole JSON"


def damaged(run: Path, root, damage=shorten) -> tuple[Path, str, str, str]:
    """A copy of the run whose last checkpoint is damaged, its two checkpoints, and what is said of the damage."""
    there = copied(run, root)
    first, last = files.checkpoints(there / "checkpoints")
    return there, first, last, damage(Path(last))


@pytest.mark.parametrize("damage", [shorten, flip_a_byte, lose_a_shard, halve_the_manifest])
@pytest.mark.parametrize("ckpt_path", ["last", "auto"])
def test_a_run_with_a_damaged_checkpoint_goes_on_from_the_one_before(run, root, ckpt_path, damage):
    there, first, last, reason = damaged(run, root, damage)
    with pytest.warns(UserWarning, match=f"(?s)Passed over a damaged .* resumed from {first}. .*{reason}"):
        trainer = continued(root, ckpt_path)
    assert trainer.run_dir == there and Path(f"{last}.damaged").exists()
    assert lk.checkpoint.load_checkpoint(last).step == 10  # made again
    assert lk.checkpoint.load_checkpoint(files.latest_checkpoint(there / "checkpoints")).step == 15


def test_a_damaged_checkpoint_that_is_asked_for_is_refused_and_the_one_before_named(run, root):
    there, first, last, _ = damaged(run, root)
    with pytest.raises(lk.CheckpointError, match=f"(?s)size in bytes.*An earlier whole checkpoint: {first}"):
        continued(root, last)
    trainer = continued(root, first)
    assert trainer.run_dir != there and Path(last).exists()
    assert lk.checkpoint.load_checkpoint(files.latest_checkpoint(trainer.run_dir / "checkpoints")).step == 15


def test_from_an_older_checkpoint_a_run_goes_on_beside_the_old_one(run, root):
    there = copied(run, root)
    before = sorted(path for path in there.rglob("*"))
    trainer = continued(root, there / "checkpoints" / "step_000000005")
    assert sorted(path for path in there.rglob("*")) == before
    steps = [line.split(",")[1] for line in (trainer.run_dir / "metrics.csv").read_text().splitlines()[1:]]
    assert steps == ["5", "5", "10", "10", "15", "15"]
    best = Path(run_folder.open_checkpoint(trainer.run_dir).path)
    assert best.parent.parent == trainer.run_dir and best.exists()


def test_a_checkpoint_that_lies_elsewhere_is_continued_in_a_new_run(run, root, tmp_path):
    elsewhere = Path(shutil.copytree(run / "checkpoints" / "step_000000010", tmp_path / "models" / "mine"))
    trainer = continued(root, elsewhere)
    assert trainer.run_dir.parent == Path(root) / "classifier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models", "runs"]
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["mine"]


def test_names_of_checkpoints(run, root):
    there = copied(run, root)
    last = str(there / "checkpoints" / "step_000000010")
    scores = lk.checkpoint.load_checkpoint(last).state["callbacks"]["callbacks"]["ModelCheckpoint-1"]["scores"]
    best = str(there / "checkpoints" / next(iter(scores)))

    def find(*arguments):
        return run_folder.open_checkpoint(*arguments).path

    for name, meant in [("best", best), ("last", last), (there, best), (there / "last", last), (last, last)]:
        assert find(name, Path(root), "classifier") == meant
    assert find(there, Path(root), "classifier", "last") == last
    assert find("last", there, "classifier") == last  # the root is the run's own folder
    with pytest.raises(lk.CheckpointError, match=f"a run with a checkpoint in {root}/other. Received: none"):
        find("last", Path(root), "other")
    with pytest.raises(lk.CheckpointError, match="Received: ckpt_path='nowhere/last'"):
        find("nowhere/last", Path(root), "classifier")
    with pytest.raises(lk.CheckpointError, match="a run's folder with a checkpoint in it"):
        continued(root, "lsat")


def test_the_newest_run_is_the_one_that_saved_last(run, root):
    old = copied(run, root)
    new = quiet(root, max_steps=1, run_eagerly=True)
    new.fit(*toys())
    assert run_folder.newest_run(Path(root), "classifier") == new.run_dir
    trainer = continued(root, old)
    assert trainer.run_dir == old == run_folder.newest_run(Path(root), "classifier")


def test_runs_of_the_same_second_have_folders_of_their_own(root):
    trainers = [quiet(root, max_steps=n) for n in (1, 2, 3, 4)]
    folders = {run_folder.open_run(trainer, *toys(), None) for trainer in trainers}
    assert len(folders) == 4
    configs = [yaml.safe_load((folder / "config.yaml").read_text()) for folder in folders]
    assert sorted(config["trainer"]["max_steps"] for config in configs) == [1, 2, 3, 4]


def test_a_run_without_a_checkpoint_is_begun_by_auto_and_refused_by_last(root):
    with pytest.raises(lk.CheckpointError, match="Received: none is there"):
        continued(root, "last")
    first = continued(root, "auto", max_steps=1)
    second = continued(root, "auto", max_steps=2)
    assert second.run_dir == first.run_dir


def test_a_drawn_seed_is_the_runs_own(root):
    trainer = quiet(root, seed=None, max_steps=2, run_eagerly=True)
    trainer.fit(*toys())
    assert yaml.safe_load((trainer.run_dir / "config.yaml").read_text())["trainer"]["seed"] == trainer.seed
    other = continued(root, "last", seed=None)
    assert other.seed == trainer.seed and other.run_dir == trainer.run_dir
    assert quiet(seed=None).seed != quiet(seed=None).seed


def test_a_run_that_is_done_says_so_and_changes_nothing(run, root, capsys):
    there = copied(run, root)
    rows = (there / "metrics.csv").read_text()
    trainer = continued(root, there, max_epochs=2)
    assert "Nothing to do: 10 updates are made already." in capsys.readouterr().out
    assert (there / "metrics.csv").read_text() == rows and trainer.run_dir == there


def test_a_full_disk_leaves_the_old_checkpoint(root, monkeypatch):
    trainer = quiet(root, max_epochs=1, run_eagerly=True)
    trainer.fit(*toys())
    seen = {}

    class Watch(lk.Callback):
        def on_exception(self, error):
            seen["error"] = error

    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archive.HashingFile, "write", full)
    with pytest.raises(
        lk.CheckpointError, match=r"(?s)No space left on device.*are intact, the latest: .*step_000000005"
    ):
        continued(root, "last", callbacks=[Watch()])
    assert isinstance(seen["error"], lk.CheckpointError)
    monkeypatch.undo()
    assert continued(root, "last").run_dir == trainer.run_dir


@pytest.fixture
def disk(tmp_path):
    """A file system of half a megabyte that refuses root too."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> None:
    with (disk / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(512)):
            pass


def forbid(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


@pytest.mark.parametrize(("refuse", "reason"), [(fill, "No space left"), (forbid, "Read-only file system")])
def test_a_real_disk_that_refuses_ends_the_run_and_leaves_its_checkpoint(disk, refuse, reason):
    """It refuses after the second epoch's 2 updates; then there is room again."""
    trainer = quiet(str(disk), max_epochs=2, run_eagerly=True, logger=False, callbacks=[At(7, lambda: refuse(disk))])
    with pytest.raises(
        lk.CheckpointError, match=f"(?s)Could not write .*{reason}.* intact, the latest: .*000000005"
    ) as raised:
        trainer.fit(*toys())
    (note,) = raised.value.__notes__
    assert f"The run is saved up to update 5. Resume it with ckpt_path='{trainer.run_dir}'" in note
    subprocess.run(["mount", "-o", "remount,rw,size=4m", str(disk)], check=True)
    assert continued(disk, "last", max_epochs=2).run_dir == trainer.run_dir
    assert saved_steps(trainer.run_dir)[-1] == 10


def test_logs_on_a_full_disk_end_the_run_too(disk):
    """Where the first thing that cannot be written is a row of metrics.csv or of TensorBoard.

    A few rows still fit into a file's last block, so an epoch has many.
    """
    data, refusing = PointsData(size=1600), At(207, lambda: fill(disk))
    trainer = quiet(str(disk), max_epochs=2, log_every_n_steps=1, callbacks=[refusing])
    with pytest.raises(OSError, match="No space left on device") as raised:
        trainer.fit(toys()[0], data)
    (note,) = raised.value.__notes__
    assert " could not be saved: Could not write" in note
    assert f"The run is saved up to update 200. Resume it with ckpt_path='{trainer.run_dir}'" in note
    subprocess.run(["mount", "-o", "remount,rw,size=4m", str(disk)], check=True)
    assert continued(disk, "last", data=data, max_epochs=2, run_eagerly=False).run_dir == trainer.run_dir
    rows = (trainer.run_dir / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows[1:]][-2:] == ["400", "400"] and len(rows) == len(set(rows))


def test_the_same_from_the_command_line(root, capsys):
    quickly = {"default_root_dir": root, "run_eagerly": "true", "limit_val_batches": "0", "num_sanity_val_steps": "0"}
    fit = ["fit", "helpers.toys.Classifier", *(f"--trainer.{name}={value}" for name, value in quickly.items())]
    folder = Path(root, "classifier")

    def on(steps, *options) -> int:
        return cli.main([*fit, "--trainer.max_steps", str(steps), *options])

    assert on(2, "--ckpt_path", "auto") == 0 and on(4, "--ckpt_path", "auto") == 0
    (first,) = folder.iterdir()
    changed = ("--ckpt_path", "auto", "--task.learning_rate", "0.01")
    assert on(5, *changed) == 1
    assert "0.05 then, 0.01 now. If this is intended, allow it by name: allow_changes=" in capsys.readouterr().err
    assert on(5, *changed, "--allow_changes", "task.init_args.learning_rate") == 0
    assert saved_steps(first) == [4, 5] and len(list(folder.iterdir())) == 1
    assert on(1, "--weights_path", str(first)) == 0 and len(list(folder.iterdir())) == 2


class Fails(lk.Callback):
    """Raises after update `step`."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch, logs=None):
        if self.model.global_step == self.step:
            raise OSError("no more")


def test_an_error_in_a_callback_leaves_the_weights_and_says_where(root):
    trainer = quiet(root, max_epochs=3, run_eagerly=True, callbacks=[Fails(7)])
    with pytest.raises(OSError, match="no more") as raised:
        trainer.fit(*toys())
    path = trainer.run_dir / "after_error" / "step_000000007"
    (note,) = raised.value.__notes__
    assert note.startswith(f"The weights of update 7 are in {path}. The run is saved up to update 5. Resume it with ")
    assert lk.checkpoint.load_checkpoint(path).step == 7
    resumed = continued(root, path, max_epochs=2)
    assert resumed.run_dir != trainer.run_dir and resumed.history.epoch == [0, 1]
    assert continued(root, trainer.run_dir, max_epochs=2).run_dir == trainer.run_dir


class Breaks(Classifier):
    """An update that fails half-way, from update 7 on."""

    def train_step(self, batch):
        sums = self.minimize(self.losses_of, batch)
        if not self._building and self.global_step == 6:
            raise RuntimeError("half-way")
        return sums


def test_an_error_within_an_update_leaves_the_checkpoint_before(root):
    trainer = quiet(root, max_epochs=3, run_eagerly=True, steps_per_execution=1)
    with pytest.raises(RuntimeError, match="half-way") as raised:
        trainer.fit(Breaks(), PointsData())
    assert raised.value.__notes__[0].startswith("The run is saved up to update 5. Resume it with ")
    assert not (trainer.run_dir / "after_error").exists()


# ---- the Trainer's intervals


def saved_steps(run: Path) -> list[int]:
    return [int(Path(path).name[5:]) for path in files.checkpoints(run / "checkpoints")]


def test_checkpoints_come_by_updates_and_by_the_clock(root, monkeypatch):
    trainer = quiet(root, max_steps=4, run_eagerly=True, checkpoint_every_n_steps=3, limit_val_batches=0)
    trainer.fit(*toys())
    assert saved_steps(trainer.run_dir) == [3, 4]
    looks = itertools.count()  # a call of an update takes 100 seconds
    clock = SimpleNamespace(monotonic=lambda: 100 * next(looks))
    monkeypatch.setattr("lightkeras.callbacks.model_checkpoint.time", clock)
    arguments = {"run_eagerly": True, "limit_val_batches": 0, "steps_per_execution": 1}
    trainer = quiet(root, max_steps=4, checkpoint_every_seconds=250, **arguments)
    trainer.fit(*toys())
    assert saved_steps(trainer.run_dir) == [3, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"checkpoint_every_n_steps": 0}, "`checkpoint_every_n_steps` to be a positive int"),
        ({"checkpoint_every_seconds": 0}, "`checkpoint_every_seconds` to be a number above 0"),
        ({"checkpoint_every_n_steps": 5, "enable_checkpointing": False}, "None with enable_checkpointing=False"),
        ({"checkpoint_every_seconds": 5, "callbacks": [lk.ModelCheckpoint()]}, "None beside your own ModelCheckpoint"),
        ({"default_root_dir": "nowhere://bucket/runs"}, "`default_root_dir` to be a local path"),
    ],
)
def test_intervals_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        lk.Trainer(**arguments)


# ---- use of what is saved


def test_a_task_is_made_again_from_its_run_alone(run):
    task = lk.TaskModule.load_from_checkpoint(str(run / "last"))
    assert isinstance(task, Classifier) and task.hparams["dropout"] == 0.4 and task.global_step == 10
    saved = lk.checkpoint.load_checkpoint(str(run / "checkpoints" / "step_000000010"))
    for name, variable in task.state_variables().items():
        np.testing.assert_array_equal(np.asarray(variable), saved.arrays[name])


def test_evaluation_takes_the_checkpoint_or_the_task_as_it_is(run, root):
    state = json.loads(json.dumps(lk.checkpoint.load_checkpoint(files.latest_checkpoint(run / "checkpoints")).state))
    history = state["callbacks"]["callbacks"]["History-1"]["history"]
    trainer = quiet(root)
    task = Classifier(dropout=0.4)
    last = trainer.validate(task, PointsData(), ckpt_path=str(run / "last"))
    assert last["val_loss"] == pytest.approx(history["val_loss"][1], rel=1e-6)
    assert trainer.validate(task, PointsData()) == last  # built now, and used as it is
    tested = trainer.test(task, PointsData(), ckpt_path=str(run / "checkpoints" / "step_000000005"))
    assert tested["test_loss"] == pytest.approx(history["val_loss"][0], rel=1e-6)
    assert set(tested) == {"test_loss", "test_accuracy"}
    assert not Path(root).exists()


def test_the_model_of_a_checkpoint_must_be_this_model(run, root):
    with pytest.raises(
        lk.CheckpointError, match=r"hidden.*: expected \(4, 7\), received \(4, 5\)|kernel: expected \(4"
    ):
        quiet(root).test(Classifier(units=7), PointsData(), ckpt_path=str(run))


def test_resuming_keeps_the_patience_of_early_stopping(root):
    """val_loss rises at once with a far too high learning rate; patience 4, stopped after 2 epochs and continued."""

    def fit(epochs, ckpt_path=None):
        stopping = lk.EarlyStopping("val_loss", patience=4, min_delta=100.0)  # the first value is never beaten
        trainer = quiet(root, max_epochs=epochs, run_eagerly=True, callbacks=[stopping])
        trainer.fit(*toys(), ckpt_path=ckpt_path)
        return stopping, trainer

    stopping, _ = fit(2)
    assert stopping.wait == 1 and stopping.best is not None
    resumed, trainer = fit(20, "last")
    assert resumed.best == stopping.best and resumed.wait == 4
    assert trainer.history.epoch == [0, 1, 2, 3, 4]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' own, of its variables
def test_keras_callbacks_keep_their_state_too(root):
    def fit(epochs, ckpt_path=None):
        stopping = keras.callbacks.EarlyStopping("val_loss", patience=4, min_delta=100.0)
        plateau = keras.callbacks.ReduceLROnPlateau("val_loss", patience=3, min_delta=100.0, factor=0.1)
        trainer = quiet(root, max_epochs=epochs, run_eagerly=True, callbacks=[stopping, plateau])
        trainer.fit(*toys(), ckpt_path=ckpt_path)
        return trainer

    fit(2)
    trainer = fit(20, "last")
    assert trainer.history.epoch == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(trainer.history.history["learning_rate"], [0.05] * 4 + [0.005], rtol=1e-6)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("at", [7, 18])
def test_a_run_with_stateful_callbacks_ends_as_if_it_was_never_killed(tmp_path, at):
    """Keras' own and ours, whose patience runs out after the kill: to the bit, and at the same epoch."""

    def callbacks():
        stopping = keras.callbacks.EarlyStopping("val_loss", patience=4, min_delta=100.0)
        plateau = keras.callbacks.ReduceLROnPlateau("val_loss", patience=2, min_delta=100.0, factor=0.5)
        ours = lk.EarlyStopping("val_loss", patience=9, min_delta=100.0)
        best = lk.ModelCheckpoint("val_accuracy", "max", save_top_k=3, every_n_steps=2)
        return [stopping, plateau, ours, best]

    def fit(root, *more, **arguments):
        trainer = quiet(str(tmp_path / root), max_epochs=20, deterministic=True, callbacks=[*callbacks(), *more])
        trainer.fit(*toys(), **arguments)
        return trainer

    whole = fit("whole")
    with pytest.raises(Killed):
        fit("killed", At(at + 1, kill))
    resumed = fit("killed", ckpt_path="last")
    assert resumed.history.epoch == whole.history.epoch == [0, 1, 2, 3, 4]
    rates = whole.history.history["learning_rate"]
    assert rates[0] > rates[3] and resumed.history.history["learning_rate"] == rates
    assert_same(outcome(resumed.run_dir), outcome(whole.run_dir))
    names = [[path.name for path in (run.run_dir / "checkpoints").iterdir()] for run in (whole, resumed)]
    assert sorted(names[0]) == sorted(names[1]) and len(names[0]) >= 3


def test_weights_are_those_of_the_run(run):
    task = Classifier.load_from_checkpoint(str(run / "last"))
    assert len(weights(task)) == 5  # two layers, and the dropout's seed generator


@pytest.mark.parametrize("part", ["task", "data"])
def test_a_forged_manifest_calls_no_other_class(run, tmp_path, part):
    """The checksum is right: whoever forges a manifest writes it anew."""
    folder = Path(shutil.copytree(run / "checkpoints" / "step_000000010", tmp_path / "step_000000010"))
    saved = lk.checkpoint.load_checkpoint(folder)
    harm = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(tmp_path / "harm")]}}
    forged = lk.checkpoint.save_checkpoint(tmp_path / "forged", 10, saved.arrays, {**saved.state, part: harm})
    with pytest.raises(lk.CheckpointError, match=r"Expected a checkpoint of .* Expected subprocess\.Popen to be a"):
        Classifier.load_from_checkpoint(forged)
    assert not (tmp_path / "harm").exists()


def test_a_damaged_table_of_metrics_matters_to_exports_alone(root):
    trainer = quiet(root, max_steps=2)
    trainer.fit(Classifier(), PointsData())
    assert Classifier.load_from_checkpoint(trainer.run_dir).read_run_facts()["metrics"].keys() >= {"loss", "val_loss"}
    (trainer.run_dir / "metrics.csv").write_text("epoch,step,loss\n0,2,abc\n", encoding="utf-8")
    task = Classifier.load_from_checkpoint(trainer.run_dir)
    with pytest.raises(ValueError, match=r"metrics.csv to hold rows of numbers with a `step`. Received: .*abc"):
        task.read_run_facts()
