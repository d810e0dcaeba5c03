"""Keras' metrics as attributes of a task, beside the same metrics updated by hand on the whole data at once."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.resuming import outcome
from helpers.small import Small, in_order, made, updated
from helpers.stopping import At, Killed, kill
from helpers.toys import Classifier, PointsData, Recorder, quiet

import lightkeras as lk

SIZE = 21  # in batches of 8: the last one is short, and padded


class Specificity(keras.metrics.Metric):
    """True negatives and negatives, in a layout of its own; it ignores weights."""

    def __init__(self, name="specificity"):
        super().__init__(name=name)
        self.counts = self.add_variable((2,), "zeros", dtype="int32")

    def update_state(self, y_true, y_pred, sample_weight=None):
        negative = tf.cast(y_true, tf.int32) == 0
        both = [negative & (y_pred < 0.5), negative]
        self.counts.assign_add(tf.stack([tf.reduce_sum(tf.cast(flags, tf.int32)) for flags in both]))

    def result(self):
        return self.counts[0] / self.counts[1]


def metrics():
    """The metrics by attribute: attributes, a list and a dict."""
    return {
        "auc": keras.metrics.AUC(name="auc"),
        "some": [keras.metrics.F1Score(average=None, name="f1_score"), keras.metrics.Mean(name="mean_x")],
        "others": {"iou": keras.metrics.MeanIoU(2, name="iou"), "own": Specificity()},
        "scalar": keras.metrics.Mean(name="scalar"),
        "absent": keras.metrics.Precision(name="precision"),
    }


def update(task, x, y, p, rows):
    """Updates all metrics but one."""
    task.auc.update_state(y, p)
    task.some[0].update_state(tf.stack([1 - y, y], axis=1), tf.stack([1 - p, p], axis=1))
    task.some[1].update_state(x, sample_weight=rows)
    task.others["iou"].update_state(y, tf.cast(p > 0.5, tf.int32))
    task.others["own"].update_state(y, p)


def examples():
    numbers = np.random.default_rng(3)
    x = numbers.normal(size=(SIZE, 3)).astype("float32")
    return {"x": x, "y": (x.sum(axis=1) + numbers.normal(size=SIZE) > 0).astype("float32")}


def network():
    return keras.layers.Dense(1, "sigmoid", kernel_initializer=keras.initializers.Constant([[0.9], [0.3], [0.2]]))


def losses_of(task, batch, training):
    p = task.network(batch["x"])[:, 0]
    update(task, batch["x"], batch["y"], p, batch["weight"])
    weight = batch["weight"]
    mean = tf.math.divide_no_nan(tf.reduce_sum(p * weight), tf.reduce_sum(weight))
    task.scalar.update_state(mean)  # of the rows of this part
    return keras.losses.binary_crossentropy(batch["y"][:, None], p[:, None])


@functools.cache
def expected():
    """The results on all of the data, by Keras alone."""

    class Plain:
        pass

    plain, data = Plain(), examples()
    for name, metric in metrics().items():
        setattr(plain, name, metric)
    p = keras.ops.convert_to_numpy(network()(data["x"]))[:, 0]
    update(plain, data["x"], data["y"], p, None)
    f1, mean = plain.some
    found = {"auc": plain.auc, "f1_score_0": f1, "f1_score_1": f1, "mean_x": mean, "iou": plain.others["iou"]}
    values = {name: np.asarray(metric.result()) for name, metric in found.items()}
    values |= {"f1_score_0": values["f1_score_0"][0], "f1_score_1": values["f1_score_1"][1]}
    values |= {"specificity": plain.others["own"].result(), "scalar": p.mean()}
    return {name: float(value) for name, value in values.items()}


CUTS = {
    "whole": {},
    "eager": {"run_eagerly": True},
    "xla": {"jit_compile": True},
    "4 micro-batches": {"micro_batches": 4},
    "2 replicas, 2 micro-batches": {"devices": 2, "micro_batches": 2},
}


def layers():
    return {"network": network(), **metrics()}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_metrics_are_exact_however_the_run_is_cut(cut):
    how = {name: cut[name] for name in ("run_eagerly", "jit_compile") if name in cut}
    data = in_order(examples(), 8)
    frozen = lambda: keras.optimizers.SGD(0.0)  # noqa: E731
    task = made(Small(layers, losses_of, frozen), data, **{name: cut[name] for name in cut if name not in how})
    assert [metric.name for metric in task.metrics] == [
        "auc", "f1_score", "mean_x", "iou", "specificity", "scalar", "precision",
    ]  # fmt: skip
    logs = dict(updated(task, data, 3, steps_per_execution=2, **how))
    assert {name: logs[name] for name in expected()} == pytest.approx(expected(), rel=1e-6)
    assert set(logs) == {*expected(), "loss"} and float(task.auc.result()) == pytest.approx(expected()["auc"], rel=1e-6)
    if cut in (CUTS["whole"], CUTS["xla"]):
        return
    results = task.evaluate(examples(), batch_size=4, verbose=0, return_dict=True)
    assert {name: results[name] for name in expected()} == pytest.approx(expected(), rel=1e-6)
    assert task.metrics_names[0] == "loss" and set(task.metrics_names) == {*expected(), "loss"}


# ---- in runs


class Scored(Classifier):
    """The toy with dropout, an AUC of both stages, a metric of each, and one in a layer."""

    def __init__(self, dropout: float = 0.3):
        super().__init__(dropout=dropout)
        self.auc = keras.metrics.AUC(num_thresholds=20)

    def configure_model(self, data):
        super().configure_model(data)
        self.in_training, self.in_validation = keras.metrics.Mean(name="confidence"), Specificity()
        self.network.add(Counting())

    def losses_of(self, batch, training):
        logits = self.network(batch["x"], training=training)
        p = tf.nn.softmax(logits)[:, 1]
        self.auc.update_state(batch["y"], p)
        if training:
            self.in_training.update_state(tf.reduce_max(tf.nn.softmax(logits), axis=1))
        else:
            self.in_validation.update_state(batch["y"], p)
        return keras.losses.sparse_categorical_crossentropy(batch["y"], logits, from_logits=True)


class Counting(keras.layers.Layer):
    """Counts the rows that pass."""

    def __init__(self):
        super().__init__()
        self.seen = keras.metrics.Sum(name="seen")

    def call(self, x):
        self.seen.update_state(tf.ones_like(x[:, 0]))
        return x


FITTED = {"max_epochs": 3, "val_check_interval": 2, "log_every_n_steps": 1, "deterministic": True}
NAMES = {"loss", "auc", "confidence", "seen", "val_loss", "val_auc", "val_specificity", "val_seen"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 15 updates, validated after updates 2 and 4 of each epoch and at its end."""
    root, recorder = tmp_path_factory.mktemp("whole"), Recorder()
    trainer = quiet(root, **FITTED, callbacks=[recorder, lk.ModelCheckpoint("val_auc")])
    trainer.fit(Scored(), PointsData())
    return trainer, recorder


def test_metrics_are_logged_in_training_and_validation(whole):
    trainer, recorder = whole
    assert set(recorder.logs[0]) >= {"loss", "auc", "confidence", "seen"} and set(trainer.callback_metrics) >= NAMES
    assert {*trainer.history.history} >= NAMES
    rows = (trainer.run_dir / "metrics.csv").read_text(encoding="utf-8").splitlines()
    assert set(rows[0].split(",")) >= NAMES
    assert [record["seen"] for record in recorder.logs] == [8, 16, 24, 32, 37] * 3  # of the epoch so far
    assert {record["val_seen"] for record in recorder.validations} == {10} and len(recorder.validations) == 9
    assert trainer.callback_metrics["seen"] == 37


def test_a_validation_within_an_epoch_does_not_disturb_training(whole):
    recorder, alone = whole[1], Recorder()
    quiet(**{**FITTED, "val_check_interval": 1.0}, callbacks=[alone]).fit(Scored(), PointsData())
    assert [r["auc"] for r in alone.logs] == [r["auc"] for r in recorder.logs]
    assert [r["val_auc"] for r in alone.validations] == [r["val_auc"] for r in recorder.validations][2::3]


@pytest.mark.parametrize("stop", [3, 7])
def test_a_run_resumed_within_an_epoch_ends_with_the_same_bits(whole, tmp_path, stop):
    stopped = quiet(tmp_path, **FITTED, checkpoint_every_n_steps=1, callbacks=[At(stop, kill)])
    with pytest.raises(Killed):
        stopped.fit(Scored(), PointsData())
    resumed = quiet(tmp_path, **FITTED)
    resumed.fit(Scored(), PointsData(), ckpt_path="last")
    ours, theirs = outcome(resumed.run_dir), outcome(whole[0].run_dir)
    assert ours["arrays"].keys() == theirs["arrays"].keys()
    for name, array in theirs["arrays"].items():
        np.testing.assert_array_equal(ours["arrays"][name], array, err_msg=name)
    assert ours["rows"] == theirs["rows"]
    assert resumed.history.history["auc"][-1] == whole[0].history.history["auc"][-1]


def test_callbacks_of_keras_find_names_and_directions():
    early = keras.callbacks.EarlyStopping("val_auc", patience=0)
    later = keras.callbacks.ReduceLROnPlateau("val_specificity")
    trainer = quiet(max_epochs=1, callbacks=[early, later])
    trainer.fit(Scored(), PointsData(size=8))
    assert early.mode == later.mode == "max" and early.best == trainer.callback_metrics["val_auc"]


def simply(update, **attributes):
    """A task whose loss function calls `update(task, batch)`, with metrics as attributes."""

    def losses(task, batch, training):
        update(task, batch)
        return tf.square(task.network(batch["x"])[:, 0])

    return Small(lambda: {"network": network(), **{name: make() for name, make in attributes.items()}}, losses)


def test_outside_of_steps_the_methods_are_those_of_the_loop_that_ran_last():
    task = simply(lambda task, batch: task.mean.update_state(batch["y"]), mean=lambda: keras.metrics.Mean(name="m"))
    data = in_order({"x": np.ones((2, 3), np.float32), "y": np.array([2.0, 4.0], np.float32)})
    updated(made(task, data), data)
    assert float(task.mean.result()) == 3 and task.get_metrics_result() == {"m": 3}
    task.mean.update_state([9.0])
    assert float(task.mean.result()) == 5 and task.train_sums.results(task.train_sums.values.numpy())["m"] == 5
    task.mean.reset_state()
    assert float(task.mean.result()) == 0


def test_an_update_that_float16_skips_leaves_no_infinity_in_a_metric():
    def losses(task, batch, training):
        outputs = task.network(batch["x"])[:, 0]
        task.mean.update_state(outputs)
        return outputs * outputs

    def layers():
        dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", dtype="mixed_float16")
        return {"network": dense, "mean": keras.metrics.Mean(name="mean")}

    data = in_order({"x": np.array([[1.0], [3.0], [np.inf], [1.0]], np.float32)}, 2)
    logs = updated(made(Small(layers, losses, lambda: keras.optimizers.SGD(0.0)), data), data, 2)
    assert (logs["mean"], logs["loss"]) == (2, 5)


class Hidden(keras.metrics.Metric):
    def __init__(self):
        super().__init__(name="hidden")
        self.total = tf.Variable(0.0)

    def update_state(self, values):
        self.total.assign_add(tf.reduce_sum(values))

    def result(self):
        return self.total


class Latest(keras.metrics.Metric):
    """The last value: right on one device, whatever the parts are."""

    def __init__(self):
        super().__init__(name="latest")
        self.value = self.add_variable((), "zeros", aggregation="none")

    def update_state(self, values):
        self.value.assign(values[-1])

    def result(self):
        return {"latest": self.value, "twice": 2 * self.value}


def test_a_metric_of_ones_own_may_keep_what_does_not_add_up():
    task = simply(lambda task, batch: task.latest.update_state(batch["y"]), latest=Latest)
    data = in_order({"x": np.ones((4, 3), np.float32), "y": np.array([2.0, 4.0, 3.0, 7.0], np.float32)})
    logs = updated(made(task, data, micro_batches=2), data)
    assert (logs["latest"], logs["twice"]) == (7, 14)


@pytest.mark.parametrize(
    "update, attributes, cut, message",
    [
        (lambda t, b: t.a.update_state(b["y"]), {"a": Hidden}, {}, r"'hidden' .*`add_variable` made.*self\.total"),
        (lambda t, b: t.a.update_state(b["y"]), {"a": Latest}, {"devices": 2}, r'"sum".*: variable\w*, which'),
        (lambda t, b: t.a.reset_state(), {"a": Specificity}, {}, "`reset_state` of 'specificity' within a step"),
        (
            lambda t, b: [one.update_state(b["y"]) for one in (t.a, t.b)],
            {"a": keras.metrics.Mean, "b": keras.metrics.Mean}, {}, "a name of its own.*mean more than once",
        ),
        (
            lambda t, b: t.a.update_state(b["y"]), {"a": lambda: keras.metrics.Mean(name="loss")}, {},
            "a name of its own.*loss more than once",
        ),
    ],
)  # fmt: skip
def test_metrics_that_cannot_be_right_are_refused_before_training(update, attributes, cut, message):
    with pytest.raises(ValueError, match=message):
        made(simply(update, **attributes), in_order(examples(), 8), **cut)


def test_a_metric_updated_in_predict_step_is_refused():
    class Predicting(Scored):
        def predict_step(self, batch):
            self.auc.update_state(batch["y"], batch["x"][:, 0])
            return super().predict_step(batch)

    trainer, task = quiet(max_epochs=1), Predicting()
    trainer.fit(task, PointsData(size=8))
    with pytest.raises(ValueError, match=r"loss function, `train_step` or `test_step`.*of 'auc' in `predict_step`"):
        task.predict({"x": np.ones((2, 4), np.float32), "y": np.ones(2, np.int32)}, verbose=0)
    del Predicting.predict_step  # the layer's metric is left alone
    task.predict_function = None
    assert task.predict({"x": np.ones((2, 4), np.float32)}, verbose=0).shape == (2, 2)
    assert task.get_metrics_result()["seen"] == 8
