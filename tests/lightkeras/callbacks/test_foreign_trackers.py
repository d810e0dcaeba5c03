"""MLflow's and W&B's own Keras callbacks and autolog, beside Keras' `fit`."""

from pathlib import Path

import keras
import pytest
from helpers.patterns import conditional_gan, vae
from helpers.toys import Classifier, PointsData, quiet
from helpers.wandb_files import history

import lightkeras as lk

mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
wandb = pytest.importorskip("wandb", reason="the extra wandb is not installed")
wandb_keras = pytest.importorskip("wandb.integration.keras", reason="the extra wandb is not installed")
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(autouse=True)
def stores(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path}/mlruns")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_CONSOLE", "off")
    yield
    wandb.finish()


def fit(pattern, ours: bool, callbacks=list) -> None:
    """Two epochs of a pattern by Keras' `fit`, or by the Trainer's."""
    keras.utils.set_random_seed(0)
    model, data, used = pattern.build(), pattern.make_data(), callbacks()
    if not ours:
        model.fit(**data, epochs=2, verbose=0, shuffle=False, callbacks=used)
        return
    x, y = data.pop("x"), data.pop("y", None)
    quiet(max_epochs=2, callbacks=used).fit(model, x if y is None else (x, y), **data, shuffle=False)


def logged() -> dict[str, list]:
    """What MLflow has of its only run."""
    client = mlflow.MlflowClient()
    (found,) = client.search_runs(["0"])
    assert found.info.status == "FINISHED"
    history = {name: client.get_metric_history(found.info.run_id, name) for name in found.data.metrics}
    client.delete_run(found.info.run_id)
    return {name: [(one.step, pytest.approx(one.value, rel=1e-4)) for one in there] for name, there in history.items()}


@pytest.mark.parametrize(
    "pattern, autolog",
    [
        (vae, "keras"),
        (conditional_gan, "keras"),
        (conditional_gan, "tensorflow"),
        (vae, "tensorflow"),
        (vae, "callback"),
    ],
)
def test_mlflow_logs_what_it_logs_under_keras_fit(pattern, autolog):
    made = {"callbacks": lambda: [mlflow.keras.MlflowCallback()]} if autolog == "callback" else {}
    found = []
    for ours in (False, True):
        if autolog != "callback":
            getattr(mlflow, autolog).autolog(log_models=False)
        try:
            if autolog == "callback":
                with mlflow.start_run():
                    fit(pattern, ours, **made)
            else:
                fit(pattern, ours)
        finally:
            if autolog != "callback":
                getattr(mlflow, autolog).autolog(disable=True)
        found.append(logged())
    assert found[1] == found[0] and found[0]


class Pair(Classifier):
    """Two optimizers with one rate."""

    def configure_model(self, data):
        super().configure_model(data)
        self.first, self.second = self.network.layers[0], self.network.layers[-1]

    def configure_optimizers(self):
        return {"first": keras.optimizers.SGD(0.1), "second": keras.optimizers.SGD(0.1)}

    def losses_of(self, batch, training):
        sums = super().losses_of(batch, training)
        return {"first_loss": sums["loss"], "second_loss": sums["loss"]}


def test_wandb_logs_what_it_logs_under_keras_fit():
    found = []
    for ours in (False, True):
        run = wandb.init(dir=str(Path.cwd()))
        fit(conditional_gan, ours, lambda: [wandb_keras.WandbMetricsLogger()])
        run.finish()
        rows = [row for row in history(Path())[1] if "epoch/epoch" in row][2 * ours :]
        found.append([{name: value for name, value in row.items() if name.startswith("epoch/")} for row in rows])
    assert [set(row) for row in found[0]] == [
        {"epoch/epoch", "epoch/learning_rate", "epoch/d_loss", "epoch/g_loss"}
    ] * 2
    for mine, theirs in zip(found[1], found[0], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)


def test_wandb_logs_a_task_with_two_optimizers(tmp_path):
    with wandb.init(dir=str(tmp_path)):
        used = [wandb_keras.WandbMetricsLogger()]
        used += [wandb_keras.WandbModelCheckpoint("m-{epoch:02d}.weights.h5", save_weights_only=True)]
        history_of = quiet(max_epochs=2, callbacks=used).fit(Pair(), PointsData()).history
    rows = [row for row in history(Path())[1] if "epoch/epoch" in row]
    assert [row["epoch/val_first_loss"] for row in rows] == history_of["val_first_loss"]
    assert [row["epoch/learning_rate"] for row in rows] == pytest.approx([0.1, 0.1]) and lk.__version__
    assert sorted(path.name for path in tmp_path.glob("m-*.h5")) == ["m-01.weights.h5", "m-02.weights.h5"]
