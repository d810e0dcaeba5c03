"""Trainings that hang are found and ended; the ledger of time goes on across kills."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
from helpers.stopping import At, Killed, kill
from helpers.toys import Classifier, PointsData, Recorder, quiet

import lightkeras as lk
from lightkeras.callbacks import Watchdog, watchdog
from lightkeras.runs import timeline
from lightkeras.runs.timeline import read_ledger


class Sleepy(Classifier):
    """The update after `hangs_at` others takes `seconds`."""

    hangs_at, seconds, calls = 4, 1.5, 0

    def losses_of(self, batch, training):
        x = tf.numpy_function(self.sleep, [batch["x"]], tf.float32) if training else batch["x"]
        return super().losses_of({**batch, "x": tf.ensure_shape(x, batch["x"].shape)}, training)

    def sleep(self, x):
        type(self).calls += 1
        if type(self).calls == self.hangs_at + 1:
            time.sleep(self.seconds)
        return x


def test_an_update_that_hangs_is_said_once_with_stacks_and_address(caplog):
    class Once(Sleepy):
        pass

    trainer = quiet(callbacks=[Watchdog(minimum=0.5)], max_epochs=2, limit_val_batches=0, steps_per_execution=1)
    trainer.fit(Once(), PointsData())
    (record,) = [one for one in caplog.records if "has taken" in one.message]
    assert "after update 4 (epoch 0, batch 4)" in record.message
    assert "An update (or the reading of its batch)" in record.message
    assert "in sleep" in record.message and "(most recent call first)" in record.message
    assert "watchdog" not in [thread.name for thread in threading.enumerate() if not thread.daemon]


def test_a_reader_that_hangs_is_said(caplog):
    class Slow(PointsData):
        def train_dataset(self):
            def slow_read(index):
                if index == 36:
                    time.sleep(2.0)
                return self.x[index]

            def read(index, epoch):
                x = tf.numpy_function(slow_read, [index], tf.float32)
                return {"x": tf.ensure_shape(x, (4,)), "y": tf.gather(self.y, index)}

            return lk.AddressedDataset.from_examples(read, self.size, 8, shuffle=False)

    trainer = quiet(callbacks=[Watchdog(minimum=0.5)], max_epochs=2, limit_val_batches=0, steps_per_execution=1)
    trainer.fit(Classifier(), Slow())
    assert "in slow_read" in caplog.text and caplog.text.count("has taken") == 1


def test_a_slow_first_call_and_a_slow_callback_are_not_taken_for_hanging(caplog):
    class First(Sleepy):
        hangs_at = 0

    slow = At(3, lambda: time.sleep(1.0))
    quiet(callbacks=[Watchdog(minimum=0.5), slow], max_steps=4, limit_val_batches=0).fit(First(), PointsData())
    assert "has taken" not in caplog.text


def test_a_timeout_ends_the_process_with_its_own_code(tmp_path, caplog, monkeypatch):
    class Hangs(Sleepy):
        seconds = 2.0

    codes = []
    monkeypatch.setattr(watchdog, "end_process", codes.append)
    options = {"max_epochs": 2, "limit_val_batches": 0, "checkpoint_every_n_steps": 2, "hang_timeout": 1.0}
    trainer = quiet(tmp_path, steps_per_execution=1, **options)
    trainer.fit(Hangs(), PointsData())
    assert codes == [75] and "Resume it with ckpt_path=" in caplog.text


PROGRAM = """
import sys, time
sys.path[:0] = {paths!r}
from test_watchdog import Sleepy, PointsData, quiet

class Forever(Sleepy):
    seconds = 600.0

quiet(sys.argv[1], max_epochs=2, limit_val_batches=0, checkpoint_every_n_steps=2, hang_timeout=20.0,
      steps_per_execution=1).fit(Forever(), PointsData())
"""


def test_a_process_that_hangs_ends_and_its_run_is_resumed(tmp_path):
    paths = [path for path in sys.path if "tests" in path] + [str(__file__).rpartition("/")[0]]
    code = PROGRAM.format(paths=paths)
    ended = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=200)
    assert ended.returncode == 75, ended.stderr[-2000:]
    assert "in sleep" in ended.stderr
    (run,) = (tmp_path / "forever").iterdir()
    assert [path.name for path in (run / "checkpoints").glob("step_*")] != []

    class Forever(Classifier):
        pass

    task = Forever()
    trainer = quiet(tmp_path, max_epochs=2, limit_val_batches=0)
    trainer.fit(task, PointsData(), ckpt_path=str(run), allow_changes=["task"])
    assert task.global_step == 10
    assert read_ledger(run)["starts"] == 2


@pytest.mark.parametrize("given", [0, -1, "soon", True, float("nan")])
def test_a_timeout_that_is_none_is_refused(given):
    with pytest.raises((ValueError, TypeError), match="Expected `hang_timeout` to be"):
        lk.Trainer(hang_timeout=given)


# ---- the ledger


def test_the_ledger_counts_what_a_kill_lost(tmp_path):
    record = Recorder()
    options = {"max_epochs": 3, "checkpoint_every_n_steps": 4, "log_every_n_steps": 1, "steps_per_execution": 1}
    save = At(6, lambda: None)
    with pytest.raises(Killed):
        quiet(tmp_path, callbacks=[save, At(7, kill)], **options).fit(Classifier(), PointsData())
    (run,) = (tmp_path / "classifier").iterdir()
    began = time.monotonic()
    quiet(tmp_path, callbacks=[record], **options).fit(Classifier(), PointsData(), ckpt_path="last")
    took, ledger = time.monotonic() - began, read_ledger(run)
    first, second = ledger["processes"]
    assert ledger["starts"] == 2 and ledger["updates"] == 15 == second["last"]
    assert first["last"] == second["first"] and 0 < sum(second["seconds"].values()) <= took
    assert 0 < ledger["goodput"] < 1
    seconds = ledger["seconds"]
    assert ledger["goodput"] == pytest.approx(seconds["updates"] / sum(seconds.values()))
    assert all(seconds[kind] > 0 for kind in ("start", "tracing", "updates", "validation", "saving", "other"))
    assert 0 < record.logs[-1]["goodput"] < 1 and "goodput" not in (run / "metrics.csv").read_text()


def note(run, event, step, seconds=None):
    timeline.append(
        run, {"event": event, "time": 1.0, "step": step, **({} if seconds is None else {"seconds": seconds})}
    )


def test_the_seconds_of_lost_updates(tmp_path):
    """Ten updates of a second each, a checkpoint after the fourth; two are made again from it, after another kill."""
    note(tmp_path, "start", 0)
    note(tmp_path, "progress", 4, {"updates": 4.0})
    note(tmp_path, "progress", 10, {"updates": 10.0, "validation": 5.0})
    assert read_ledger(tmp_path)["goodput"] == pytest.approx(10 / 15)
    note(tmp_path, "start", 4)
    note(tmp_path, "progress", 6, {"updates": 2.0})
    found = read_ledger(tmp_path)
    assert found["updates"] == 6 and found["lost_updates"] == 6 and found["starts"] == 2
    assert found["seconds"]["updates"] == pytest.approx(6) and found["seconds"]["lost"] == pytest.approx(6)
    note(tmp_path, "start", 2)  # from an older checkpoint: more of the first process is lost, and all of the second
    found = read_ledger(tmp_path)
    assert found["updates"] == 2 and found["lost_updates"] == 10 and found["seconds"]["lost"] == pytest.approx(10)
    assert np.isclose(sum(found["seconds"].values()), 17) and read_ledger(tmp_path / "none") is None
    before = timeline.read_events(tmp_path)[:3]
    assert timeline.summarize(before, step=8)["seconds"]["lost"] == pytest.approx(2)


def test_the_seconds_of_a_run_of_an_earlier_version(tmp_path):
    """Its events have other names, and no updates: those are what is left of the time."""
    seconds = {"start, with tracing and compiling": 2.0, "checkpoints": 1.0, "samples": 0.5, "validation": 3.0}
    event = {"event": "end", "time": 9.0, "step": 20, "elapsed": 10.0, "seconds": seconds}
    note(tmp_path, "start", 0)
    timeline.append(tmp_path, event)
    found = read_ledger(tmp_path)
    expected = {"start": 2.0, "saving": 1.0, "other": 0.5, "validation": 3.0, "updates": 3.5}
    assert {kind: value for kind, value in found["seconds"].items() if value} == expected and found["goodput"] == 0.35


@pytest.mark.parametrize("text", ['{"event": "start", "ti', "[]", '{"event": "start", "step": 5}', "\xff\x00 3"])
def test_a_damaged_time_line_does_not_end_a_run(tmp_path, text):
    (tmp_path / "timeline.jsonl").write_text(text, encoding="utf-8")
    note(tmp_path, "start", 2)
    note(tmp_path, "progress", 3, {"updates": 1.0})
    assert read_ledger(tmp_path)["starts"] == 1 and read_ledger(tmp_path)["updates"] == 1
    assert (tmp_path / "timeline.jsonl").read_text(encoding="utf-8").startswith(text)


@pytest.mark.parametrize("logger", ["csv", "csv,mlflow"])
def test_an_error_before_training_is_not_hidden_by_a_callback_that_has_not_begun(tmp_path, logger):
    class Fails(lk.Callback):
        order = -200

        def on_train_begin(self, logs=None):
            raise KeyError("mine")

    if "mlflow" in logger:
        pytest.importorskip("mlflow")
    with pytest.raises(KeyError, match="mine") as raised:
        quiet(tmp_path, max_epochs=1, logger=logger, callbacks=[Fails()]).fit(Classifier(), PointsData())
    assert raised.value.__cause__ is None
