"""The callbacks, by value; and callbacks that are not lightkeras'."""

import csv
import io
import math
import os
import signal
import warnings
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.toys import Classifier, PointsData, Recorder, quiet

import lightkeras as lk
from lightkeras.callbacks import assemble
from lightkeras.callbacks.batch_hooks import needs_every_batch
from lightkeras.callbacks.interrupt import Interrupt
from lightkeras.callbacks.limit import Limit

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # Keras', of its variables
STEPS = 5


def fit(root=None, task=None, callbacks=(), **arguments):
    arguments = {"run_eagerly": True, "max_epochs": 1, "log_every_n_steps": 2, **arguments}
    trainer = quiet(root, callbacks=list(callbacks), **arguments)
    trainer.fit(task or Classifier(), PointsData())
    return trainer


def rows_of(run: Path) -> list[dict]:
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# ---- Keras' callbacks, and others written for Keras


class Listener(keras.callbacks.Callback):
    """Writes down every call."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def on_train_begin(self, logs=None):
        self.calls.append(("train begin", dict(self.params)))

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(("epoch begin", epoch))

    def on_train_batch_begin(self, batch, logs=None):
        self.calls.append(("begin", batch))

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append(("end", batch, dict(logs)))

    def on_test_batch_end(self, batch, logs=None):
        self.calls.append(("test end", batch))

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(("epoch end", epoch, dict(logs)))


def test_a_keras_callback_sees_every_batch_whatever_auto_would_make_of_it():
    listener, recorder = Listener(), Recorder()
    fit(callbacks=[listener, recorder], run_eagerly=False, max_epochs=2, log_every_n_steps=1)
    assert listener.calls[0][1]["epochs"] == 2 and listener.calls[0][1]["steps"] == STEPS
    assert [call[1] for call in listener.calls if call[0] == "begin"] == [0, 1, 2, 3, 4] * 2
    assert [call[1] for call in listener.calls if call[0] == "test end"] == [0, 1, 2] * 2
    ends = [call for call in listener.calls if call[0] == "end"]
    assert [call[1] for call in ends] == [0, 1, 2, 3, 4] * 2
    running = [np.average([r["loss"] for r in recorder.logs[:n]], weights=[8, 8, 8, 8, 5][:n]) for n in range(1, 6)]
    np.testing.assert_allclose([call[2]["loss"] for call in ends[:5]], running, rtol=1e-6)  # the epoch's mean so far
    epoch_ends = [call[2] for call in listener.calls if call[0] == "epoch end"]
    assert list(epoch_ends[0]) == ["loss", "accuracy", "val_accuracy", "val_loss"]
    assert epoch_ends[0]["val_loss"] == recorder.validations[0]["val_loss"]


def test_a_fixed_number_of_steps_a_call_is_kept_with_a_keras_callback():
    listener = Listener()
    fit(callbacks=[listener], run_eagerly=False, steps_per_execution=3, log_every_n_steps=50)
    assert [call[1] for call in listener.calls if call[0] == "begin"] == [0, 3]
    assert [call[1] for call in listener.calls if call[0] == "end"] == [2, 4]


class Subclass(lk.callbacks.Throughput):
    """Adds nothing that listens to batches."""


def test_who_needs_every_batch():
    nothing = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None)
    something = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)
    assert [needs_every_batch(c) for c in (nothing, something, Listener(), Recorder())] == [False, True, True, False]
    ours = [
        lk.callbacks.Throughput(),
        Subclass(),
        lk.callbacks.ProgressBar(),
        lk.EarlyStopping(),
        Interrupt(),
        Limit(1, None),
    ]
    assert not any(map(needs_every_batch, ours))
    assert needs_every_batch(keras.callbacks.TerminateOnNaN())


def test_lambda_callbacks_are_called():
    seen = []
    batch = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: seen.append(("begin", batch)),
        on_train_batch_end=lambda batch, logs: seen.append(("end", batch, math.isfinite(logs["loss"]))),
        on_epoch_end=lambda epoch, logs: seen.append(("epoch", epoch, sorted(logs))),
    )
    fit(callbacks=[batch], max_steps=2, run_eagerly=False)
    assert seen == [
        ("begin", 0), ("end", 0, True), ("begin", 1), ("end", 1, True),
        ("epoch", 0, ["accuracy", "loss", "val_accuracy", "val_loss"]),
    ]  # fmt: skip


def test_tqdm_counts_batches_and_epochs():
    tqdm = pytest.importorskip("tqdm.keras")
    for verbose in (1, 2):
        out = io.StringIO()
        bar = tqdm.TqdmCallback(verbose=verbose, file=out, mininterval=0)
        fit(callbacks=[bar], max_epochs=2, run_eagerly=False)
        assert bar.epoch_bar.n == bar.epoch_bar.total == 2 and bar.batch_bar.n == bar.batch_bar.total == STEPS
        assert "loss=" in out.getvalue() and "val_loss=" in out.getvalue()


def test_keras_schedules_change_the_learning_rate():
    recorder = Recorder()
    plateau = keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.1, patience=1, min_delta=100.0)
    trainer = fit(callbacks=[plateau, recorder], max_epochs=3, log_every_n_steps=5)
    np.testing.assert_allclose(trainer.history.history["learning_rate"], [0.05, 0.05, 0.005], rtol=1e-6)
    np.testing.assert_allclose([r["learning_rate"] for r in recorder.logs], [0.05, 0.05, 0.005], rtol=1e-6)
    recorder = Recorder()
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.1 / (epoch + 1))
    fit(callbacks=[schedule, recorder], max_epochs=2, log_every_n_steps=5)
    np.testing.assert_allclose([r["learning_rate"] for r in recorder.logs], [0.1, 0.05], rtol=1e-6)


def test_keras_early_stopping_checkpoint_and_csv(tmp_path):
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=2, min_delta=100.0)
    saves = keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.weights.h5"), save_weights_only=True)
    table = keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))
    trainer = fit(callbacks=[stopping, saves, table], max_epochs=9)
    assert trainer.history.epoch == [0, 1, 2] and stopping.stopped_epoch == 2
    assert sorted(path.name for path in tmp_path.glob("*.h5")) == [f"{n}.weights.h5" for n in (1, 2, 3)]
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_loss"]) for row in rows] == trainer.history.history["val_loss"]
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]


def test_keras_tensorboard(tmp_path):
    board = keras.callbacks.TensorBoard(str(tmp_path), update_freq=1, write_graph=False)
    trainer = fit(callbacks=[board], max_epochs=2)
    found = scalars(tmp_path / "train")
    np.testing.assert_allclose(found["epoch_loss"], list(enumerate(trainer.history.history["loss"])), rtol=1e-6)
    assert len(found["batch_loss"]) == 2 * STEPS


class NaNAt(Classifier):
    """The loss of update `at` (from 1) is NaN; or its gradient alone is."""

    def __init__(self, at: int, gradient: bool = False):
        super().__init__()

    def losses_of(self, batch, training):
        sums = super().losses_of(batch, training)
        if not self.optimizers or not training:
            return sums
        total, weight = sums["loss"]
        now = self.optimizers["loss"].iterations + 1 == self.hparams["at"]
        factor = tf.where(now, np.float32(np.nan), 1.0)
        total = _with_gradient(total, factor) if self.hparams["gradient"] else total * factor
        return {**sums, "loss": (total, weight)}


def _with_gradient(x, factor):
    @tf.custom_gradient
    def same(x):
        return tf.identity(x), lambda upstream: upstream * factor

    return same(x)


def test_terminate_on_nan_ends_training_and_our_guard_says_where():
    ended = keras.callbacks.TerminateOnNaN()
    with pytest.raises(lk.NonFiniteLossError, match=r"update 3 \(epoch 0, batch 2\)"):
        fit(callbacks=[ended], task=NaNAt(3), log_every_n_steps=50)
    assert ended.model.global_step == 3


# ---- order, and what stands in whose place


class Adds(lk.Callback):
    """A metric of its own."""

    def metric_names(self):
        return ["answer"]

    def on_log(self, record):
        record["answer"] = 42.0


class MyBar(lk.callbacks.ProgressBar):
    """Shows nothing, and keeps the rates it was told."""

    def on_log(self, record):
        self.rates = {name: value for name, value in record.items() if name.endswith("_per_second")}

    def on_epoch_end(self, epoch, logs=None):
        pass


def test_rates_reach_the_users_callbacks_and_what_they_add_reaches_the_loggers(root):
    bar, recorder = MyBar(), Recorder()
    trainer = fit(root, callbacks=[bar, recorder, Adds(), lk.callbacks.Throughput()], max_epochs=2)
    assert "steps_per_second" in recorder.logs[-1] and "examples_per_second" in recorder.logs[-1]
    assert bar.rates.keys() == {"steps_per_second", "examples_per_second"}
    rows = rows_of(trainer.run_dir)
    assert list(rows[0]) == ["epoch", "step", "loss", "accuracy", "learning_rate", "answer", "val_loss", "val_accuracy"]
    assert rows[0]["answer"] == "42.0"


def test_the_order_of_callbacks():
    mine, stopping, saves = Listener(), lk.EarlyStopping(), lk.ModelCheckpoint()
    defaults = [
        lk.callbacks.CSVLogger(),
        lk.ModelCheckpoint(),
        lk.callbacks.Throughput(),
        keras.callbacks.History(),
        lk.callbacks.NonFiniteGuard(),
    ]
    used = assemble.merge([saves, mine, stopping], defaults)
    assert [type(c).__name__ for c in used] == [
        "NonFiniteGuard", "Throughput", "Listener", "EarlyStopping", "CSVLogger", "History", "ModelCheckpoint",
    ]  # fmt: skip
    assert used[-1] is saves


class MyCSV(lk.callbacks.CSVLogger):
    """Takes the place of the default."""


def test_a_callback_of_a_defaults_class_takes_its_place():
    used = assemble.merge([MyCSV(), lk.Callback()], [lk.callbacks.CSVLogger(), lk.callbacks.Throughput()])
    assert [type(c).__name__ for c in used] == ["Throughput", "Callback", "MyCSV"]


# ---- what is written


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The scalars of TensorBoard's event files: (step, value) by name."""
    found = {}
    for path in sorted(folder.glob("events*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                if value.HasField("tensor"):
                    found.setdefault(value.tag, []).append((event.step, float(tf.make_ndarray(value.tensor))))
    return found


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """(run's folder, records of every update, validations): 2 epochs, a row each 3 updates, validated within."""
    each = Recorder()
    fit(callbacks=[each], max_epochs=2, log_every_n_steps=1, val_check_interval=3)
    trainer = fit(str(tmp_path_factory.mktemp("logged")), max_epochs=2, log_every_n_steps=3, val_check_interval=3)
    return trainer.run_dir, each.logs, each.validations


def test_metrics_csv_row_by_row(logged):
    run, each, validations = logged
    text = (run / "metrics.csv").read_text()
    assert text.splitlines()[0] == "epoch,step,loss,accuracy,learning_rate,val_loss,val_accuracy"
    rows = rows_of(run)
    logs = [row for row in rows if row["loss"]]
    assert [(row["epoch"], row["step"]) for row in logs] == [
        ("0", "3"),
        ("0", "5"),
        ("1", "6"),
        ("1", "9"),
        ("1", "10"),
    ]
    for row, (begin, end) in zip(logs, [(0, 3), (3, 5), (5, 6), (6, 9), (9, 10)], strict=True):
        weights = ([8, 8, 8, 8, 5] * 2)[begin:end]
        for name in ("loss", "accuracy"):
            expected = np.average([record[name] for record in each[begin:end]], weights=weights)
            assert float(row[name]) == pytest.approx(expected, rel=1e-6)
        assert float(row["learning_rate"]) == pytest.approx(0.05) and row["val_loss"] == ""
    others = [row for row in rows if not row["loss"]]
    assert [int(row["step"]) for row in others] == [3, 5, 8, 10] == [record["step"] for record in validations]
    assert [float(row["val_loss"]) for row in others] == pytest.approx([r["val_loss"] for r in validations], rel=1e-6)


def test_a_resumed_metrics_csv_has_the_rows_of_the_checkpoint(tmp_path):
    run, path = SimpleNamespace(folder=tmp_path, metric_names=["loss"]), tmp_path / "metrics.csv"
    saved, resumed = lk.callbacks.CSVLogger(), lk.callbacks.CSVLogger()
    saved.run = resumed.run = run
    saved.on_train_begin()
    for step in (1, 2):
        saved.on_log({"epoch": 0, "step": step, "loss": 1 / step})
    text, state = path.read_text(), saved.state_dict()
    assert text == "epoch,step,loss\n0,1,1.0\n0,2,0.5\n"
    saved.on_log({"epoch": 0, "step": 3, "loss": 0.1, "late": 1.0})
    path.write_text(path.read_text() + "0,4,0.")  # killed as it wrote
    resumed.on_train_begin()
    assert resumed.state_dict() == {"rows": 3, "columns": ["epoch", "step", "loss", "late"]}
    resumed.load_state_dict(state)
    assert path.read_text() == text and resumed.state_dict() == state
    path.write_text(text + "0,3")
    resumed.on_train_begin()
    resumed.on_log({"epoch": 0, "step": 3, "loss": 0.25})
    assert path.read_text() == text + "0,3,0.25\n"


def test_tensorboard_holds_the_same_values(logged):
    run, _, _ = logged
    rows, found = rows_of(run), scalars(run / "tensorboard")
    for name in ("loss", "accuracy", "learning_rate", "val_loss", "val_accuracy"):
        expected = [(int(row["step"]), float(row[name])) for row in rows if row[name]]
        np.testing.assert_allclose(found[name], expected, rtol=1e-6)
    assert {"steps_per_second", "examples_per_second"} <= found.keys()


class AddsLate(lk.Callback):
    """A metric that nobody named before."""

    def on_validation_end(self, record):
        record["val_late"] = 1.0


def test_a_metric_that_comes_later_gets_a_column(root):
    rows = rows_of(fit(root, callbacks=[AddsLate()]).run_dir)
    assert list(rows[0])[-1] == "val_late" and [row["val_late"] for row in rows] == ["", "", "", "1.0"]


def test_samples_are_written_every_so_many_epochs(root):
    class Writer(Classifier):
        def write_samples(self, folder, name):
            (folder / f"{name}.txt").write_text(str(self.global_step))

    trainer = fit(root, Writer(), [lk.callbacks.SampleWriter(every_n_epochs=2)], max_epochs=4)
    samples = {path.name: path.read_text() for path in (trainer.run_dir / "samples").iterdir()}
    assert samples == {"epoch_0002.txt": "10", "epoch_0004.txt": "20"}
    assert (fit(root, Writer()).run_dir / "samples" / "epoch_0001.txt").exists()  # a default, for a task that has any
    with pytest.raises(ValueError, match="`every_n_epochs` to be a positive int"):
        lk.callbacks.SampleWriter(0)


# ---- ModelCheckpoint


class Scores(lk.Callback):
    """Gives validations the values of a list."""

    def __init__(self, values):
        super().__init__()
        self.values = iter(values)

    def metric_names(self):
        return ["val_score"]

    def on_validation_end(self, record):
        record["val_score"] = next(self.values)


def kept(root, values, **arguments):
    """(names kept, scores) after one validation for each value, two in an epoch of 2 updates."""
    saves = lk.ModelCheckpoint("val_score", **arguments)
    trainer = fit(
        root, callbacks=[Scores(values), saves], limit_train_batches=2, val_check_interval=1, max_steps=len(values),
        max_epochs=None, limit_val_batches=1,
    )  # fmt: skip
    names = sorted(int(path.name[5:]) for path in (trainer.run_dir / "checkpoints").iterdir())
    return names, {int(name[5:]): value for name, value in saves.scores.items()}, saves


def test_the_best_and_the_last_checkpoints_stay(root):
    values = [0.5, 0.2, 0.9, 0.1, 0.2, 0.7]
    assert kept(root, values, save_top_k=1, keep_last=1)[:2] == ([4, 6], {4: 0.1})
    assert kept(root, values, save_top_k=2, keep_last=1)[:2] == ([2, 4, 6], {4: 0.1, 2: 0.2})  # of equals, the earlier
    assert kept(root, values, save_top_k=2, keep_last=2, mode="max")[:2] == ([3, 5, 6], {3: 0.9, 6: 0.7})
    names, scores, saves = kept(root, values, save_top_k=0, keep_last=3)
    assert (names, scores, saves.best_checkpoint) == ([4, 5, 6], {}, None)


def test_nan_is_never_the_best(root):
    nan = math.nan
    names, scores, saves = kept(root, [nan, 0.5, nan, 0.4, nan], save_top_k=3, keep_last=1)
    assert (names, scores) == ([2, 4, 5], {4: 0.4, 2: 0.5}) and saves.best_checkpoint == "step_000000004"
    assert kept(root, [nan, nan], save_top_k=1, keep_last=1)[:2] == ([2], {})


def test_two_checkpoint_callbacks_spare_each_others_best(root):
    low, high = lk.ModelCheckpoint("val_score", keep_last=1), lk.ModelCheckpoint("val_score", "max", keep_last=1)
    values = [0.1, 0.9, 0.5, 0.5]
    trainer = fit(root, callbacks=[Scores(values), low, high], limit_train_batches=2, max_epochs=4)
    assert [path.name[-1] for path in sorted((trainer.run_dir / "checkpoints").iterdir())] == ["2", "4", "8"]


def test_every_n_steps_saves_within_the_epoch(root):
    trainer = fit(root, callbacks=[lk.ModelCheckpoint(None, save_top_k=0, every_n_steps=2, keep_last=9)], max_epochs=2)
    assert [int(path.name[5:]) for path in sorted((trainer.run_dir / "checkpoints").iterdir())] == [2, 4, 5, 6, 8, 10]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "mni"}, "`mode` to be one of 'min', 'max'"),
        ({"monitor": None}, "`save_top_k` to be 0 without a monitor"),
        ({"save_top_k": -1}, "`save_top_k` to be a non-negative int"),
        ({"every_n_steps": 0}, "`every_n_steps` to be a positive int or None"),
        ({"keep_last": 0}, "`keep_last` to be a positive int"),
    ],
)
def test_bad_arguments_of_model_checkpoint(arguments, message):
    with pytest.raises(ValueError, match=message):
        lk.ModelCheckpoint(**arguments)


# ---- EarlyStopping


def values_looked_at(values, stopping=None, **arguments) -> int:
    """Validations before training stopped, of these."""
    stopping = stopping or lk.EarlyStopping("val_score", **arguments)
    stopping.set_model(SimpleNamespace(stop_training=False, global_step=0))
    stopping.on_train_begin()
    for count, value in enumerate(values, 1):
        stopping.on_validation_end({"epoch": count - 1, "step": count, "val_score": value})
        if stopping.model.stop_training:
            return count
    return 0


def test_early_stopping_by_hand():
    assert values_looked_at([5, 4, 4, 4, 4], patience=2) == 4
    assert values_looked_at([5, 4, 4, 3, 3, 3], patience=2) == 6
    assert values_looked_at([5, 4.9, 4.8, 4.7], patience=2, min_delta=0.15) == 0  # 4.8 is 0.2 better than 5
    assert values_looked_at([5, 4.9, 4.86, 4.7], patience=2, min_delta=0.15) == 3
    assert values_looked_at([1, 2, 3, 2, 2], patience=2, mode="max") == 5
    assert values_looked_at([math.nan] * 3, patience=2) == 2


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([5, 3, 4, 4], "EarlyStopping: no better val_score for 2 epochs, best 3.000 at epoch 2"),
        ([math.nan] * 3, "EarlyStopping: val_score was never a number in 2 epochs"),
    ],
)
def test_early_stopping_says_why(values, reason):
    stopping = lk.EarlyStopping("val_score", patience=2)
    assert values_looked_at([float(value) for value in values], stopping) and stopping.stop_reason() == reason


def test_early_stopping_counts_values_within_an_epoch_and_knows_the_best_after_a_resume():
    stopping = lk.EarlyStopping("val_score", patience=2)
    stopping.set_model(SimpleNamespace(stop_training=False, global_step=0))
    stopping.on_train_begin()
    stopping.load_state_dict({"best": 1.5, "wait": 1, "best_epoch": 4})
    stopping.on_validation_end({"epoch": 3, "step": 40, "val_score": 2.0})
    assert stopping.stop_reason() == "EarlyStopping: no better val_score for 2 values, best 1.500 at epoch 4"


def test_early_stopping_on_a_training_metric_and_within_an_epoch():
    trainer = fit(callbacks=[lk.EarlyStopping("loss", "max", patience=1)], max_epochs=9)
    assert trainer.history.epoch == [0, 1]
    stopping, recorder = lk.EarlyStopping("val_loss", patience=1, min_delta=100.0), Recorder()
    fit(callbacks=[stopping, recorder], val_check_interval=2)
    assert [record["step"] for record in recorder.validations] == [2, 4]
    with pytest.raises(ValueError, match="`patience` to be a positive int"):
        lk.EarlyStopping(patience=0)


# ---- NonFiniteGuard


def test_the_guard_names_the_update_and_the_last_good_checkpoint_stays(root):
    saves = lk.ModelCheckpoint(None, save_top_k=0, every_n_steps=1, keep_last=99)
    errors = []

    class Watch(lk.Callback):
        def on_exception(self, error):
            errors.append(error)

    with pytest.raises(lk.NonFiniteLossError, match=r"loss not finite at update 8 \(epoch 1, batch 2\)") as caught:
        fit(root, NaNAt(8), [saves, Watch()], max_epochs=3, log_every_n_steps=50)
    assert errors == [caught.value]
    folder = next(Path(root).glob("*/*/checkpoints"))
    assert [int(path.name[5:]) for path in sorted(folder.iterdir())] == [1, 2, 3, 4, 5, 6, 7]
    assert all(np.isfinite(a).all() for a in lk.checkpoint.load_checkpoint(folder / "step_000000007").arrays.values())


@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_the_guard_names_the_exact_update_of_a_call_of_many(steps_per_execution):
    with pytest.raises(lk.NonFiniteLossError, match=r"update 3 \(epoch 0, batch 2\)"):
        fit(task=NaNAt(3), run_eagerly=False, steps_per_execution=steps_per_execution, log_every_n_steps=5)


def test_weights_that_are_not_finite_are_not_saved_either(root):
    """The gradient of update 4 is NaN, its loss is not; the epoch's last update, the next one, would show it."""
    saves = lk.ModelCheckpoint(None, save_top_k=0, every_n_steps=1, keep_last=99)
    with pytest.raises(lk.NonFiniteLossError, match=r"Expected finite weights. Received: .*kernel.* after update 4"):
        fit(root, NaNAt(4, gradient=True), [saves])
    folder = next(Path(root).glob("*/*/checkpoints"))
    assert [int(path.name[5:]) for path in sorted(folder.iterdir())] == [1, 2, 3]


# ---- what is shown


def test_the_summary_counts_parameters(capsys):
    class Unused(Classifier):
        def configure_model(self, data):
            super().configure_model(data)
            self.never_called = keras.layers.Dense(3, name="never")

    fit(task=Unused(), enable_model_summary=True, max_steps=1)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["│", "all", "│", "│", "│", "37", "│"] in lines  # (4 + 1) 5 + (5 + 1) 2
    assert any("never" in line and "0" in line for line in lines)


class Clock(lk.Callback):
    """A clock of its own: an update takes a twentieth of a second, validation and its callbacks 3 seconds."""

    now = 0.0

    def perf_counter(self):
        return self.now

    def time(self):
        return self.now

    def on_train_batch_begin(self, batch, logs=None):
        self.now += 0.05

    def on_test_end(self, logs=None):
        self.now += 3.0


def test_throughput_counts_updates_and_units_but_not_validation(monkeypatch):
    clock, recorder = Clock(), Recorder()
    monkeypatch.setattr("lightkeras.callbacks.throughput.time", clock)
    fit(callbacks=[clock, recorder], max_epochs=2, log_every_n_steps=2, val_check_interval=2)
    assert [record["step"] for record in recorder.logs] == [2, 4, 5, 6, 8, 10]
    assert [record["steps_per_second"] for record in recorder.logs] == pytest.approx(
        [20] * 6
    )  # not of the first update
    points = [8, 8, 5, 8, 8, 5]  # of the last update before each record: validation came just before it
    assert [record["examples_per_second"] for record in recorder.logs] == pytest.approx([20 * n for n in points])


# ---- signals


class Signals(lk.Callback):
    """Sends this process a signal at an update, or in validation."""

    def __init__(self, number, at=None, times=1, in_validation=False):
        super().__init__()
        self.number, self.at, self.times, self.in_validation = number, at, times, in_validation

    def _send(self):
        for _ in range(self.times):
            os.kill(os.getpid(), self.number)

    def on_train_batch_begin(self, batch, logs=None):
        if batch == self.at:
            self._send()

    def on_test_end(self, logs=None):
        if self.in_validation:
            self._send()


@pytest.mark.parametrize("number", Interrupt.SIGNALS)
def test_a_signal_ends_training_after_the_update_with_a_checkpoint(root, number, capsys):
    before = signal.getsignal(number)
    trainer = fit(root, callbacks=[Signals(number, at=2)])
    assert trainer.interrupted == number and signal.getsignal(number) == before
    assert [path.name for path in (trainer.run_dir / "checkpoints").iterdir()] == ["step_000000003"]
    said = capsys.readouterr().out
    assert f"Interrupted by {signal.Signals(number).name} after update 3. Resume it with ckpt_path=" in said
    assert trainer.history.epoch == []


def test_a_second_signal_ends_at_once(root):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(root, callbacks=[Signals(signal.SIGINT, at=1, times=2)])
    assert signal.getsignal(signal.SIGINT) == before and not list(Path(root).glob("*/*/checkpoints"))


def test_a_scheduler_may_repeat_itself(root):
    """Slurm and `lightkeras launch` send SIGTERM again, perhaps while the first worker still saves."""
    trainer = fit(root, callbacks=[Signals(signal.SIGTERM, at=1, times=2)])
    assert trainer.interrupted == signal.SIGTERM
    assert [path.name for path in (trainer.run_dir / "checkpoints").iterdir()] == ["step_000000002"]


def test_a_signal_in_the_last_validation_is_not_lost(root):
    trainer = fit(root, callbacks=[Signals(signal.SIGINT, in_validation=True)])
    assert trainer.interrupted == signal.SIGINT and trainer.history.epoch == [0]
    assert fit(root).interrupted is None


# ---- the list


def test_evaluation_and_prediction_call_the_users_callbacks():
    calls = []

    class Tests(keras.callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            calls.append(("test", batch, sorted(logs)))

        def on_predict_batch_end(self, batch, logs=None):
            calls.append(("predict", batch, logs["outputs"].shape))

    task = Classifier()
    trainer = fit(task=task)
    trainer = quiet(callbacks=[Tests(), lk.callbacks.Throughput(), lk.EarlyStopping()])
    trainer.test(task, PointsData())
    trainer.predict(task, PointsData())
    assert calls[:3] == [("test", batch, ["accuracy", "loss"]) for batch in range(3)]
    assert calls[3:] == [("predict", batch, (4, 2)) for batch in range(3)]


def test_a_callback_records_its_arguments():
    assert lk.EarlyStopping("loss", patience=7).init_args == {
        "monitor": "loss", "mode": "min", "patience": 7, "min_delta": 0.0,
    }  # fmt: skip


def test_restored_keras_early_stopping_says_what_it_lacks(root):
    def stopping(**arguments):
        return keras.callbacks.EarlyStopping("val_loss", **arguments)

    fit(root, callbacks=[stopping()])
    trainer = quiet(root, max_epochs=2, run_eagerly=True, callbacks=[stopping(restore_best_weights=True)])
    with pytest.warns(UserWarning, match="kept no weights before the resume"):
        trainer.fit(Classifier(), PointsData(), ckpt_path="last")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(root, callbacks=[stopping()])
