"""Several validation sets by name, and validation by the clock."""

import csv
import datetime
import types

import keras
import numpy as np
import pytest
from helpers.stopping import At, Killed, kill
from helpers.toys import Classifier, PointsData, Recorder, quiet

import lightkeras as lk
from lightkeras.callbacks import validation
from lightkeras.metrics import WeightedMean

EAGER = {"run_eagerly": True, "max_epochs": 1, "log_every_n_steps": 1}


class Named(PointsData):
    """Two validation sets: 10 examples as they are, and 6 without their sign, as plain arrays."""

    def __init__(self, size: int = 37, batch_size: int = 8, shuffle: bool = True, names: tuple = ("clean", "bent")):
        super().__init__(size, batch_size, shuffle)
        self.names = names

    def val_dataset(self):
        arrays = {"x": np.abs(self.x[:6]), "y": self.y[:6]}
        return dict(zip(self.names, (super().val_dataset(), arrays), strict=True))


class Scored(Classifier):
    score_names = ("rows",)

    def score(self, batches):
        rows = sum(float(batch["weight"].numpy().sum()) for batch in batches)
        return {"rows": WeightedMean(rows, 1.0)}


RESULTS = [f"val_{name}_{metric}" for name in ("clean", "bent") for metric in ("loss", "accuracy", "rows")]


# ---- sets by name


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    recorder = Recorder()
    arguments = {**EAGER, "max_epochs": 3, "limit_val_batches": 2, "callbacks": [recorder]}
    trainer = quiet(str(tmp_path_factory.mktemp("runs")), **arguments)
    trainer.fit(Scored(learning_rate=0.5), Named())
    return trainer, recorder


def test_each_set_has_its_metrics(run):
    trainer, recorder = run
    names = ["loss", "accuracy", *RESULTS]
    assert set(trainer.history.history) == {*names}
    for record in recorder.validations:
        assert (record["val_clean_rows"], record["val_bent_rows"]) == (
            8,
            6,
        )  # two batches of 4; one that is not full
        assert "val_loss" not in record
    assert {name: trainer.callback_metrics[name] for name in RESULTS} == {
        name: recorder.validations[-1][name] for name in RESULTS
    }
    with (trainer.run_dir / "metrics.csv").open() as file:
        (*_, last) = csv.DictReader(file)
    assert float(last["val_bent_loss"]) == recorder.validations[-1]["val_bent_loss"]


def test_the_metrics_are_those_of_each_set_alone(run):
    _, recorder = run
    task = Scored.load_from_checkpoint(run[0].run_dir / "checkpoints" / "step_000000015")
    data = Named()
    data.setup("fit")
    x, y = np.abs(data.x[:6]), data.y[:6]
    alone = task.evaluate({"x": x, "y": y}, verbose=0, return_dict=True)
    assert recorder.validations[-1]["val_bent_loss"] == pytest.approx(alone["loss"], rel=1e-6)
    alone = task.evaluate({"x": data.x[:8], "y": data.y[:8]}, verbose=0, return_dict=True)
    assert recorder.validations[-1]["val_clean_loss"] == pytest.approx(alone["loss"], rel=1e-6)


def test_checkpoints_are_ranked_by_the_first_set(run):
    trainer, recorder = run
    losses = [record["val_clean_loss"] for record in recorder.validations]
    best = recorder.validations[int(np.argmin(losses))]
    found = quiet(default_root_dir=str(trainer.run_dir.parent.parent)).validate(
        Scored(), Named(), ckpt_path=str(trainer.run_dir)
    )
    assert set(found) == {*RESULTS}
    assert found["val_bent_loss"] == pytest.approx(best["val_bent_loss"], rel=1e-6)  # of its 6 examples


def test_a_set_is_monitored_by_its_name():
    stopping = lk.EarlyStopping("val_bent_accuracy", mode="max", patience=1)
    of_keras = keras.callbacks.EarlyStopping("val_bent_accuracy", patience=9)
    quiet(**EAGER, callbacks=[stopping, of_keras]).fit(Classifier(), Named())
    assert stopping.best is not None and of_keras.mode == "max"
    with pytest.raises(ValueError, match=r"one of .*val_clean_loss.*Received: monitor='val_loss'. Did you mean"):
        quiet(**EAGER, callbacks=[lk.EarlyStopping("val_loss")]).fit(Classifier(), Named())


def test_test_sets_have_names_too(run):
    task = quiet(max_steps=1)
    task.fit(model := Classifier(), Named())
    found = quiet().test(model, Named())  # `test_dataset` is `val_dataset` of this data
    assert set(found) == {"test_clean_loss", "test_clean_accuracy", "test_bent_loss", "test_bent_accuracy"}
    with pytest.raises(ValueError, match=r"`predict_dataset` to be one data set.*\['clean', 'bent'\]"):
        quiet().predict(model, Named())


def test_overfit_batches_are_validated_under_each_name():
    recorder = Recorder()
    quiet(**EAGER, overfit_batches=2, callbacks=[recorder]).fit(Classifier(), Named())
    (record,) = recorder.validations
    assert record["val_clean_loss"] == record["val_bent_loss"]


def test_every_set_is_tried_out_before_training():
    class Fails(Classifier):
        def test_step(self, batch):
            if batch["x"].shape[0] == 8:  # the first set has batches of 4
                raise RuntimeError("in the second set")
            return super().test_step(batch)

    task = Fails()
    with pytest.raises(RuntimeError, match="in the second set"):
        quiet(**{**EAGER, "num_sanity_val_steps": 1}).fit(task, Named())
    assert task.global_step == 0


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((1, "b"), "each name of letters.*Received: val_dataset=1"),
        (("", "b"), "each name of letters.*Received: val_dataset=''"),
        (("a b", "b"), "each name of letters.*Received: val_dataset='a b'"),
        ((), "at least one by name. Received: val_dataset={}"),
    ],
)
def test_names_are_checked(names, message):
    class Data(Named):
        def val_dataset(self):
            return {name: super(Named, self).val_dataset() for name in names}

    with pytest.raises(ValueError, match=message):
        quiet(**EAGER).fit(Classifier(), Data())


def test_names_that_make_a_metric_twice_are_refused():
    class Task(Classifier):
        def losses_of(self, batch, training):
            found = super().losses_of(batch, training)
            return {**found, "b_loss": found["loss"]}

    with pytest.raises(ValueError, match=r"each metric's name once. Received: val_dataset=\['val_a_b_loss'\]"):
        quiet(**EAGER).fit(Task(), Named(names=("a", "a_b")))
    with pytest.raises(ValueError, match="'bent' has none"):
        data = Named()
        data.val_dataset = lambda: {"clean": data.train_dataset(), "bent": None}
        quiet(**EAGER).fit(Classifier(), data)


def test_check_takes_named_sets():
    report = lk.check(Classifier(), Named(), only=["same_seed", "evaluation", "splits"])
    assert {result.name: result.status for result in report.results} == {
        "same_seed": "PASS", "evaluation": "PASS", "splits": "FAIL",  # validation is part of the training data
    }  # fmt: skip


# ---- by the clock


class Clock(lk.Callback):
    """A clock in the place of the computer's: every update takes ten seconds."""

    order = -50

    def __init__(self, monkeypatch):
        super().__init__()
        self.now = 1000.0
        monkeypatch.setattr(validation, "time", types.SimpleNamespace(monotonic=lambda: self.now))

    def on_train_batch_end(self, batch, logs=None):
        self.now += 10


def validated(monkeypatch, root=None, callbacks=(), ckpt_path=None, **arguments):
    """The updates after which a run was validated."""
    recorder = Recorder()
    arguments = {"max_epochs": 3, "run_eagerly": True, **arguments}
    trainer = quiet(root, **arguments, callbacks=[Clock(monkeypatch), recorder, *callbacks])
    trainer.fit(Classifier(), PointsData(), ckpt_path)  # 5 updates an epoch
    return [record["step"] for record in recorder.validations]


@pytest.mark.parametrize("every", ["00:00:30", "00:00:00:30", datetime.timedelta(seconds=30), {"seconds": 30}])
def test_validation_by_time(every, monkeypatch):
    found = validated(monkeypatch, val_check_interval=every)
    assert found == [3, 5, 8, 10, 13, 15]  # three updates after the last one, and at the ends of epochs


def test_the_ends_of_epochs_need_not_be_validated(monkeypatch):
    found = validated(monkeypatch, val_check_interval="00:00:40", check_val_every_n_epoch=3)
    assert found == [4, 8, 12, 15]


def test_a_time_that_ends_with_an_epoch(monkeypatch):
    assert validated(monkeypatch, val_check_interval="00:00:50", check_val_every_n_epoch=9) == [5, 10, 15]


@pytest.mark.parametrize("at", [2, 6])
def test_a_resumed_run_goes_on_counting(at, monkeypatch, tmp_path):
    """Killed after update `at`, 20 or 30 seconds after the last validation: the next one comes as in a whole run."""
    setting = {"val_check_interval": "00:00:40", "check_val_every_n_epoch": 3}
    saves = lk.ModelCheckpoint(None, save_top_k=0, every_n_steps=1)
    before = []
    with pytest.raises(Killed):
        before = validated(monkeypatch, str(tmp_path), [saves, At(at + 1, kill)], **setting)
    after = validated(monkeypatch, str(tmp_path), ckpt_path="last", **setting)
    assert before == [] and after == [step for step in (4, 8, 12, 15) if step > at]


@pytest.mark.parametrize(
    ("every", "message"),
    [
        ("15:00", '`val_check_interval` to be "DD:HH:MM:SS" or "HH:MM:SS"'),
        ("00:00:00", "`val_check_interval` to be longer than 0 seconds"),
        ({"hour": 1}, "`val_check_interval` to be a dict with days"),
        (datetime.timedelta(-1), "`val_check_interval` to be longer than 0 seconds"),
        (None, "`val_check_interval` to be a number of batches"),
    ],
)
def test_bad_times_are_rejected(every, message):
    with pytest.raises(ValueError, match=message):
        quiet(val_check_interval=every)


def test_a_time_is_kept_in_the_runs_configuration(tmp_path):
    trainer = quiet(str(tmp_path), max_steps=1, val_check_interval=datetime.timedelta(minutes=15))
    trainer.fit(Classifier(), PointsData())
    assert "val_check_interval:\n    seconds: 900.0" in (trainer.run_dir / "config.yaml").read_text()
