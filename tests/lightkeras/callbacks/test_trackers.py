"""MLflow and Weights & Biases: real clients, a store of files, and W&B offline."""

import contextlib
import csv
import logging
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml
from helpers.stopping import At, Killed, interrupt, kill
from helpers.toys import Classifier, PointsData, quiet
from helpers.wandb_files import history

import lightkeras as lk
from lightkeras.callbacks.callback_list import CallbackList
from lightkeras.callbacks.mlflow_logger import clean_name
from lightkeras.callbacks.tracker import Tracker
from lightkeras.distribution.strategies import make_strategy

mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
wandb = pytest.importorskip("wandb", reason="the extra wandb is not installed")
pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),  # MLflow's own
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # W&B's own: its service's log
]
EPOCHS, STEPS = 3, 5
SPEEDS = ("steps_per_second", "examples_per_second")
NOT_IN_CSV = {*SPEEDS, "mfu", "goodput"}  # they differ from one run to the next


class Sampled(Classifier):
    """Writes a text and a picture after each epoch."""

    def write_samples(self, folder, name):
        (folder / f"{name}.txt").write_text(f"<sample> {name}", encoding="utf-8")
        keras.utils.save_img(folder / f"{name}.png", np.full((4, 4, 3), 255 * self.global_step / 15), scale=False)


@pytest.fixture(autouse=True)
def stores(tmp_path, monkeypatch):
    """Stores in a folder of the test, and no network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(f"file:{tmp_path}/mlruns")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_CONSOLE", "off")
    yield
    wandb.finish()
    mlflow.set_tracking_uri(None)


def run(logger, *callbacks, ckpt_path=None, task=Sampled, data=PointsData, **arguments) -> lk.Trainer:
    """A run of three epochs of five updates, every one of which is logged."""
    arguments = {"max_epochs": EPOCHS, "log_every_n_steps": 1, **arguments}
    trainer = quiet("runs", logger=logger, callbacks=list(callbacks), **arguments)
    trainer.fit(task(), data(), ckpt_path=ckpt_path)
    return trainer


def killed(logger, monkeypatch, at: int, ckpt_path=None) -> None:
    """The run, of which nothing happens after update `at`, but for what its threads had begun."""
    stop = At(at, kill)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(CallbackList, "on_exception", lambda self, error: None)
        run(logger, stop, ckpt_path=ckpt_path)
    stop.run.saver.wait()
    for tracker in (one for one in stop.run.callbacks.callbacks if isinstance(one, Tracker)):
        tracker._sender.finish()
    wandb.finish()


def rows(run_dir) -> dict[str, dict[int, float]]:
    """The values of metrics.csv: metric -> step -> value."""
    found: dict[str, dict[int, float]] = {}
    for row in csv.DictReader((run_dir / "metrics.csv").read_text().splitlines()):
        for name, value in row.items():
            if value and name != "step":
                found.setdefault(name, {})[int(row["step"])] = float(value)
    return found


def only_mlflow_run():
    client = mlflow.MlflowClient()
    experiments = client.search_experiments(filter_string="name != 'Default'")
    (found,) = client.search_runs([one.experiment_id for one in experiments])
    return client, found


def assert_in_mlflow(run_dir):
    """Each metric of metrics.csv at each step, once."""
    client, found = only_mlflow_run()
    assert set(found.data.metrics) - NOT_IN_CSV == set(rows(run_dir))
    for name, values in rows(run_dir).items():
        there = client.get_metric_history(found.info.run_id, name)
        assert [(one.step, one.value) for one in there] == list(values.items()), name
    if SPEEDS[0] in found.data.metrics:
        speeds = [one.step for one in client.get_metric_history(found.info.run_id, SPEEDS[0])]
        assert speeds == sorted(set(speeds))


def assert_in_wandb(run_dir) -> list[dict]:
    ids, found = history(Path())
    assert len(ids) == 1
    assert [row["_step"] for row in found] == list(range(1, EPOCHS * STEPS + 1))
    for name, values in rows(run_dir).items():
        assert {row["_step"]: row[name] for row in found if name in row} == values, name
    return found


def artifacts(client, run_id: str, path: str | None = None) -> list[str]:
    listed = client.list_artifacts(run_id, path)
    return [name for one in listed for name in (artifacts(client, run_id, one.path) if one.is_dir else [one.path])]


SAMPLES = [f"samples/epoch_000{epoch}.{kind}" for epoch in (1, 2, 3) for kind in ("png", "txt")]


@pytest.mark.smoke
def test_mlflow_has_one_run_after_three_kills_with_every_step_once(monkeypatch):
    killed("csv,mlflow", monkeypatch, 8)
    _, first = only_mlflow_run()
    assert first.info.status == "RUNNING"
    killed("csv,mlflow", monkeypatch, 8, ckpt_path="last")
    killed("csv,mlflow", monkeypatch, 14, ckpt_path="last")
    trainer = run("csv,mlflow", ckpt_path="last")
    client, found = only_mlflow_run()
    assert (found.info.run_id, found.info.status) == (first.info.run_id, "FINISHED")
    assert_in_mlflow(trainer.run_dir)
    best = "checkpoint/step_000000015"
    files = artifacts(client, found.info.run_id)
    assert files == [f"{best}/arrays-00000.npz", f"{best}/manifest.json", "config.yaml", *SAMPLES]
    config = yaml.safe_load((trainer.run_dir / "config.yaml").read_text())
    assert found.data.params["task.units"] == "5" and found.data.params["trainer.max_epochs"] == "3"
    assert found.data.params["task"] == config["task"]["class_path"]
    assert found.info.run_name == trainer.run_dir.name
    run("csv,mlflow", ckpt_path="last")  # nothing is left to do
    assert only_mlflow_run()[1].info.end_time == found.info.end_time


def test_wandb_has_one_run_after_three_kills_with_every_step_once(monkeypatch):
    killed("csv,wandb", monkeypatch, 8)
    killed("csv,wandb", monkeypatch, 8, ckpt_path="last")
    killed("csv,wandb", monkeypatch, 14, ckpt_path="last")
    trainer = run("csv,wandb", ckpt_path="last")
    found = assert_in_wandb(trainer.run_dir)
    pictures = [row for row in found if "samples/png/path" in row]
    assert (
        [row["_step"] for row in pictures]
        == [5, 10, 15]
        == [row["_step"] for row in found if "samples/txt/path" in row]
    )
    files = [path for folder in Path("wandb").glob("offline-run-*") for path in folder.glob("files/media/**/*.*")]
    assert len(files) == 6
    assert any("&lt;sample&gt; epoch_0003" in path.read_text() for path in files if path.suffix == ".html")
    assert wandb.run is None


def test_without_metrics_csv_nothing_is_missing_either(monkeypatch):
    killed("mlflow", monkeypatch, 8)
    trainer = run("mlflow", ckpt_path="last")
    client, found = only_mlflow_run()
    steps = [one.step for one in client.get_metric_history(found.info.run_id, "loss")]
    assert steps == list(range(1, 16)) and not (trainer.run_dir / "metrics.csv").exists()


@pytest.mark.parametrize("how, status", [(interrupt, "KILLED"), (lambda: 1 / 0, "FAILED")], ids=["signal", "error"])
def test_the_status_says_how_a_run_ended(how, status):
    with contextlib.suppress(ZeroDivisionError):
        run("csv,mlflow", At(7, how))
    assert only_mlflow_run()[1].info.status == status
    trainer = run("csv,mlflow", ckpt_path="last")
    assert only_mlflow_run()[1].info.status == "FINISHED"
    assert_in_mlflow(trainer.run_dir)


def test_a_tracker_that_comes_later_gets_the_rows_from_before(monkeypatch):
    killed("csv", monkeypatch, 8)
    trainer = run("csv,mlflow", ckpt_path="last")
    client, found = only_mlflow_run()
    for name, values in rows(trainer.run_dir).items():
        there = client.get_metric_history(found.info.run_id, name)
        assert [(one.step, one.value) for one in there] == list(values.items()), name
    assert [name for name in artifacts(client, found.info.run_id) if "samples" in name] == SAMPLES


def test_a_run_from_an_older_checkpoint_is_another_tracker_run():
    first = run("csv,mlflow", lk.ModelCheckpoint(keep_last=3))
    older = sorted((first.run_dir / "checkpoints").glob("step_*"))[1]
    second = run("csv,mlflow", lk.ModelCheckpoint(keep_last=3), ckpt_path=str(older))
    client = mlflow.MlflowClient()
    runs = client.search_runs([client.get_experiment_by_name("sampled").experiment_id])
    assert {one.info.run_name for one in runs} == {first.run_dir.name, second.run_dir.name}
    for one in runs:
        assert [m.step for m in client.get_metric_history(one.info.run_id, "loss")] == list(range(1, 16))


def test_a_tracker_that_fails_while_training_is_told_once_and_gets_all_later(monkeypatch, caplog):
    monkeypatch.setattr("lightkeras.callbacks.sender.PAUSE", 0.0)
    sent, calls = mlflow.MlflowClient.log_batch, Counter()

    def unreachable(self, run_id, metrics=(), params=(), **options):
        calls["all"] += 1
        if 3 < calls["all"] < 9:
            raise mlflow.exceptions.MlflowException("no route")  # without a code: as by a network that is down
        return sent(self, run_id, metrics, params, **options)

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", unreachable)
    with caplog.at_level(logging.WARNING, "lightkeras"):
        trainer = run("csv,mlflow")
    (told,) = [record.getMessage() for record in caplog.records if "MLflow" in record.getMessage()]
    assert told == (
        "MLflow did not take what this run sent. The training goes on; it is sent later. Received: MlflowException: "
        "no route"
    )
    assert_in_mlflow(trainer.run_dir)


def test_a_tracker_that_stays_away_does_not_end_the_run(monkeypatch, caplog):
    def unreachable(self, run_id, metrics=(), params=(), **options):
        raise ConnectionError("no route")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "lightkeras"):
        patch.setattr(mlflow.MlflowClient, "log_batch", unreachable)
        trainer = run("csv,mlflow")
    assert "metrics.csv has all metrics of it; when MLflow answers, resume the run with" in caplog.records[-1].message
    run("csv,mlflow", ckpt_path="last")  # makes no update
    assert_in_mlflow(trainer.run_dir)


class Odd(lk.Callback):
    """Adds metrics that trackers may refuse."""

    order = 5

    def on_log(self, record):
        record |= {
            "f(x) %": 1.0,
            "f[x] %": 2.0,
            "../up": 3.0,
            "nan": float("nan"),
            "inf": float("inf"),
            "array": [1, 2],
        }
        record |= {"é/ü": 4.0}


def test_names_and_values_that_mlflow_refuses():
    run("csv,mlflow", Odd(), max_epochs=1)
    metrics = only_mlflow_run()[1].data.metrics
    odd = {name: value for name, value in metrics.items() if name in ("f_x_ _", "f_x_ __2", "up", "inf", "é/ü")}
    assert odd == {"f_x_ _": 1.0, "f_x_ __2": 2.0, "up": 3.0, "inf": float("inf"), "é/ü": 4.0}
    assert np.isnan(metrics["nan"]) and "array" not in metrics


def test_names_and_values_that_wandb_gets():
    run("csv,wandb", Odd(), max_epochs=1)
    row = history(Path())[1][-1]
    assert (row["f(x) %"], row["../up"], row["inf"]) == (1.0, 3.0, float("inf")) and np.isnan(row["nan"])
    assert "array" not in row


def test_long_arguments_are_cut_for_mlflow_and_whole_in_the_file():
    class Long(PointsData):
        def __init__(self, words: str = "x" * 7000):
            super().__init__()

    trainer = run("csv,mlflow", max_epochs=1, data=Long)
    client, found = only_mlflow_run()
    assert found.data.params["data.words"] == "x" * 5997 + "..."
    text = Path(client.download_artifacts(found.info.run_id, "config.yaml", ".")).read_text()
    assert yaml.safe_load(text)["data"]["init_args"]["words"] == "x" * 7000 and trainer.run_dir


def test_two_replicas_log_once():
    trainer = run("csv,mlflow", strategy=make_strategy(2), task=Classifier, max_epochs=1)
    assert_in_mlflow(trainer.run_dir)


def test_a_run_that_the_user_opened_is_used_and_stays_open():
    with mlflow.start_run(run_name="mine") as mine:
        run("mlflow", max_epochs=1)
        assert mlflow.MlflowClient().get_run(mine.info.run_id).info.status == "RUNNING"
    assert mlflow.MlflowClient().get_run(mine.info.run_id).data.metrics["epoch"] == 0
    with wandb.init(dir=str(Path.cwd())) as own:
        run("wandb", max_epochs=1)
        assert wandb.run is own
    ids, found = history(Path(own.sync_dir).parents[1])
    assert ids == {own.id} and found[-1]["_step"] == 5


def test_a_fast_run_has_no_tracker():
    run("csv,mlflow,wandb", fast_dev_run=True)
    assert not Path("mlruns").exists() and not Path("wandb").exists()


KNOWN = "one of 'csv', 'tensorboard', 'mlflow', 'wandb'"
BAD = {
    "mlflo": f"Expected `logger` to be {KNOWN}. Received: logger='mlflo'. Did you mean \"mlflow\"?",
    "csv,csv": "Expected `logger` to be names that differ. Received: logger='csv,csv'",
    "": f"Expected `logger` to be {KNOWN}. Received: logger=''.",
}


@pytest.mark.parametrize("given", BAD)
def test_bad_names(given):
    with pytest.raises(ValueError) as error:
        lk.Trainer(logger=given)
    assert str(error.value) == BAD[given]


@pytest.mark.parametrize("given", [[], 3, None])
def test_what_is_no_name(given):
    with pytest.raises(ValueError, match="Expected `logger` to be True, False, or names of csv, tensorboard, mlflow"):
        lk.Trainer(logger=given)


def test_a_logger_object_goes_into_callbacks():
    with pytest.raises(ValueError, match="A logger with arguments of its own goes into `callbacks`"):
        lk.Trainer(logger=lk.callbacks.MLflowLogger())


def test_two_trackers_of_one_kind_are_refused_and_the_own_replaces_the_named():
    two = [lk.callbacks.MLflowLogger(), lk.callbacks.MLflowLogger()]
    with pytest.raises(ValueError, match="Expected `callbacks` to be with one MLflowLogger"):
        lk.Trainer(callbacks=two)
    run("mlflow", lk.callbacks.MLflowLogger("mine", run_name="first", log_model=False), max_epochs=1)
    client, found = only_mlflow_run()
    assert client.get_experiment_by_name("mine").experiment_id == found.info.experiment_id
    assert found.info.run_name == "first" and "checkpoint" not in str(artifacts(client, found.info.run_id))


def test_a_missing_package_is_named_with_its_line(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ImportError, match=r"`wandb` to be installed: pip install 'lightkeras\[wandb\]'. Received: none"
    ):
        lk.Trainer(logger="csv,wandb")


@pytest.mark.parametrize(
    "uri, told",
    [
        ("sqlite:////nowhere/at/all.db", "Expected `tracking_uri` to be a database in an existing folder that can be"),
        ("file:/proc/none", "Expected MLflow to take a new run. Received: "),
        ("http://127.0.0.1:9", "Expected MLflow's server at http://127.0.0.1:9 to answer. Received: "),
        ("nothing://here", "Expected MLflow to take a new run. Received: "),
    ],
)
def test_a_store_that_cannot_be_used_is_told_before_the_first_update(uri, told):
    reached = At(1, lambda: pytest.fail("an update was made"))
    with pytest.raises(lk.utils.LightkerasError, match=told):
        run("mlflow", lk.callbacks.MLflowLogger(tracking_uri=uri), reached)


def test_a_run_that_was_deleted_is_told(monkeypatch):
    killed("csv,mlflow", monkeypatch, 8)
    client, found = only_mlflow_run()
    client.delete_run(found.info.run_id)
    with pytest.raises(lk.callbacks.TrackerError, match=r"it was deleted\. Restore it, or resume the training without"):
        run("csv,mlflow", ckpt_path="last")


def test_a_wandb_without_a_login_is_told_before_the_first_update(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    reached = At(1, lambda: pytest.fail("an update was made"))
    with pytest.raises(lk.callbacks.TrackerError, match=r"Expected W&B to take a new run. Received: .*login"):
        run("wandb", lk.callbacks.WandbLogger(mode="online"), reached)


def test_clean_names():
    names: dict[str, str] = {}
    assert clean_name("a" * 300, names) == "a" * 246 and clean_name("a" * 299, names) == "a" * 246 + "_2"
    assert clean_name("???", names) == "___" and clean_name("/../", names) == "_"
