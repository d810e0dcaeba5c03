"""The commands for a function that builds a plain Keras model."""

import keras
import numpy as np
import pytest
from helpers.exporting import unchecked

import lightkeras as lk
from lightkeras.cli.main import main

MODULE = """
import keras
import numpy as np

x = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")


def load_data():
    y = x.sum(axis=1)
    return {"data": (x, y), "validation_data": (x[:8], y[:8]), "predict_data": x, "batch_size": 8}


def build_model(units: int = 2):
    model = keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(units, "relu"), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    return model
"""
QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("plain")
    (made / "plain_net.py").write_text(MODULE, encoding="utf-8")
    return made


@pytest.fixture
def run(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))

    def call(command: str, *options: str) -> tuple[int, str, str]:
        code = main([command, "plain_net:build_model", *options])
        return code, *capsys.readouterr()

    return call


def test_a_run_is_fitted_resumed_evaluated_used_and_exported(run, folder, monkeypatch):
    code, out, _ = run("fit", *QUIET, "--trainer.max_epochs", "1", "--model.units", "3")
    assert code == 0 and "Run: runs/sequential/" in out
    assert run("fit", *QUIET, "--trainer.max_epochs", "2", "--model.units", "3", "--ckpt_path", "last")[0] == 0
    (made,) = (folder / "runs/sequential").iterdir()
    rows = (made / "metrics.csv").read_text(encoding="utf-8").splitlines()
    assert {"loss", "mae", "val_loss", "val_mae"} <= set(rows[0].split(","))
    last = dict(zip(rows[0].split(","), rows[-1].split(","), strict=True))
    code, out, _ = run("validate", "--model.units", "3", "--ckpt_path", "last")
    shown = dict(line.split() for line in out.splitlines())
    assert code == 0 and float(shown["val_loss"]) == pytest.approx(float(last["val_loss"]), rel=1e-4)
    assert run("predict", "--model.units", "3", "--ckpt_path", "last")[0] == 0
    with np.load(folder / "predictions.npz") as arrays:
        assert [array.shape for array in arrays.values()] == [(20, 1)]
        (predicted,) = arrays.values()
    with unchecked(monkeypatch):
        code, out, _ = run("export", "--model.units", "3", "--ckpt_path", "last", "--out", "new", "--format", "keras")
    assert code == 0 and out.endswith("Export: new\n")
    model = keras.saving.load_model(folder / "new" / "model.keras", compile=False)
    x = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    np.testing.assert_allclose(model.predict(x, verbose=0), predicted, atol=1e-6)
    card = lk.export.read_export(folder / "new")
    assert card["run"]["step"] == 6 and card["run"]["metrics"]["val_loss"] == pytest.approx(float(last["val_loss"]))


@pytest.mark.parametrize(
    "command, options, message",
    [
        ("test", [], 'Expected the data function to give "test_data" for test. Received: data, validation_data'),
        ("find_lr", [], "Expected one of show, fit, validate, test, predict, export, check, tune"),
        ("fit", ["--data", "plain_net:no_data"], "Expected a function of plain_net. Received: 'no_data'"),
    ],
)
def test_what_is_missing_is_said(run, command, options, message):
    code, _, error = run(command, *options)
    assert code == 2 and message in error
