"""Profiles of some updates: which ones, in which folder, after kills and resumes; the table; model summary and MFU."""

import csv

import keras
import numpy as np
import pytest
from helpers.stopping import At, Killed, kill
from helpers.toys import Classifier, PointsData, Recorder, quiet

import lightkeras as lk
from lightkeras.callbacks import ModelSummary, Profiler, Throughput
from lightkeras.profiling.operations import Cost, make_table, own_times, read_costs
from lightkeras.utils import internals


def steps_of(folder):
    """The numbers of the steps that TensorBoard finds in a profile: the first update of each call."""
    (path,) = folder.glob("**/*.xplane.pb")
    found = []
    for plane in internals.trace_planes(path):
        names = {number: meta.name for number, meta in plane.stat_metadata.items()}
        for line in plane.lines:
            for event in line.events:
                if plane.event_metadata[event.metadata_id].name == "train":
                    found += [stat.int64_value for stat in event.stats if names[stat.metadata_id] == "step_num"]
    return sorted(found)


def rows_of(folder):
    with (folder / "operations.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_many_steps_a_call_are_cut_to_the_updates_that_were_asked_for(tmp_path, capsys, caplog):
    """20 updates in calls of 8: 1-5, 6-13, 14-17, 18-20 where 6-17 are profiled."""
    trainer = quiet(tmp_path, max_epochs=4, steps_per_execution=8, profiler="6-17", limit_val_batches=0)
    with caplog.at_level("INFO", "lightkeras"):
        trainer.fit(Classifier(), PointsData())
    folder = trainer.run_dir / "profile" / "updates_6-17"
    assert steps_of(folder) == [6, 11, 16]  # an epoch has 5 updates
    rows = rows_of(folder)
    assert next(row["calls"] for row in rows if row["operation"].endswith("hidden_1/MatMul")) == "12"
    assert rows[0]["milliseconds"] and sum(float(row["share"]) for row in rows) == pytest.approx(1, abs=0.01)
    shown = capsys.readouterr().out
    assert "Costliest operations of updates 6-17, in 3 calls" in shown
    assert "Profile of updates 6-17" in caplog.text


def test_a_profile_takes_its_own_time_from_operations_within_others():
    events = [(0, 100, "while"), (10, 30, "a"), (20, 5, "b"), (50, 10, "a"), (200, 7, "c")]
    assert own_times(events) == [("while", 60.0), ("a", 25.0), ("b", 5.0), ("a", 10.0), ("c", 7.0)]


def test_names_in_the_table():
    """The loop over updates is left out; loops of layers stay."""
    loop = "while/body/_1/while/"
    costs = [
        Cost(loop + "MatMul", "MatMul", 1, 3.0),
        Cost(loop + "gru/while/body/_155/while/gru/while/MatMul", "MatMul", 7, 2.0),
        Cost(loop + "a/b/c/d/e", "Add", 1, 1.0),
    ]
    table = make_table(costs, 2, "title", rows=3)
    assert list(table.columns[0].cells) == ["MatMul", "gru/while/MatMul", "a/.../c/d/e"]
    assert list(table.columns[3].cells) == ["1.5", "1", "0.5"]


@pytest.mark.parametrize(
    "given", ["abc", "30-20", "0-5", "5", "", "-3", "5-", "1-2-3", "５-６", 20, (20, 30), True], ids=repr
)
def test_refused_when_the_trainer_is_made(given):
    with pytest.raises((ValueError, TypeError), match=r"Expected `profiler` to be .*Received"):
        lk.Trainer(profiler=given)


def test_refused_before_there_is_a_folder(tmp_path):
    with pytest.raises(ValueError, match="within the 4 updates of max_steps"):
        quiet(tmp_path, max_steps=4, profiler="3-5")
    with pytest.raises(ValueError, match="within the 10 updates of the run"):
        quiet(tmp_path, max_epochs=2, profiler="9-11").fit(Classifier(), PointsData())
    with pytest.raises(ValueError, match="None with fast_dev_run"):
        lk.Trainer(fast_dev_run=True, profiler="1-1")
    assert not list(tmp_path.iterdir())


def test_a_killed_run_makes_the_profile_again_and_a_resumed_one_the_rest(tmp_path, caplog):
    options = {"max_epochs": 2, "limit_val_batches": 0, "checkpoint_every_n_steps": 1, "profiler": "2-7"}
    with pytest.raises(Killed):
        quiet(tmp_path, callbacks=[At(4, kill)], **options).fit(Classifier(), PointsData())
    (run,) = (tmp_path / "classifier").iterdir()
    assert not list(run.glob("profile/*/operations.csv"))
    trainer = quiet(tmp_path, **options)
    with caplog.at_level("INFO", "lightkeras"):
        trainer.fit(Classifier(), PointsData(), ckpt_path="last")
    folder = run / "profile" / "updates_2-7-2"
    first = steps_of(folder)[0]
    assert 3 <= first <= 4 and f"Profile of updates {first}-7: " in caplog.text
    caplog.clear()
    with caplog.at_level("INFO", "lightkeras"):
        quiet(tmp_path, **{**options, "max_epochs": 3}).fit(Classifier(), PointsData(), ckpt_path="last")
    assert "Profile: none, updates 2-7 are made already." in caplog.text
    assert len(list(run.glob("profile/*"))) == 2


def test_a_run_that_ends_within_the_range_has_the_profile_of_its_updates(tmp_path, caplog):
    class Ends(lk.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = self.model.global_step == 3

    with caplog.at_level("INFO", "lightkeras"):
        trainer = quiet(tmp_path, max_steps=5, limit_val_batches=0, profiler="2-5", callbacks=[Ends()])
        trainer.fit(Classifier(), PointsData())
    assert "Profile of updates 2-3: " in caplog.text and steps_of(trainer.run_dir / "profile") == [2, 3]


def test_operations_within_what_xla_compiled(tmp_path):
    trainer = quiet(tmp_path, max_steps=3, limit_val_batches=0, profiler="2-3", jit_compile=True)
    trainer.fit(Classifier(), PointsData())
    costs = read_costs(trainer.run_dir / "profile")
    assert costs and any(cost.kind == "XLA" for cost in costs)


# ---- the summary, and the share of the peak


def test_the_summary_has_shapes_operations_and_memory(tmp_path, capsys, caplog):
    summary = ModelSummary()
    with caplog.at_level("INFO", "lightkeras"):
        quiet(callbacks=[summary], max_steps=1, limit_val_batches=0).fit(Classifier(), PointsData())
    shown = capsys.readouterr().out
    assert "output shape" in shown and "(8, 5)" in shown and "(8, 2)" in shown
    flops = 2 * 8 * (2 * 4 * 5 + 3 * 5 * 2)  # the inputs need no gradient
    assert summary.cost.flops == (flops, ())
    assert "One update: 1.12 kFLOP in products. Memory: weights 148 B, optimizers " in caplog.text


def test_the_summary_of_a_plain_model(caplog, capsys):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    summary = ModelSummary()
    x, y = np.zeros((16, 4), np.float32), np.zeros((16, 2), np.float32)
    quiet(callbacks=[summary], max_steps=1).fit(model, (x, y), batch_size=8)
    assert summary.cost.flops.total == 2 * 8 * (2 * 4 * 5 + 3 * 5 * 2)
    assert "(8, 5)" in capsys.readouterr().out


def test_nothing_is_counted_op_by_op(caplog):
    with caplog.at_level("INFO", "lightkeras"):
        quiet(callbacks=[ModelSummary()], max_steps=1, limit_val_batches=0, run_eagerly=True).fit(
            Classifier(), PointsData()
        )
    assert "not counted, as updates run op by op" in caplog.text


def test_the_share_of_a_peak_that_the_user_gives(tmp_path):
    record = Recorder()
    trainer = quiet(tmp_path, callbacks=[Throughput(peak_flops=1e6), record], max_steps=4, log_every_n_steps=2,
                    limit_val_batches=0)  # fmt: skip
    trainer.fit(Classifier(), PointsData())
    last = record.logs[-1]
    assert last["mfu"] == pytest.approx(1120 * last["steps_per_second"] / 1e6)
    assert "mfu" not in (trainer.run_dir / "metrics.csv").read_text()
    with pytest.raises(ValueError, match="peak_flops"):
        Throughput(peak_flops=0)


def test_a_profiler_among_the_callbacks_replaces_the_trainers(tmp_path):
    trainer = quiet(tmp_path, callbacks=[Profiler("2-2")], max_steps=2, limit_val_batches=0)
    trainer.fit(Classifier(), PointsData())
    assert steps_of(trainer.run_dir / "profile") == [2]


def test_two_profilers_are_refused_before_training(tmp_path):
    theirs = keras.callbacks.TensorBoard(tmp_path / "theirs", profile_batch=(2, 3))
    trainer = quiet(tmp_path / "runs", max_epochs=1, profiler="2-3", callbacks=[theirs])
    with pytest.raises(
        lk.utils.ArgumentError, match=r"Expected one profile in a run.*Received: profiler='2-3' and Tens"
    ):
        trainer.fit(task := Classifier(), PointsData())
    assert task.global_step == 0
