"""KerasTuner's HyperModels and build functions under `lk.Tuner`."""

import keras
import keras_tuner
import numpy as np
import pytest
from helpers.stopping import At, Killed, kill
from helpers.toys import quiet

import lightkeras as lk
from lightkeras.cli.main import main
from lightkeras.tuning import hypermodels

NUMBERS = np.random.default_rng(0)
X = NUMBERS.normal(size=(24, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


def load_data():
    return {"data": (X, Y), "validation_data": (X[:8], Y[:8])}


def build(hp):
    """As in KerasTuner's guide: choices, what hangs on one with and without a scope, a step, a logarithm."""
    model = keras.Sequential([keras.Input((3,))])
    model.add(keras.layers.Dense(hp.Choice("units", [2, 4]), hp.Choice("activation", ["relu", "tanh"])))
    if hp.Boolean("dropout"):
        model.add(keras.layers.Dropout(hp.Float("rate", 0.1, 0.3, step=0.1)))
    for index in range(hp.Int("layers", 0, 2)):
        with hp.conditional_scope("layers", list(range(index + 1, 3))):
            model.add(keras.layers.Dense(hp.Int(f"units_{index}", 2, 3)))
    model.add(keras.layers.Dense(1))
    model.compile(keras.optimizers.Adam(hp.Float("lr", 1e-3, 1e-1, sampling="log")), "mse")
    return model


class Searched(keras_tuner.HyperModel):
    """Searches an argument of `fit` too, as KerasTuner's guide does."""

    def build(self, hp):
        return build(hp)

    def fit(self, hp, model, x, y, validation_data=None, **kwargs):
        size = hp.Choice("batch_size", [4, 8])
        return model.fit(x, y, validation_data=validation_data, batch_size=size, **kwargs)


def search(folder, given=Searched, **arguments) -> lk.Tuner:
    arguments = {"data_class": load_data, "trainer": {"max_epochs": 2}, "max_trials": 2, "isolate": False, **arguments}
    return lk.Tuner(given, folder=folder, **arguments)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    tuner = search(tmp_path_factory.mktemp("whole") / "search", trainer={"max_epochs": 2, "deterministic": True})
    tuner.search()
    return tuner


NAMES = ["activation", "batch_size", "dropout", "layers", "lr", "rate", "units", "units_0", "units_1"]


@pytest.mark.smoke
def test_a_hypermodel_is_searched_with_its_own_space_and_fit(done):
    assert sorted({one.name for one in done.space.space}) == NAMES
    assert [one.values for one in done.space.space if one.name == "rate"] == [[0.1, 0.2, 0.3]]
    trials = done.trials()
    assert list(trials.status) == ["COMPLETED"] * 2 and sorted(trials.columns[6:15]) == NAMES
    for _, trial in trials.iterrows():
        saved = max((done.folder / "trials" / trial.trial).glob("sequential/*/checkpoints/step_*"))
        assert saved.name == f"step_{2 * 24 // trial.batch_size:09d}"  # two epochs of batches of the searched size


def test_results_by_keras_tuner_s_names(done, capsys):
    trials = done.trials().sort_values("score")
    (best,) = done.get_best_hyperparameters()
    assert isinstance(best, keras_tuner.HyperParameters) and best.get("lr") == trials.lr.iloc[0]
    first, second = done.get_best_models(2)
    for model, score in zip((first, second), trials.score, strict=True):
        assert float(np.mean((model.predict(X[:8], verbose=0) - Y[:8]) ** 2)) == pytest.approx(score, rel=1e-4)
    done.results_summary()
    shown = capsys.readouterr().out
    assert shown.index(f"Score: {trials.score.iloc[0]}") < shown.index(f"Score: {trials.score.iloc[1]}")
    loaded = lk.Tuner.load(done.folder, trust=done.subject.trust)
    assert loaded.best_trial().score == trials.score.iloc[0]


def test_a_killed_search_ends_as_a_whole_one(done, tmp_path, monkeypatch):
    """Killed within the second trial: it goes on at the step, and no trial is made twice."""
    folder, fitted = tmp_path / "search", hypermodels.fit

    def killed(hypermodel, hp, model, trainer, data, ckpt_path):
        if "0001" in str(trainer.default_root_dir):
            trainer.callbacks.append(At(24 // hp.get("batch_size") + 1, kill))
        fitted(hypermodel, hp, model, trainer, data, ckpt_path)

    arguments = {"trainer": {"max_epochs": 2, "deterministic": True}}
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(hypermodels, "fit", killed)
        search(folder, **arguments).search()
    trials = search(folder, **arguments).search()
    columns = ["trial", "status", "score", "step", "epochs", *NAMES]
    assert trials[columns].equals(done.trials()[columns])
    assert len(list((folder / "trials" / "0001" / "sequential").iterdir())) == 1


def test_hyperband_continues_trials(tmp_path):
    tuner = search(
        tmp_path / "search", build, algorithm="hyperband", max_trials=None, trainer={"max_epochs": 2}, factor=2
    )
    trials = tuner.search()
    assert set(trials.status) == {"COMPLETED"} and trials.continues.notna().any()
    assert set(trials.epochs) == {1.0, 2.0}


def test_the_command_searches_resumes_and_fits_the_best(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name, limits = f"{__name__}:Searched", ["--trainer.max_epochs", "1", "--trainer.jit_compile", "false"]
    results = []
    for trials in ("1", "2"):
        assert main(["tune", name, *limits, "--max_trials", trials]) == 0
        results.append([path.read_text() for path in sorted(tmp_path.glob("tuning/Searched/trials/*/result.json"))])
    told = capsys.readouterr().out
    best = f"lightkeras fit {name} --config tuning/Searched/best_config.yaml"
    assert len(results[1]) == 2 and results[1][:1] == results[0] and best in told  # the first trial was made once
    quiet_options = ["--trainer.enable_model_summary", "false", "--trainer.enable_progress_bar", "false"]
    assert main([*best.split()[1:], *quiet_options]) == 0
    (run,) = (tmp_path / "runs" / "sequential").iterdir()
    searched = lk.Tuner.load("tuning/Searched", trust=[name, f"{__name__}:load_data"])
    names, *_, last = ((line.split(",")) for line in (run / "metrics.csv").read_text().splitlines())
    assert float(last[names.index("val_loss")]) == searched.best_trial().score
    assert main(["fit", name, *limits, "--hp", "{unit: 2}"]) == 2
    assert "Expected `--hp` to be one of activation, batch_size" in capsys.readouterr().err
    assert main(["validate", name]) == 2 and "Expected tune or fit for a HyperModel" in capsys.readouterr().err


class Twice(Searched):
    def fit(self, hp, model, *args, **kwargs):
        model.fit(*args, **kwargs)
        return model.fit(*args, **kwargs)


class Never(Searched):
    def fit(self, hp, model, *args, **kwargs):
        return 1.0


class OwnScore(Searched):
    def fit(self, hp, model, *args, **kwargs):
        model.fit(*args, **kwargs)
        return 1.0


class Steps(Searched):
    def fit(self, hp, model, *args, **kwargs):
        return model.fit(*args, steps_per_epoch=2, **kwargs)


@pytest.mark.parametrize(
    "kind, told",
    [
        (
            Twice,
            "`HyperModel.fit` to be a function that calls model.fit once. Received: HyperModel.fit='a second call'",
        ),
        (Never, "`HyperModel.fit` to be a function that calls model.fit once. Received: HyperModel.fit='no call'"),
        (OwnScore, "the objective's best value. Received: HyperModel.fit=1.0"),
        (Steps, "`steps_per_epoch` to be left to the Trainer's arguments"),
    ],
)
def test_a_fit_that_the_trainer_cannot_take_is_told_before_the_first_trial(tmp_path, kind, told):
    with pytest.raises(ValueError) as error:
        search(tmp_path / "search", kind).search()
    assert told in str(error.value) and not (tmp_path / "search" / "trials").exists()


def test_validation_split_is_keras_own(monkeypatch):
    seen = {}
    trainer = quiet(max_epochs=1)
    monkeypatch.setattr(trainer, "fit", lambda model, **keywords: seen.update(keywords))

    class Split(keras_tuner.HyperModel):
        def fit(self, hp, model, *args, **kwargs):
            model.fit(*args, validation_split=0.25, callbacks=[keras.callbacks.TerminateOnNaN()], epochs=3)

    hypermodels.fit(Split(), None, build(keras_tuner.HyperParameters()), trainer, {"data": (X, Y)}, None)
    np.testing.assert_array_equal(seen["data"][0], X[:18])
    np.testing.assert_array_equal(seen["validation_data"][1], Y[18:])
    assert trainer.max_epochs == 3 and isinstance(trainer.callbacks[0], keras.callbacks.TerminateOnNaN)


class NotCompiled(keras_tuner.HyperModel):
    def build(self, hp):
        return keras.Sequential([keras.layers.Dense(hp.Int("units", 1, 2))])


@pytest.mark.parametrize(
    "given, more, told",
    [
        (
            keras.Sequential,
            {},
            "a function that builds a compiled keras.Model, or a keras_tuner.HyperModel",
        ),
        (3, {}, "a function that builds a compiled keras.Model, or a keras_tuner.HyperModel. Received: task_class=3"),
        (NotCompiled, {}, r"`model` to be compiled"),
        (Searched, {"data": {"x": X}}, '`data` to be a dict with the entry "data", or data_class a function'),
        (Searched, {"task": {"units": 3}}, "`task` to be left out: a HyperModel has no arguments"),
        (Searched, {"trainer": {"max_epochs": 1, "callbacks": [lk.EarlyStopping()]}}, "give them to model.fit"),
        (Searched, {"trainer": {"max_epoch": 1}}, "max_epoch"),
        (Searched, {"space": object()}, "`space` to be a dict, a YAML file, HyperParameters or a function of them"),
        (lambda hp: build(hp), {"isolate": True}, "`isolate` to be False, or HyperModel and data_class of a module"),
    ],
)
def test_bad_input(tmp_path, given, more, told):
    with pytest.raises((ValueError, TypeError)) as error:
        search(tmp_path / "search", given, **more)
    assert told in str(error.value)
