"""Moving averages of the weights: their values, where they are used, and that they are saved and resumed."""

import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.small import Small, in_order, linear, made, points, squares, updated
from helpers.stopping import At, Killed, interrupt, kill
from helpers.toys import Classifier, PointsData, Recorder, quiet

import lightkeras as lk
from lightkeras import checkpoint as files

X = {"x": np.eye(3, dtype=np.float32), "y": np.zeros(3, np.float32)}  # the gradient of weight i is w_i / 3


def averaging(momentum=0.5, learning_rate=1.5, **arguments):
    return keras.optimizers.SGD(learning_rate, use_ema=True, ema_momentum=momentum, **arguments)


def pair(task, name="loss") -> tuple[np.ndarray, np.ndarray]:
    """A linear model's weights and their averages, (3,) each."""
    weight, average = (task.state_variables()[n] for n in next(iter(task.average_names().items())))
    return np.asarray(weight).copy()[:, 0], np.asarray(average).copy()[:, 0]


class Averaged(Classifier):
    """The toy with averages; keeps what it is when it writes samples."""

    def configure_optimizers(self):
        return keras.optimizers.Adam(self.hparams["learning_rate"], use_ema=True, ema_momentum=0.8)

    def write_samples(self, folder, name):
        (folder / f"{name}.txt").write_text(repr(kernel(self).tolist()))


def kernel(task) -> np.ndarray:
    return np.asarray(task.trainable_variables[0]).copy()


def raw_and_average(run) -> tuple[np.ndarray, np.ndarray]:
    """The first weight and its average in the last checkpoint of a run."""
    saved = lk.checkpoint.load_checkpoint(files.latest_checkpoint(run / "checkpoints"))
    weight, average = next(iter(saved.state["averages"].items()))
    return saved.arrays[weight], saved.arrays[average]


# ---- the values


@pytest.mark.parametrize("cut", [{}, {"steps_per_execution": 3}, {"run_eagerly": True}])
def test_averages_by_hand(cut):
    task = made(Small(linear(), squares, averaging), in_order(X))
    weights, averages = pair(task)
    np.testing.assert_array_equal(averages, weights)  # they begin at the weights: [0.1, 0.2, 0.3]
    updated(task, in_order({k: np.concatenate([v] * 3) for k, v in X.items()}, 3), 3, **cut)
    weights, averages = pair(task)  # each update halves the weights: 1, then 1/2, 1/4, 1/8
    np.testing.assert_allclose(weights, [0.0125, 0.025, 0.0375], rtol=1e-6)
    # 1/2 after the first update, as in Keras; (1/2 + 1/4) / 2 = 3/8; (3/8 + 1/8) / 2 = 1/4
    np.testing.assert_allclose(averages, [0.025, 0.05, 0.075], rtol=1e-6)


def test_averages_are_keras_own():
    ours = made(Small(linear(), squares, lambda: averaging(0.9)), in_order(X))
    updated(ours, in_order({k: np.concatenate([v] * 5) for k, v in X.items()}, 3), 5)
    theirs = keras.Sequential([linear()()["network"]])
    theirs.compile(averaging(0.9), loss=lambda y, p: tf.reduce_sum(0.5 * (p[:, 0] - y[:, 0]) ** 2) / 3)
    theirs.fit(X["x"], X["y"], epochs=5, batch_size=3, verbose=0)  # the averages are its weights then
    np.testing.assert_allclose(pair(ours)[1], np.asarray(theirs.weights[0])[:, 0], rtol=1e-6)


def test_two_replicas_are_one():
    one, two = (made(Small(linear(), squares, averaging), in_order(points()), devices) for devices in (1, 2))
    data = in_order({k: np.concatenate([v] * 4) for k, v in points().items()}, 8)
    for task in (one, two):
        updated(task, data, 4, steps_per_execution=4)
    np.testing.assert_allclose(pair(two), pair(one), rtol=1e-6)
    average = two.optimizers["loss"]._model_variables_moving_average[0].value
    first, second = (part.numpy() for part in two.distribute_strategy.experimental_local_results(average))
    np.testing.assert_array_equal(first, second)
    raw, of_average = pair(two)
    with two.averaged_weights():
        parts = two.distribute_strategy.experimental_local_results(two.trainable_variables[0].value)
        for part in parts:
            np.testing.assert_array_equal(part.numpy()[:, 0], of_average)
    np.testing.assert_array_equal(kernel(two)[:, 0], raw)


# ---- several optimizers


def two_networks():
    return {"first": linear()()["network"], "second": linear()()["network"]}


def both(task, batch, training):
    def loss(network):
        return tf.reduce_sum(0.5 * tf.square(network(batch["x"])[:, 0])), tf.reduce_sum(batch["weight"])

    return {"first_loss": loss(task.first), "second_loss": loss(task.second)}


def test_only_the_optimizer_that_asks_for_it():
    optimizers = lambda: {"first": averaging(), "second": keras.optimizers.SGD(1.5)}  # noqa: E731
    task = made(Small(two_networks, both, optimizers), in_order(X))
    updated(task, in_order({k: np.concatenate([v] * 2) for k, v in X.items()}, 3), 2)
    assert len(task.average_names()) == 1
    of_second = np.asarray(task.second.kernel).copy()
    with task.averaged_weights():
        np.testing.assert_allclose(np.asarray(task.first.kernel)[:, 0], [0.0375, 0.075, 0.1125], rtol=1e-6)  # 3/8
        np.testing.assert_array_equal(np.asarray(task.second.kernel), of_second)
    task.optimizers.finish_averages()
    np.testing.assert_allclose(np.asarray(task.first.kernel)[:, 0], [0.0375, 0.075, 0.1125], rtol=1e-6)
    np.testing.assert_allclose(np.asarray(task.second.kernel)[:, 0], [0.025, 0.05, 0.075], rtol=1e-6)  # 1/4


class SharedBoth(Small):
    def optimizer_variables(self, name):
        return self.first.trainable_variables


def test_a_weight_has_one_average_at_most():
    shared = lambda *args: dict.fromkeys(("a_loss", "b_loss"), both(*args)["first_loss"])  # noqa: E731
    with pytest.raises(ValueError, match=r"Expected `use_ema` to be True of one optimizer alone for a weight.*kernel"):
        made(SharedBoth(two_networks, shared, lambda: {"a": averaging(), "b": averaging()}), in_order(X))


def test_overwriting_is_refused():
    with pytest.raises(ValueError, match=r"without ema_overwrite_frequency.*=100"):
        made(Small(linear(), squares, lambda: averaging(ema_overwrite_frequency=100)), in_order(X))


def test_keras_own_callbacks_are_refused():
    with pytest.raises(ValueError, match="Expected `callbacks` of a task to be without SwapEMAWeights"):
        quiet(callbacks=[keras.callbacks.SwapEMAWeights()]).fit(Classifier(), PointsData())
    with pytest.raises(ValueError, match="Expected `callbacks` to be without BackupAndRestore, which would undo"):
        lk.Trainer(callbacks=[keras.callbacks.BackupAndRestore("backup")])


# ---- the exchange


def test_the_exchange_is_exact_and_undone():
    task = made(Small(linear(), squares, averaging), in_order(X))
    updated(task, in_order(X), 1)
    task.optimizers["loss"]._model_variables_moving_average[0].assign([[1e-30], [1e30], [1 / 3]])
    raw, average = pair(task)
    with task.averaged_weights():
        np.testing.assert_array_equal(kernel(task)[:, 0], average)
        with task.averaged_weights():  # within itself: no exchange back
            np.testing.assert_array_equal(kernel(task)[:, 0], average)
        np.testing.assert_array_equal(pair(task), [raw, average])  # a checkpoint saved here is as one saved outside
    np.testing.assert_array_equal(kernel(task)[:, 0], raw)
    np.testing.assert_array_equal(pair(task), [raw, average])
    with pytest.raises(KeyboardInterrupt), task.averaged_weights():
        raise KeyboardInterrupt
    np.testing.assert_array_equal(pair(task), [raw, average])
    np.testing.assert_array_equal(kernel(task)[:, 0], raw)


# ---- a whole run


def test_validation_samples_and_what_is_loaded_are_averaged(root):
    task, recorder, seen = Averaged(), Recorder(), []
    trainer = quiet(root, max_epochs=2, log_every_n_steps=2, callbacks=[recorder])
    see = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(kernel(task)), on_train_end=lambda logs: seen.append(kernel(task))
    )
    trainer.callbacks.append(see)
    trainer.fit(task, PointsData())
    raw, average = raw_and_average(trainer.run_dir)
    assert np.abs(raw - average).max() > 1e-3
    np.testing.assert_array_equal(seen[1], raw)  # callbacks see the weights themselves
    np.testing.assert_array_equal(seen[2], raw)
    assert (trainer.run_dir / "samples" / "epoch_0002.txt").read_text() == repr(average.tolist())
    np.testing.assert_array_equal(kernel(task), average)  # after fit
    last = recorder.validations[-1]["val_loss"]
    assert trainer.validate(task, PointsData())["val_loss"] == pytest.approx(last, rel=1e-6)

    loaded = lk.TaskModule.load_from_checkpoint(trainer.run_dir / "checkpoints" / "step_000000010")
    np.testing.assert_array_equal(kernel(loaded), average)
    again = quiet(root)
    best = min(record["val_loss"] for record in recorder.validations)
    assert again.validate(Averaged(), PointsData(), "best")["val_loss"] == pytest.approx(best, rel=1e-6)
    first = trainer.run_dir / "checkpoints" / "step_000000005"  # of a task that has optimizers and other averages
    value = again.validate(task, PointsData(), str(first))["val_loss"]
    assert value == pytest.approx(recorder.validations[0]["val_loss"], rel=1e-6)
    with task.averaged_weights():
        assert again.validate(task, PointsData())["val_loss"] == value


def test_validation_is_not_of_the_raw_weights(root):
    """Two runs that differ in the averages alone have the same losses and other validations."""
    plain, averaged = Recorder(), Recorder()
    quiet(callbacks=[plain], max_epochs=1).fit(Classifier(), PointsData())
    quiet(callbacks=[averaged], max_epochs=1).fit(Averaged(), PointsData())
    assert plain.logs[-1]["loss"] == averaged.logs[-1]["loss"]
    assert plain.validations[-1]["val_loss"] != averaged.validations[-1]["val_loss"]


class Fails(Averaged):
    def test_step(self, batch):
        sums = super().test_step(batch)
        return {**sums, "loss": (tf.py_function(self._fail, [sums["loss"][0]], tf.float32), sums["loss"][1])}

    def _fail(self, value):
        if self.failing:
            raise RuntimeError("in validation")
        return value


def test_an_error_in_validation_leaves_the_weights_themselves():
    class Look(lk.Callback):
        def on_log(self, record):
            self.raw = kernel(self.model)

    task, look = Fails(), Look()
    task.failing = True
    with pytest.raises(tf.errors.UnknownError, match="in validation"):
        quiet(max_epochs=1, log_every_n_steps=5, callbacks=[look]).fit(task, PointsData())
    np.testing.assert_array_equal(kernel(task), look.raw)
    assert np.abs(look.raw - np.asarray(task.optimizers["loss"]._model_variables_moving_average[0])).max() > 1e-3


def test_a_stopped_run_goes_on_to_the_same_bits(root):
    setting = {"max_epochs": 2, "log_every_n_steps": 2, "val_check_interval": 3, "deterministic": True}

    def run(ckpt_path=None, *stop):
        recorder = Recorder()
        trainer = quiet(root, **setting, callbacks=[recorder, *stop])
        trainer.fit(Averaged(dropout=0.4), PointsData(), ckpt_path)
        assert trainer.interrupted == (signal.SIGINT if stop else None)
        saved = lk.checkpoint.load_checkpoint(files.latest_checkpoint(trainer.run_dir / "checkpoints"))
        return saved.arrays, recorder.validations

    arrays, validations = run()
    run(None, At(7, interrupt))
    resumed, later = run("last")
    for name, array in arrays.items():
        np.testing.assert_array_equal(resumed[name], array, err_msg=name)
    assert len(later) == 2 and later == validations[-2:]


# ---- callbacks that keep the best weights


class WorseAndWorse(PointsData):
    """Validation data with the labels exchanged: the first epoch is the best."""

    def val_dataset(self):
        return lk.AddressedDataset.from_arrays({"x": self.x[:10], "y": 1 - self.y[:10]}, 4, shuffle=False)


def test_the_best_epochs_averages_are_restored(tmp_path):
    stop = keras.callbacks.EarlyStopping("val_loss", mode="min", patience=2, restore_best_weights=True)
    path = str(tmp_path / "best.keras")
    keep = keras.callbacks.ModelCheckpoint(path, monitor="val_loss", mode="min", save_best_only=True)
    task, data = Averaged(), WorseAndWorse()
    told = quiet(max_epochs=9, callbacks=[stop, keep]).fit(task, data).history["val_loss"]
    assert len(told) == 3 and min(told) == told[0] < told[-1]
    assert quiet().validate(task, data)["val_loss"] == told[0]
    assert quiet().validate(keras.models.load_model(path), data)["val_loss"] == told[0]


def test_the_best_weights_outlive_a_kill(tmp_path):
    def train(root, killer=(), **resumed):
        stop = keras.callbacks.EarlyStopping("val_loss", mode="min", patience=3, restore_best_weights=True)
        task = Averaged()
        quiet(root, max_epochs=9, run_eagerly=True, callbacks=[stop, *killer]).fit(task, WorseAndWorse(), **resumed)
        return stop, task.get_weights()

    whole, expected = train(tmp_path / "whole")
    with pytest.raises(Killed):
        train(tmp_path / "cut", killer=[At(12, kill)])  # in the third epoch of four
    stop, weights = train(tmp_path / "cut", ckpt_path="last")
    assert (stop.best_epoch, stop.wait, stop.stopped_epoch) == (whole.best_epoch, whole.wait, whole.stopped_epoch)
    assert all(map(np.array_equal, weights, expected)) and whole.best_epoch == 0


def test_weights_that_a_callback_sets_at_the_end_stay():
    class Zero(lk.Callback):
        def on_train_end(self, logs=None):
            self.model.set_weights([np.zeros_like(weight) for weight in self.model.get_weights()])

    task = Averaged()
    quiet(max_steps=3, callbacks=[Zero()]).fit(task, PointsData())
    assert not any(weight.any() for weight in task.get_weights())
