"""Branches: new runs from a past moment of another."""

import json
import shutil

import numpy as np
import pytest
import yaml
from helpers.toys import Classifier, PointsData, quiet

import lightkeras as lk
from lightkeras.cli.main import main


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    root = tmp_path_factory.mktemp("parent")
    trainer = quiet(root, max_steps=9, log_every_n_steps=1, deterministic=True)
    trainer.fit(Classifier(dropout=0.3), PointsData())
    return trainer.run_dir


def rows(run):
    return (run / "metrics.csv").read_text().splitlines()


def test_a_branch_without_a_change_is_the_run(parent, tmp_path):
    before = {path: path.read_bytes() for path in parent.rglob("*") if path.is_file()}
    trainer = lk.branch(parent, 4, default_root_dir=str(tmp_path))
    assert trainer.run_dir != parent and rows(trainer.run_dir) == rows(parent)
    ours, theirs = (
        lk.checkpoint.load_checkpoint(lk.checkpoint.latest_checkpoint(run / "checkpoints")).arrays
        for run in (trainer.run_dir, parent)
    )
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)
    assert {path: path.read_bytes() for path in parent.rglob("*") if path.is_file()} == before
    assert json.loads((trainer.run_dir / "branch.json").read_text()) == {"run": str(parent), "step": 4}


def test_a_branch_differs_from_its_update_on(parent, tmp_path):
    trainer = lk.branch(
        parent, 4, task=Classifier(dropout=0.3, learning_rate=0.5), default_root_dir=str(tmp_path), max_steps=6
    )
    ours, theirs = rows(trainer.run_dir), rows(parent)
    assert ours[:4] == theirs[:4] and len([row for row in ours if row.split(",")[2]]) == 1 + 6
    loss = [row.split(",")[2] for row in ours], [row.split(",")[2] for row in theirs]
    assert loss[0][4] == loss[1][4] and loss[0][5] != loss[1][5]  # the rate acts in the update after that loss
    config = yaml.safe_load((trainer.run_dir / "config.yaml").read_text())
    assert config["task"]["init_args"]["learning_rate"] == 0.5 and config["trainer"]["max_steps"] == 6
    (origin,) = config["trainer"]["callbacks"]
    assert origin["init_args"] == {"run": str(parent), "step": 4}
    assert lk.replay(trainer.run_dir, 6).began == 5
    with pytest.raises(lk.utils.ArgumentError, match="the first checkpoint of a branch, which is that of update 5"):
        lk.replay(trainer.run_dir, 5)


def test_the_command(parent, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    parent = shutil.copytree(parent, tmp_path / "parent")
    with (parent / "metrics.csv").open("a") as file:
        file.write("1,1")  # killed as it wrote row 10
    options = ["--task.learning_rate", "0.2", "--trainer.max_steps", "5", "--trainer.default_root_dir", "made"]
    assert main(["branch", str(parent), "--step", "3", *options]) == 0
    (made,) = (tmp_path / "made/classifier").iterdir()
    assert f"lightkeras report {parent} made/classifier/{made.name}" in capsys.readouterr().out
    assert rows(made)[:3] == rows(parent)[:3] and [row[:4] for row in rows(made)[3:5]] == ["0,3,", "0,4,"]
    assert main(["branch", str(parent), "--step", "30"]) == 1
    assert "`step` to be an update of the run" in capsys.readouterr().err
