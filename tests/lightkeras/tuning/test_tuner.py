"""Searches: their space, rejected arguments, files, limits, and how they are resumed."""

import shutil
import signal
from pathlib import Path

import keras_tuner
import numpy as np
import pandas
import pytest
import yaml
from helpers.resuming import assert_same, outcome
from helpers.toys import Classifier, PointsData
from helpers.tuning_toys import Dies, Worthless
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams import plugin_data_pb2

import lightkeras as lk
from lightkeras import checkpoint
from lightkeras.cli import main as cli
from lightkeras.runs import folder as run_folder
from lightkeras.tuning import oracles, page, report
from tasks.captioning import Captioning
from tasks.dcgan import DCGAN
from tasks.text_generation import TextGeneration
from tasks.translation import Translation

SPACE = {"task.units": {"int": [2, 8]}, "task.learning_rate": {"float": ["1e-3", 1e-1, "log"]}}
COMPILED = {"max_epochs": 2, "deterministic": True, "num_sanity_val_steps": 0, "jit_compile": False}
TRAINER = {**COMPILED, "run_eagerly": True}  # a trial has 10 updates: tracing takes longer


def make_tuner(folder, space=None, task_class=Classifier, **arguments) -> lk.Tuner:
    """Makes a search of a few short trials."""
    arguments = {"max_trials": 3, "trainer": TRAINER, **arguments}
    return lk.Tuner(task_class, SPACE if space is None else space, folder=folder, **arguments)


# ---- the space


def names_and_values(space) -> dict:
    return {parameter.name: parameter.get_config() for parameter in space.space}


def test_a_space_in_yaml(tmp_path):
    text = """
    task.units: {int: [128, 1024, 128]}
    task.learning_rate: {float: [1e-4, 1e-2, log], default: 0.001}
    data.batch_size: {choice: [32, 64]}
    trainer.log_gradient_norm: {bool: }
    task.dropout: {float: [0.1, 0.5], when: {data.batch_size: [64]}}
    """
    (tmp_path / "space.yaml").write_text(text)
    found = names_and_values(lk.search_space(tmp_path / "space.yaml"))
    assert list(found) == [
        "task.units", "task.learning_rate", "data.batch_size", "trainer.log_gradient_norm", "task.dropout",
    ]  # fmt: skip
    units, rate = found["task.units"], found["task.learning_rate"]
    assert (units["min_value"], units["max_value"], units["step"]) == (128, 1024, 128)
    assert (rate["min_value"], rate["max_value"], rate["sampling"], rate["default"]) == (1e-4, 1e-2, "log", 0.001)
    assert found["data.batch_size"]["values"] == [32, 64]
    assert found["task.dropout"]["conditions"][0]["config"] == {"name": "data.batch_size", "values": [64]}


def test_a_space_in_python():
    def declare(hp):
        hp.Choice("task.units", [2, 4])
        with hp.conditional_scope("task.units", [4]):
            hp.Float("task.dropout", 0.1, 0.5)

    found = lk.search_space(declare)
    assert [parameter.name for parameter in found.space] == ["task.units", "task.dropout"]
    hp = keras_tuner.HyperParameters()
    hp.Int("task.units", 1, 9)
    assert [parameter.name for parameter in lk.search_space(hp).space] == ["task.units"]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "at least one argument to search"),
        ({"task.units": {"int": [8, 2]}}, r"`task.units` to be a range .* below its highest.*\[8, 2\]"),
        ({"task.units": {"int": [2, 2]}}, "below its highest"),
        ({"task.units": {"int": [2.5, 4]}}, "lowest, highest"),
        ({"task.units": {"int": ["few", "many"]}}, "lowest, highest"),
        ({"task.dropout": {"float": [0.0, 0.5, "log"]}}, "above 0, to be searched by logarithms"),
        ({"task.units": {"integer": [2, 8]}}, "KIND"),
        ({"task.units": [2, 8]}, "KIND"),
        ({"task.units": {"choice": []}}, "values to choose from"),
        ({"task.units": {"choice": [2, "four"]}}, "all of one type"),
        ({"task.units": {"choice": [2, 2]}}, "different values"),
        ({"task.units": {"int": [2, 8], "when": {"task.cell": ["gru"]}}}, "declared before"),
        ({"task.unit": {"int": [2, 8]}}, r'an argument of Classifier. Did you mean "task.units"\?'),
        ({"units": {"int": [2, 8]}}, "task.NAME, data.NAME, trainer.NAME"),
        ({"trainer.default_root_dir": {"choice": ["a", "b"]}}, "which the search decides"),
        ({"task.units": {"float": [2.5, 8]}}, "task.units"),
        ({"data.batch_size": {"choice": ["small"]}}, "data.batch_size"),
    ],
)
def test_wrong_spaces(tmp_path, space, message):
    with pytest.raises(ValueError, match=message):
        make_tuner(tmp_path / "search", space)
    assert not (tmp_path / "search").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"algorithm": "randm"}, "algorithm"),
        ({"objective": "val_accuracy"}, "direction"),
        ({"objective": "val_accuracy", "direction": "up"}, "direction"),
        ({"max_trials": None}, "max_trials"),
        ({"trainer": {}}, "trainer.max_epochs"),
        ({"trainer": {"max_steps": 3}, "algorithm": "hyperband"}, "trainer.max_epochs"),
        ({"trainer": {"max_epochs": 1, "enable_checkpointing": False}}, "enable_checkpointing"),
        ({"trainer": {"max_epochs": 1, "strategy": "multi_worker"}}, "trainer.strategy"),
        ({"task": {"unit": 3}}, "unit"),
    ],
)
def test_wrong_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_tuner(tmp_path / "search", **arguments)


def test_an_objective_that_is_not_logged(tmp_path):
    tuner = make_tuner(tmp_path / "search", objective="val_acuracy", direction="max")
    with pytest.raises(ValueError, match=r'one of loss, accuracy, .*val_accuracy.* Did you mean "val_accuracy"\?'):
        tuner.search()
    assert not (tmp_path / "search/search.yaml").exists() and not (tmp_path / "search/trials").exists()


# ---- a search and its files


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A Hyperband search that has ended."""
    tuner = make_tuner(
        tmp_path_factory.mktemp("search") / "hyperband", algorithm="hyperband", factor=4, task={"dropout": 0.3},
        trainer={**COMPILED, "max_epochs": 4}, max_trials=None,
    )  # fmt: skip
    tuner.search()
    return tuner


def test_a_promoted_trial_equals_a_run_of_all_its_epochs(searched, tmp_path):
    trials = searched.trials()
    last = trials[trials.continues.notna() & (trials.epochs == 4)].iloc[0]
    whole = lk.Trainer(**{**COMPILED, "max_epochs": 4}, enable_progress_bar=False, enable_model_summary=False,
                       default_root_dir=tmp_path)  # fmt: skip
    values = searched.oracle.trials[last.trial].hyperparameters.values
    task = Classifier(units=values["task.units"], learning_rate=values["task.learning_rate"], dropout=0.3)
    history = whole.fit(task, PointsData()).history
    ours, theirs = outcome(searched.folder / "trials" / last.trial / last.run), outcome(whole.run_dir)
    for found in (ours, theirs):
        found["state"].pop("callbacks")  # whose own files and budgets differ
    assert_same(ours, theirs)
    assert last.score == min(history["val_loss"])


def test_files(searched):
    trials = pandas.read_csv(searched.folder / "trials.csv", dtype={"trial": str, "continues": str})
    assert list(trials.columns) == [
        "trial", "status", "score", "step", "epochs", "seconds", "task.units", "task.learning_rate", "continues", "run",
        "reason",
    ]  # fmt: skip
    assert (trials.status == "COMPLETED").all() and len(trials) == len(searched.oracle.trials) == 7
    assert (searched.folder / "trials.png").read_bytes()[:4] == b"\x89PNG"
    assert "Best score so far" in (searched.folder / "report.html").read_text(encoding="utf-8")
    best = trials.loc[trials.score.idxmin()]
    assert searched.best_trial().trial_id == best.trial and searched.best_trial().score == best.score
    (events,) = (searched.folder / "tensorboard" / best.trial).iterdir()
    values = [value for event in EventFileLoader(str(events)).Load() for value in event.summary.value]
    start = plugin_data_pb2.HParamsPluginData.FromString(values[0].metadata.plugin_data.content).session_start_info
    assert start.hparams["task.units"].number_value == best["task.units"]


def test_the_best(searched, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    best = searched.best_trial()
    task = searched.best_task()
    assert task.hparams["units"] == best.hyperparameters.values["task.units"]
    assert lk.Tuner.load(searched.folder).best_trial().trial_id == best.trial_id
    results = lk.Trainer(logger=False, enable_checkpointing=False).validate(task, PointsData())
    np.testing.assert_allclose(results["val_loss"], best.score, rtol=1e-5)
    assert cli.main(["fit", "--config", str(searched.folder / "best_config.yaml")]) == 0
    rows = pandas.read_csv(run_folder.newest_run(Path("runs"), "classifier") / "metrics.csv")
    if searched.oracle.result(best.trial_id)["epochs"] == 4:
        assert f"{rows.val_loss.min():.6g}" == f"{best.score:.6g}"


# ---- failures


def test_another_search_in_the_folder(searched, tmp_path):
    with pytest.raises(lk.tuning.SearchError, match=r"holds another one: .*seed: 0 then, 1 now"):
        make_tuner(searched.folder, algorithm="hyperband", factor=4, task={"dropout": 0.3}, seed=1,
                 trainer={**COMPILED, "max_epochs": 4}).search()  # fmt: skip
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/a.txt").touch()
    with pytest.raises(lk.tuning.SearchError, match=r"Received: it holds a\.txt"):
        make_tuner(tmp_path / "letters").search()
    with pytest.raises(lk.tuning.SearchError, match="Expected a search in"):
        lk.Tuner.load(tmp_path)


def test_more_trials_and_a_deleted_one(tmp_path, monkeypatch):
    drawn, draw = [], page.draw
    monkeypatch.setattr(page, "draw", lambda path, rows, *more: drawn.append(len(rows)) or draw(path, rows, *more))
    monkeypatch.setattr(report.Report, "SECONDS", 1e6)
    make_tuner(tmp_path, max_trials=2).search()
    assert drawn == [1, 2]  # the first trial, and at the end
    assert len(make_tuner(tmp_path, max_trials=3).search()) == 3
    assert list(make_tuner(tmp_path, max_trials=3).search().trial) == ["0000", "0001", "0002"]  # nothing to do
    shutil.rmtree(tmp_path / "trials/0001")
    with pytest.raises(lk.tuning.SearchError, match=r"trial 0001, which has ended.*trials/0001 is gone"):
        make_tuner(tmp_path, max_trials=4).search()


def test_an_objective_that_becomes_nan(tmp_path):
    space = {"task.units": {"choice": [3, 6]}}
    arguments = {"objective": "val_accuracy", "direction": "max", "algorithm": "grid"}
    trials = make_tuner(tmp_path, space, Worthless, **arguments).search()
    assert list(trials.status) == ["COMPLETED", "FAILED"] and trials.score.isna()[1]
    assert trials.reason[1] == "ObjectiveError: Expected a finite objective. Received: val_accuracy=nan after update 5"


def test_failures_in_a_row_end_the_search(tmp_path):
    space = {"task.units": {"choice": [6, 7, 8, 9]}}
    arguments = {"objective": "val_accuracy", "direction": "max", "algorithm": "grid", "max_trials": None}
    tuner = make_tuner(tmp_path, space, Worthless, max_failures=2, **arguments)
    with pytest.raises(
        lk.tuning.SearchError, match=r"2 trials in a row to fail. Received: ObjectiveError.*0001/log.txt"
    ):
        tuner.search()
    assert len(tuner.trials()) == 2


def test_a_crash_ends_its_trial_alone(tmp_path):
    """Each trial has a process of its own."""
    space = {"task.units": {"choice": [2, 3, 4]}}
    trials = make_tuner(tmp_path, space, Dies, algorithm="grid", isolate=True, trainer={**TRAINER, "max_epochs": 1})
    found = trials.search()
    assert list(found.status) == ["COMPLETED", "FAILED", "FAILED"]
    assert found.reason[1] == "its process was ended by SIGKILL (out of memory?)"
    assert "ResourceExhaustedError" in found.reason[2] and "OOM when allocating tensor" in found.reason[2]


# ---- limits and resuming


def test_a_search_whose_time_ends_is_resumed_within_the_trial(tmp_path, monkeypatch):
    arguments = {"max_trials": 2, "trainer": {**TRAINER, "steps_per_execution": 1}}
    whole = make_tuner(tmp_path / "whole", **arguments).search()
    tuner = make_tuner(tmp_path / "cut", max_time=100, **arguments)
    with monkeypatch.context() as patch:  # time is up after the first update
        patch.setattr(oracles.PersistentOracle, "seconds_left", property(lambda self: 1e-9))
        assert list(tuner.search().status) == ["RUNNING"] and tuner.interrupted is None
    (run,) = (tmp_path / "cut/trials/0000/classifier").iterdir()
    last = Path(checkpoint.latest_checkpoint(run / "checkpoints"))
    assert last.name == "step_000000001"
    cut = make_tuner(tmp_path / "cut", max_time=100, **arguments).search()
    clocks = ["seconds", "run"]
    pandas.testing.assert_frame_equal(cut.drop(columns=clocks), whole.drop(columns=clocks))
    for trial in whole.trial:
        runs = [tmp_path / name / "trials" / trial / "classifier" for name in ("cut", "whole")]
        assert_same(*(outcome(next(run.iterdir())) for run in runs))


def test_a_signal_saves_the_trial(tmp_path):
    callback = {"class_path": "helpers.tuning_toys.Terminate", "init_args": {"mark": str(tmp_path / "mark")}}
    arguments = {"max_trials": 1, "trainer": {**TRAINER, "callbacks": [callback]}}
    tuner = make_tuner(tmp_path / "search", **arguments)
    assert list(tuner.search().status) == ["RUNNING"] and tuner.interrupted == signal.SIGTERM
    assert (tmp_path / "mark").exists()
    trials = make_tuner(tmp_path / "search", **arguments).search()
    assert list(trials.status) == ["COMPLETED"] and trials.epochs[0] == 2


def test_epochs_of_the_search(tmp_path):
    """Trials of two replicas each."""
    trials = make_tuner(tmp_path, max_trials=None, max_epochs=3, trainer={**COMPILED, "devices": 2}).search()
    assert list(trials.epochs) == [2, 2]


@pytest.mark.parametrize("stopping", ["lightkeras.EarlyStopping", "helpers.tuning_toys.OwnEarlyStopping"])
def test_a_trial_that_early_stopping_ended_is_over(tmp_path, stopping):
    """Killed after its last checkpoint and before its result is written, it makes no more updates."""
    never = {"class_path": "lightkeras.EarlyStopping", "init_args": {"monitor": "val_loss", "patience": 99}}
    stopping = {"class_path": stopping, "init_args": {"monitor": "val_loss", "patience": 1}}
    space = {"task.learning_rate": {"choice": [100.0]}}  # soon no better
    trainer = {**TRAINER, "max_epochs": 20, "callbacks": [never, stopping]}
    tuner = make_tuner(tmp_path, space, trainer=trainer, max_trials=1)
    before = tuner.search()
    assert before.epochs[0] < 20
    (tmp_path / "trials/0000/result.json").unlink()
    tuner.run(tuner.oracle.trials["0000"])
    after = tuner.trials()
    pandas.testing.assert_frame_equal(after.drop(columns="seconds"), before.drop(columns="seconds"))


# ---- the four tasks, and the command line

TASKS = {
    "text_generation": (
        TextGeneration, {"seq_len": 8, "batch_size": 4}, {"embedding_dim": 4}, {"task.units": {"choice": [6, 8]}},
        ("val_perplexity", "min"),
    ),
    "dcgan": (
        DCGAN, {"batch_size": 4}, {"generator_filters": 2, "discriminator_filters": 2},
        {"task.noise_dim": {"choice": [3, 4]}}, ("val_pixel_frechet_distance", "min"),
    ),
    "translation": (
        Translation, {"batch_size": 4}, {"embedding_dim": 4, "encoder_units": 5, "warmup_steps": 1},
        {"task.learning_rate": {"choice": [0.01, 0.1]}}, ("val_bleu", "max"),
    ),
    "captioning": (
        Captioning, {"max_images": 40, "batch_size": 4}, {"embedding_dim": 4, "warmup_steps": 1},
        {"task.units": {"choice": [5, 6]}}, ("val_bleu_4", "max"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_every_task(tmp_path, name):
    task_class, data, task, space, (objective, direction) = TASKS[name]
    limits = {
        "limit_train_batches": 2,
        "limit_val_batches": 1,
        "max_epochs": 1,
        "num_sanity_val_steps": 0,
        "run_eagerly": True,
    }
    tuner = lk.Tuner(
        task_class, space, folder=tmp_path, data={"source": "sample", **data}, task=task, trainer=limits,
        objective=objective, direction=direction, algorithm="grid",
    )  # fmt: skip
    trials = tuner.search()
    assert list(trials.status) == ["COMPLETED"] * 2 and np.isfinite(trials.score.astype(float)).all()
    assert isinstance(tuner.best_task(), task_class)


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = [
        "tune", "helpers.toys.Classifier", "--space", "{task.units: {int: [2, 8]}}", "--trainer.max_epochs", "1",
        "--max_trials", "1", "--folder", "search",
    ]  # fmt: skip
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert out.startswith("trial 0000  val_loss ") and "lightkeras fit --config search/best_config.yaml" in out
    assert cli.main([*arguments, "--seed", "3"]) == 1
    assert capsys.readouterr().err.startswith("lightkeras: error: Expected search to be a new folder, or to hold this")
    assert cli.main([*arguments[:3], "{}", *arguments[4:]]) == 1
    assert "at least one argument to search" in capsys.readouterr().err
    assert cli.main(["tune", "helpers.toys.Classifier", "--space", "nowhere.yaml", "--trainer.max_epochs", "1"]) == 1
    config = yaml.safe_load(Path("search/best_config.yaml").read_text())
    assert config["task"]["class_path"] == "helpers.toys.Classifier" and 2 <= config["task"]["init_args"]["units"] <= 8
