"""A search over the arguments of a function that builds a plain Keras model."""

import keras
import numpy as np
import pytest
import yaml
from helpers.toys import quiet

import lightkeras as lk
from lightkeras.cli.main import main
from lightkeras.utils.trust import TrustError

X = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")
SPACE = {"model.units": {"choice": [1, 4]}, "data.batch_size": {"choice": [8]}}
TRAINER = {"max_epochs": 2, "jit_compile": False}


def build_model(units: int = 2, rate: float = 0.05) -> keras.Model:
    model = keras.Sequential([keras.layers.Dense(units, "tanh"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


def load_data(batch_size: int = 4) -> dict:
    y = X.sum(axis=1)
    return {"data": (X, y), "validation_data": (X[:8], y[:8]), "test_data": (X, y), "batch_size": batch_size}


def make_tuner(folder, **options) -> lk.Tuner:
    return lk.Tuner(build_model, SPACE, folder=folder, algorithm="grid", trainer=TRAINER, **options)


def test_the_best_model_is_found_and_loaded(tmp_path):
    tuner = make_tuner(tmp_path, max_trials=1, task={"rate": 0.1})
    assert len(tuner.search()) == 1
    tuner = make_tuner(tmp_path, max_trials=2, task={"rate": 0.1})  # resumed
    trials = tuner.search()
    assert list(trials["model.units"]) == [1, 4] and list(trials["status"]) == ["COMPLETED"] * 2
    model, best = tuner.best_task(), trials.loc[trials["score"].idxmin()]
    units = int(best["model.units"])
    assert model.layers[0].units == units and float(model.optimizer.learning_rate) == np.float32(0.1)
    y = X[:8].sum(axis=1)
    assert model.evaluate(X[:8], y, verbose=0) == pytest.approx(best["score"], rel=1e-5)
    keras.utils.set_random_seed(0)  # the search's seed
    history = quiet(**TRAINER, seed=0).fit(build_model(units, 0.1), **_fit_data(), shuffle=True).history
    assert min(history["val_loss"]) == pytest.approx(best["score"], rel=1e-6)
    path = f"{__name__}:build_model"
    config = yaml.safe_load((tmp_path / "best_config.yaml").read_text(encoding="utf-8"))
    assert config["model"] == {"units": units, "rate": 0.1}
    assert config["data"] == {"function": f"{__name__}:load_data", "init_args": {"batch_size": 8}}
    with pytest.raises(TrustError, match=f"Expected {path} to be named by the caller"):
        lk.Tuner.load(tmp_path)
    assert lk.Tuner.load(tmp_path, trust=[path, f"{__name__}:load_data"]).best_trial().score == best["score"]


def _fit_data() -> dict:
    return {name: value for name, value in load_data(8).items() if name != "test_data"}


@pytest.mark.parametrize(
    "space, message",
    [
        ({"task.units": {"choice": [1, 2]}}, "Expected `space` to be an argument of model, data, trainer"),
        ({"model.unit": {"choice": [1, 2]}}, "an argument of build_model.*model.units"),
        ({"model.units": {"choice": ["a", "b"]}}, "Expected `model.units` to be int"),
    ],
)
def test_names_and_types_are_those_of_the_function(tmp_path, space, message):
    with pytest.raises(ValueError, match=message):
        lk.Tuner(build_model, space, folder=tmp_path, trainer=TRAINER)


def test_the_command_searches_and_its_result_is_fitted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ["--trainer.max_epochs", "1", "--trainer.jit_compile", "false", "--model.rate", "0.02"]
    space = "{model.units: {choice: [1, 4]}}"
    assert main(["tune", f"{__name__}:build_model", "--space", space, "--max_trials", "1", *options]) == 0
    told = capsys.readouterr().out
    assert f"lightkeras fit {__name__}:build_model --config tuning/build_model/best_config.yaml" in told
    best = ["--config", "tuning/build_model/best_config.yaml"]
    assert main(["fit", f"{__name__}:build_model", *best, "--trainer.enable_model_summary", "false"]) == 0
    losses = [_last_row(path)["val_loss"] for path in tmp_path.rglob("metrics.csv")]
    assert len(losses) == 2 and losses[0] == losses[1]


def _last_row(path) -> dict[str, str]:
    names, *_, last = path.read_text(encoding="utf-8").splitlines()
    return dict(zip(names.split(","), last.split(","), strict=True))
