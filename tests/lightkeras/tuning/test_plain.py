"""Plain KerasTuner fails on a subclassed model where ours works."""

import keras
import keras_tuner
import numpy as np
import pytest
from helpers.toys import Classifier, PointsData

import lightkeras as lk

UNBUILT = "You are loading weights into a model that has not yet been built"
TRIALS = {"max_epochs": 4, "factor": 4, "seed": 1}


class Network(keras.Model):
    """The network of `helpers.toys.Classifier`, as a subclassed Keras model, which is built by its first data."""

    def __init__(self, units):
        super().__init__()
        self.hidden, self.head = keras.layers.Dense(units, activation="tanh"), keras.layers.Dense(2)

    def call(self, x):
        return self.head(self.hidden(x))


def build(hp):
    model = Network(hp.Int("units", 2, 8))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(hp.Float("learning_rate", 1e-3, 1e-1, sampling="log")), loss)
    return model


@pytest.fixture
def points():
    data = PointsData()
    data.setup("fit")
    return {"x": data.x, "y": data.y, "validation_data": (data.x[:10], data.y[:10]), "verbose": 0}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_plain_hyperband_fails_at_every_promotion(tmp_path, points):
    """It loads an earlier trial's weights into a new model that is not built yet; likewise for the best model."""
    tuner = keras_tuner.Hyperband(build, "val_loss", directory=str(tmp_path), project_name="plain", **TRIALS)
    with np.errstate(all="ignore"):
        tuner.search(**points)
    trials = list(tuner.oracle.trials.values())
    promoted = [trial for trial in trials if "tuner/trial_id" in trial.hyperparameters.values]
    assert len(promoted) >= 1
    assert all(trial.status == "FAILED" and UNBUILT in trial.message for trial in promoted)
    with pytest.raises(ValueError, match=UNBUILT):
        tuner.get_best_models()


def test_our_promoted_trials_complete(tmp_path):
    space = {"task.units": {"int": [2, 8]}, "task.learning_rate": {"float": [1e-3, 1e-1, "log"]}}
    own = {"trainer": {"max_epochs": 4, "logger": False, "run_eagerly": True}, "factor": 4, "seed": 0}
    tuner = lk.Tuner(Classifier, space, folder=tmp_path / "ours", algorithm="hyperband", **own)
    trials = tuner.search()
    promoted = trials[trials.continues.notna()]
    assert len(promoted) >= 1 and set(trials.status) == {"COMPLETED"}
    best = trials.loc[trials.score.idxmin()]
    data = PointsData()
    results = lk.Trainer(logger=False, enable_checkpointing=False).validate(tuner.best_task(), data)
    np.testing.assert_allclose(results["val_loss"], best.score, rtol=1e-5)
