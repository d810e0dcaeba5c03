"""The time line and the report that every run leaves, however it ends."""

import json
import logging
import signal
import time

import keras
import numpy as np
import pytest
from helpers.stopping import At, interrupt
from helpers.toys import Classifier, PointsData, quiet

import lightkeras as lk
from lightkeras.callbacks import report_writer
from lightkeras.report.record import RunRecord

SETTING = {"run_eagerly": True, "limit_train_batches": 3, "limit_val_batches": 1}


class Shown(Classifier):
    """A task with a section of its own."""

    def report_sections(self):
        return [lk.report.Section("Own", [lk.report.Text(f"{self.global_step} updates")], "A note.")]


class Broken(Classifier):
    def report_sections(self):
        raise ZeroDivisionError("mine")


@pytest.fixture
def messages(caplog):
    """The library's warnings."""
    with caplog.at_level(logging.WARNING, "lightkeras"):
        yield caplog


def read(trainer) -> str:
    assert trainer.run_dir
    return (trainer.run_dir / "report.html").read_text(encoding="utf-8")


def test_a_run_that_was_interrupted_and_resumed(root, messages):
    trainer = quiet(root, max_epochs=2, callbacks=[At(4, interrupt)], **SETTING)
    trainer.fit(Shown(), PointsData())
    assert trainer.interrupted == signal.SIGINT and "interrupted by SIGINT" in read(trainer)
    assert "After epoch 1. A note." in read(trainer) and "3 updates" in read(trainer)
    began = time.monotonic()
    quiet(root, max_epochs=2, **SETTING).fit(Shown(), PointsData(), ckpt_path="last")
    record = RunRecord(trainer.run_dir)
    assert [(one.event["step"], one.last["step"], one.ended) for one in record.starts] == [
        (0, 4, "interrupted by SIGINT"), (4, 6, "finished"),
    ]  # fmt: skip
    assert record.starts[0].event["monitor"] == ["val_loss", "min"] and record.status == "finished"
    assert record.starts[0].event["devices"] == "1 CPU" and record.starts[0].event["steps_per_epoch"] == 3
    seconds = record.starts[1].last["seconds"]
    assert all(seconds[kind] > 0 for kind in ("start", "tracing", "validation", "saving", "other"))
    assert 0 < sum(seconds.values()) <= time.monotonic() - began
    assert "After epoch 2. A note." in read(trainer) and "6 updates" in read(trainer) and not messages.records


def test_an_error_is_told_on_the_time_line(root):
    def fail():
        raise KeyError("mine")

    trainer = quiet(root, max_epochs=1, callbacks=[At(2, fail)], **SETTING)
    with pytest.raises(KeyError):
        trainer.fit(Classifier(), PointsData())
    assert RunRecord(trainer.run_dir).status == "KeyError: 'mine'" and "KeyError: &#39;mine&#39;" in read(trainer)


def test_a_report_that_cannot_be_made_is_a_warning(root, messages, monkeypatch):
    trainer = quiet(root, max_epochs=1, **SETTING)
    trainer.fit(Broken(), PointsData())
    assert "1 epoch" in read(trainer)
    monkeypatch.setattr(report_writer, "write_report", lambda folder: 1 / 0)
    trainer = quiet(root, max_epochs=1, **SETTING)
    history = trainer.fit(Classifier(), PointsData()).history
    assert len(history["loss"]) == 1 and not (trainer.run_dir / "report.html").exists()
    assert [record.getMessage() for record in messages.records] == [
        "The task's sections of the report could not be made: ZeroDivisionError('mine')",
        "The report could not be made: ZeroDivisionError('division by zero')",
    ]


def test_sections_take_a_hundredth_of_the_time(root, monkeypatch):
    """And come after epochs with samples, the last of them in any case."""
    made = []
    monkeypatch.setattr(Shown, "report_sections", lambda task: made.append(task.global_step) or [])
    clock = iter(range(0, 10**6, 10))  # every look takes ten seconds
    monkeypatch.setattr(report_writer.time, "monotonic", lambda: next(clock))
    quiet(root, max_epochs=6, callbacks=[lk.callbacks.SampleWriter(2)], **SETTING).fit(Shown(), PointsData())
    assert made == [6, 18]


def test_a_plain_keras_model_has_a_report(root, messages):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    trainer = quiet(root, max_epochs=2)
    x = np.ones((8, 4), np.float32)
    trainer.fit(model, (x, x[:, :1]), validation_data=(x, x[:, :1]), batch_size=4)
    page = read(trainer)
    assert "Best val_loss" in page and "Run that program again." in page and not messages.records
    (start, *_, end) = [json.loads(line) for line in (trainer.run_dir / "timeline.jsonl").read_text().splitlines()]
    assert (start["event"], end["event"], end["step"], end["why"]) == ("start", "end", 4, "finished")
