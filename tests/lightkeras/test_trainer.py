"""Every argument of the Trainer: what it does, and what it refuses."""

import datetime
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.toys import Classifier, PointsData, Recorder, quiet, weights

import lightkeras as lk
from lightkeras.trainer_arguments import SWITCHES

STEPS = 5  # updates of an epoch: 37 points, 8 in a batch


def fitted(root=None, task=None, data=None, **arguments):
    """(trainer, task, recorder) after a fit, step by step unless the arguments say otherwise."""
    recorder = Recorder()
    task = task or Classifier()
    arguments = {"run_eagerly": True, "max_epochs": 1, "log_every_n_steps": 1, **arguments}
    arguments["callbacks"] = [*arguments.get("callbacks", ()), recorder]
    trainer = quiet(root, **arguments)
    trainer.fit(task, data or PointsData())
    return trainer, task, recorder


def steps_of(records) -> list[int]:
    return [record["step"] for record in records]


# ---- bad values and conflicts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_epochs": 0}, r"`max_epochs` to be a positive int or None. Received: max_epochs=0"),
        ({"max_epochs": -1}, "`max_epochs` to be a positive int"),
        ({"max_epochs": 1.5}, "`max_epochs` to be a positive int"),
        ({"max_steps": 0}, "`max_steps` to be a positive int or None"),
        ({"max_time": "1:00"}, "`max_time` to be \"DD:HH:MM:SS\". Received: max_time='1:00'"),
        ({"max_time": {"hour": 1}}, "`max_time` to be a dict with days, hours, minutes, seconds, weeks"),
        ({"max_time": 5}, "`max_time` to be"),
        ({"max_time": datetime.timedelta(0)}, "`max_time` to be longer than 0 seconds"),
        ({"devices": 0}, '`devices` to be a positive int, a list of distinct indices or "auto". Received: devices=0'),
        ({"devices": []}, "`devices` to be"),
        ({"devices": [0, 0]}, "`devices` to be"),
        ({"devices": "two"}, "`devices` to be"),
        ({"strategy": "ddp"}, "`strategy` to be one of 'auto', 'mirrored'"),
        ({"devices": 2, "strategy": tf.distribute.get_strategy()}, '`devices` to be "auto" beside a `tf.distribute'),
        ({"precision": "64"}, "`precision` to be one of"),
        ({"micro_batches": 0}, "`micro_batches` to be a positive int"),
        ({"gradient_clip_val": 0}, "`gradient_clip_val` to be a number above 0 or None"),
        ({"gradient_clip_algorithm": "nrom"}, 'Did you mean "norm"'),
        (
            {"gradient_clip_algorithm": "value"},
            '`gradient_clip_val` to be a number with gradient_clip_algorithm="value"',
        ),
        ({"seed": -1}, "`seed` to be a non-negative int or None"),
        ({"jit_compile": "yes"}, '`jit_compile` to be True, False or "auto"'),
        ({"jit_compile": True, "run_eagerly": True}, "`run_eagerly` to be False with jit_compile=True"),
        ({"steps_per_execution": 0}, "`steps_per_execution` to be a positive int"),
        ({"callbacks": [lk.EarlyStopping]}, "`callbacks` to be a list of keras.callbacks.Callback objects"),
        ({"callbacks": lk.EarlyStopping()}, "`callbacks` to be a list of keras.callbacks.Callback objects"),
        (
            {"callbacks": [lk.ModelCheckpoint()], "enable_checkpointing": False},
            "`callbacks` to be without a ModelCheckp",
        ),
        ({"default_root_dir": 5}, "`default_root_dir` to be a path"),
        ({"fast_dev_run": -1}, "`fast_dev_run` to be True, False or a number of batches"),
        ({"fast_dev_run": "yes"}, "`fast_dev_run` to be"),
        ({"overfit_batches": -1}, "`overfit_batches` to be a number of batches"),
        ({"overfit_batches": 1, "limit_train_batches": 2}, "`limit_train_batches` to be 1.0 with overfit_batches"),
        ({"overfit_batches": 1, "limit_val_batches": 2}, "`limit_val_batches` to be 1.0 with overfit_batches"),
        ({"limit_train_batches": 0}, r"`limit_train_batches` to be .* not 0. Received: limit_train_batches=0"),
        ({"limit_train_batches": 1.5}, r"a share of them \(float up to 1.0\)"),
        ({"limit_train_batches": True}, "`limit_train_batches` to be"),
        ({"limit_val_batches": -1}, "`limit_val_batches` to be .* 0 for none"),
        ({"limit_test_batches": 0}, "`limit_test_batches` to be .* not 0"),
        ({"val_check_interval": 0}, "`val_check_interval` to be .* not 0"),
        ({"num_sanity_val_steps": -1}, "`num_sanity_val_steps` to be a non-negative int"),
        ({"log_every_n_steps": 0}, "`log_every_n_steps` to be a positive int"),
        *(({name: 2}, f"`{name}` to be True or False. Received: {name}=2") for name in SWITCHES),
    ],
)
def test_what_cannot_work_is_refused_at_construction(arguments, message):
    with pytest.raises((ValueError, TypeError), match=f"Expected .*{message}"):
        lk.Trainer(**arguments)


class NoDataYet(PointsData):
    """Fails if it is asked for anything."""

    def prepare_data(self):
        raise AssertionError("the data was read")


def test_what_this_machine_has_not_is_refused_before_the_data_is_read():
    with pytest.raises(ValueError, match=r"`devices` to be at most 2 .2 present: .*CPU:0.* Received: devices=3"):
        quiet(devices=3).fit(Classifier(), NoDataYet())
    with pytest.raises(ValueError, match="`devices` to be indices below 2"):
        quiet(devices=[0, 2]).fit(Classifier(), NoDataYet())
    with pytest.raises(ValueError, match='`jit_compile` to be False or "auto" on several devices'):
        quiet(devices=2, jit_compile=True).fit(Classifier(), NoDataYet())


def test_task_and_data_must_be_such():
    with pytest.raises(TypeError, match="`task` to be a TaskModule"):
        quiet().fit(keras.layers.Dense(1), PointsData())
    with pytest.raises(TypeError, match="`data` to be a DataModule, arrays"):
        quiet().fit(Classifier(), 7)


def test_what_the_run_shows_to_be_wrong_is_refused_before_training(root):
    for arguments, message in [
        ({"micro_batches": 3}, "`batch_size` to be a multiple of 3 .replicas x micro_batches., such as 6 or 9"),
        ({"val_check_interval": 6}, "`val_check_interval` to be at most 5, the updates of an epoch. Received: .*=6"),
        (
            {"callbacks": [lk.EarlyStopping("val_los")]},
            "`monitor` of EarlyStopping to be one of loss, accuracy, learning_rate, val_loss, val_accuracy. "
            "Received: monitor='val_los'. Did you mean \"val_loss\"",
        ),
        ({"callbacks": [keras.callbacks.EarlyStopping("acuracy", mode="max")]}, 'Did you mean "accuracy"'),
    ]:
        recorder = Recorder()
        arguments = {**arguments, "callbacks": [*arguments.get("callbacks", ()), recorder]}
        with pytest.raises(ValueError, match=message):
            quiet(root, run_eagerly=True, max_epochs=1, **arguments).fit(Classifier(), PointsData())
        assert not recorder.logs


# ---- how long


def test_epochs_and_steps_end_a_run_whichever_comes_first():
    trainer, task, recorder = fitted(max_epochs=2)
    assert task.global_step == task.total_steps == 2 * STEPS and trainer.history.epoch == [0, 1]
    assert steps_of(recorder.validations) == [5, 10]
    _, task, recorder = fitted(max_epochs=2, max_steps=7)
    assert task.global_step == task.total_steps == 7 and steps_of(recorder.validations) == [5, 7]
    _, task, _ = fitted(max_epochs=None, max_steps=3, steps_per_execution=10, run_eagerly=False)
    assert task.global_step == 3


class Wait(lk.Callback):
    def on_train_batch_end(self, batch, logs=None):
        time.sleep(0.05)


@pytest.mark.parametrize("max_time", ["00:00:00:01", {"seconds": 1}, datetime.timedelta(seconds=1)])
def test_max_time_ends_a_run(max_time):
    began = time.monotonic()
    _, task, recorder = fitted(max_epochs=None, max_time=max_time, callbacks=[Wait()])
    assert 1 <= time.monotonic() - began < 10 and task.total_steps is None
    assert 2 <= task.global_step <= 20 and steps_of(recorder.validations)[-1] == task.global_step


def test_fast_dev_run_is_one_batch_and_writes_nothing(root, tmp_path):
    saves = [lk.ModelCheckpoint("val_loss"), lk.callbacks.CSVLogger(), lk.callbacks.SampleWriter()]
    trainer, task, recorder = fitted(root, fast_dev_run=True, callbacks=saves, val_check_interval=4, max_epochs=9)
    assert task.global_step == 1 and steps_of(recorder.validations) == [1]
    assert trainer.run_dir is None and not list(tmp_path.iterdir())
    _, task, _ = fitted(root, fast_dev_run=2, overfit_batches=4)
    assert task.global_step == 2


# ---- how many batches


class Batches(Classifier):
    """Remembers the sums of the batches it saw."""

    def __init__(self):
        super().__init__()
        object.__setattr__(self, "seen", {"train": [], "test": []})

    def train_step(self, batch):
        self._see("train", batch)
        return super().train_step(batch)

    def test_step(self, batch):
        self._see("test", batch)
        return super().test_step(batch)

    def _see(self, stage, batch):
        if tf.executing_eagerly():  # not as the model is built
            self.seen[stage].append(round(float(tf.reduce_sum(batch["x"] * batch["weight"][:, None])), 3))


class Moving(PointsData):
    """Other numbers each epoch."""

    def train_dataset(self):
        x, y = tf.constant(self.x), tf.constant(self.y)

        def fetch(indices, epoch):
            return {"x": tf.gather(x, indices) + tf.cast(epoch, tf.float32), "y": tf.gather(y, indices)}

        return lk.AddressedDataset.from_batches(fetch, self.size, self.batch_size)


@pytest.mark.parametrize(("limit", "steps"), [(2, 2), (0.4, 2), (0.01, 1), (99, 5), (1.0, 5)])
def test_limit_train_batches(limit, steps):
    _, task, _ = fitted(task=Batches(), limit_train_batches=limit)
    assert len(task.seen["train"]) == task.steps_per_epoch == steps


@pytest.mark.parametrize(("limit", "batches"), [(0, 0), (1, 1), (0.67, 2), (1.0, 3)])
def test_limit_val_batches(limit, batches):
    _, task, recorder = fitted(task=Batches(), limit_val_batches=limit)
    assert len(task.seen["test"]) == batches and len(recorder.validations) == bool(batches)


def test_limit_test_batches():
    _, task, _ = fitted(task=Batches(), limit_val_batches=0)
    quiet(limit_test_batches=2, run_eagerly=True).test(task, PointsData())
    assert len(task.seen["test"]) == 2
    with pytest.raises(ValueError, match="`limit_val_batches` to be above 0 to validate"):
        quiet(limit_val_batches=0).validate(task, PointsData())


def test_overfit_batches_are_the_same_in_training_and_validation():
    _, task, _ = fitted(task=Batches(), data=Moving(), overfit_batches=2, max_epochs=3)
    assert task.seen["train"] == task.seen["train"][:2] * 3
    assert task.seen["test"] == task.seen["train"][:2] * 3


@pytest.mark.parametrize(
    ("interval", "steps"), [(2, [2, 4, 5, 7, 9, 10]), (0.5, [2, 4, 5, 7, 9, 10]), (5, [5, 10]), (1.0, [5, 10])]
)
def test_val_check_interval(interval, steps):
    _, _, recorder = fitted(val_check_interval=interval, max_epochs=2)
    assert steps_of(recorder.validations) == steps
    assert [record["epoch"] for record in recorder.validations] == [(step - 1) // STEPS for step in steps]


@pytest.mark.parametrize("steps_per_execution", ["auto", 1, 3])
def test_callbacks_come_at_their_updates_however_many_a_call_makes(steps_per_execution):
    arguments = {"val_check_interval": 2, "max_epochs": 2, "log_every_n_steps": 3}
    _, _, recorder = fitted(run_eagerly=False, steps_per_execution=steps_per_execution, **arguments)
    assert steps_of(recorder.validations) == [2, 4, 5, 7, 9, 10]
    assert steps_of(recorder.logs) == [3, 5, 6, 9, 10]


class FailsInTest(Batches):
    def test_step(self, batch):
        if tf.executing_eagerly():
            raise RuntimeError("in validation")
        return super().test_step(batch)


def test_an_error_in_validation_comes_before_training():
    task = FailsInTest()
    with pytest.raises(RuntimeError, match="in validation"):
        fitted(task=task, num_sanity_val_steps=1)
    assert task.seen["train"] == []
    _, task, recorder = fitted(task=Batches(), num_sanity_val_steps=2)
    assert len(task.seen["test"]) == 2 + 3 and len(recorder.validations) == 1


class NoTest(Classifier):
    test_step = lk.TaskModule.test_step


class NoValidation(PointsData):
    def val_dataset(self):
        return None


def test_a_task_without_validation_is_trained(root):
    trainer, task, recorder = fitted(root, task=NoTest(), data=NoValidation())
    assert not recorder.validations and task.global_step == STEPS
    assert trainer.history.history.keys() == {"loss", "accuracy"}
    fitted(task=NoTest(), overfit_batches=1)
    with pytest.raises(ValueError, match="Expected `val_dataset` to be a data set of NoValidation, which has none"):
        trainer.validate(task, NoValidation())
    with pytest.raises(ValueError, match="`ckpt_path` to be a checkpoint, for a task that is not trained"):
        quiet().test(Classifier(), PointsData())


# ---- how a step is made


def test_log_every_n_steps_gives_the_weighted_means_of_each_interval():
    _, _, each = fitted(max_epochs=2)
    _, _, recorder = fitted(max_epochs=2, log_every_n_steps=3)
    assert steps_of(recorder.logs) == [3, 5, 6, 9, 10]
    losses = [record["loss"] for record in each.logs]
    counts = [8, 8, 8, 8, 5] * 2  # the last batch of an epoch has 5 points
    for record, (begin, end) in zip(recorder.logs, [(0, 3), (3, 5), (5, 6), (6, 9), (9, 10)], strict=True):
        assert record["loss"] == pytest.approx(np.average(losses[begin:end], weights=counts[begin:end]), rel=1e-6)
    assert [record["epoch"] for record in recorder.logs] == [0, 0, 1, 1, 1]


def test_history_holds_the_weighted_mean_of_each_epoch():
    trainer, _, each = fitted(max_epochs=2)
    losses = np.reshape([record["loss"] for record in each.logs], (2, STEPS))
    expected = np.average(losses, axis=1, weights=[8, 8, 8, 8, 5])
    np.testing.assert_allclose(trainer.history.history["loss"], expected, rtol=1e-6)
    assert trainer.history.history["val_loss"] == [record["val_loss"] for record in each.validations]


@pytest.mark.parametrize("algorithm", ["norm", "value", "norm_per_variable"])
def test_gradient_clipping_bounds_the_update(algorithm):
    class Plain(Classifier):
        def configure_optimizers(self):
            return keras.optimizers.SGD(1.0)

    before = weights(fitted(task=Plain(), max_steps=1, gradient_clip_val=1e-9)[1])
    clip = {"gradient_clip_val": 0.01, "gradient_clip_algorithm": algorithm}
    after = weights(fitted(task=Plain(), max_steps=1, **clip)[1])
    moved = [(a - b).ravel() for a, b in zip(after[:5], before[:5], strict=True) if a.dtype == np.float32]
    largest = {
        "norm": np.linalg.norm(np.concatenate(moved)),
        "norm_per_variable": max(np.linalg.norm(of_variable) for of_variable in moved),
        "value": np.abs(np.concatenate(moved)).max(),
    }
    assert largest[algorithm] == pytest.approx(0.01, rel=1e-3)


class Float32Head(Classifier):
    """As Keras advises for mixed precision: the logits, and so the loss, in float32."""

    def configure_model(self, data):
        hidden = keras.layers.Dense(5, name="hidden")
        self.network = keras.Sequential([hidden, keras.layers.Dense(2, dtype="float32", name="head")])


def test_bf16_mixed_computes_in_bfloat16_keeps_float32_and_restores_the_policy():
    before = keras.config.dtype_policy()
    trainer, task, _ = fitted(task=Float32Head(), precision="bf16-mixed", max_steps=2)
    hidden = task.network.layers[0]
    assert hidden.compute_dtype == "bfloat16" and hidden.kernel.dtype == "float32"
    assert all(variable.dtype == "float32" for variable in task.trainable_variables)
    assert np.isfinite(trainer.history.history["loss"][0])
    assert keras.config.dtype_policy() == before
    with pytest.raises(TypeError, match="bfloat16"):  # a loss that mixes the two
        fitted(precision="bf16-mixed")
    assert keras.config.dtype_policy() == before
    with pytest.raises(ValueError, match="`precision` to be one of a task which is built already"):
        quiet(precision="bf16-mixed").test(fitted(max_steps=1)[1], PointsData())


def test_devices_and_strategies():
    _, task, _ = fitted(devices=2, max_steps=1, run_eagerly=False)
    assert task.distribute_strategy.num_replicas_in_sync == 2
    _, one, _ = fitted(devices=[1], strategy="mirrored", max_steps=1, run_eagerly=False)
    assert one.distribute_strategy.extended.worker_devices[0].endswith("CPU:1")
    own = tf.distribute.OneDeviceStrategy("CPU:0")
    _, task, _ = fitted(strategy=own, max_steps=1, run_eagerly=False)
    assert task.distribute_strategy is own
    with pytest.raises(ValueError, match='`devices` to be 1 or "auto" for a task that was built on this number'):
        quiet(devices=2).test(one, PointsData())


def test_predictions_are_the_models_in_order_on_one_device_and_two(root):
    for devices in (1, 2):
        trainer, task, _ = fitted(root, devices=devices, max_steps=2, run_eagerly=False)
        data = PointsData()
        predictions = trainer.predict(task, data)
        assert predictions.shape == (10, 2)  # 3 batches of 4, without the padding
        np.testing.assert_allclose(predictions, task.network(data.x[:10]), rtol=1e-5)
    loaded = quiet(root).predict(Classifier(), PointsData(), ckpt_path="last")
    np.testing.assert_allclose(loaded, predictions, rtol=1e-5)


def test_seed_decides_weights_and_order():
    first, same, other = (fitted(task=Batches(), seed=seed, max_steps=2)[1] for seed in (3, 3, 4))
    assert first.seen == same.seen and first.seen["train"] != other.seen["train"]
    for ours, theirs in zip(weights(first), weights(same), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert lk.seed_everything(5) == 5
    with pytest.raises(ValueError, match="`seed` to be a non-negative int"):
        lk.seed_everything(-5)


def test_run_eagerly_and_jit_compile_reach_the_step():
    _, task, _ = fitted(task=Batches(), max_steps=1, limit_val_batches=0)
    assert task.run_eagerly and len(task.seen["train"]) == 1
    for jit, prefers, expected in [
        (True, False, True),
        ("auto", True, True),
        ("auto", False, False),
        (False, True, False),
    ]:
        task = Classifier()
        object.__setattr__(task, "prefer_jit_compile", prefers)
        fitted(task=task, run_eagerly=False, jit_compile=jit, max_steps=1, limit_val_batches=0)
        assert task.test_loop.jit_compile is expected


# ---- what is written and shown


def test_switches_of_what_is_written_and_shown(root, tmp_path, capsys):
    trainer, _, _ = fitted(root, max_steps=1, logger=False, enable_checkpointing=False)
    assert trainer.run_dir is None and not list(tmp_path.iterdir())
    trainer, _, _ = fitted(root, max_steps=1, logger=False)
    assert {path.name for path in trainer.run_dir.iterdir()} == {"config.yaml", "checkpoints"}
    trainer, _, _ = fitted(root, max_steps=1, enable_checkpointing=False)
    logs = {"config.yaml", "metrics.csv", "tensorboard", "timeline.jsonl", "report.html"}
    assert {path.name for path in trainer.run_dir.iterdir()} == logs
    assert capsys.readouterr().out == ""
    fitted(max_steps=1, enable_model_summary=True)
    assert "Sequential" in capsys.readouterr().out
    fitted(max_steps=1, enable_progress_bar=True)
    assert capsys.readouterr().out.startswith("epoch 1/1  0:0")


def test_the_users_loggers_write_without_the_default_ones(root):
    trainer, _, _ = fitted(
        root, max_steps=1, logger=False, enable_checkpointing=False, callbacks=[lk.callbacks.CSVLogger()]
    )
    assert {path.name for path in trainer.run_dir.iterdir()} == {"config.yaml", "metrics.csv"}


def test_a_callback_may_save_only_where_there_is_a_run():
    class Saves(lk.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.run.save_checkpoint()

    with pytest.raises(ValueError, match="`enable_checkpointing` to be True to save a checkpoint"):
        fitted(callbacks=[Saves()])


def test_a_trainer_and_its_callbacks_can_be_used_again(root):
    stopping = lk.EarlyStopping("val_loss", patience=2, min_delta=100.0)
    trainer = quiet(root, max_epochs=9, run_eagerly=True, callbacks=[stopping, lk.ModelCheckpoint()])
    folders = set()
    for _ in range(2):
        history = trainer.fit(Classifier(), PointsData())
        assert history.epoch == [0, 1, 2]
        folders.add(trainer.run_dir)
        assert lk.TaskModule.load_from_checkpoint(str(trainer.run_dir)).global_step > 0
    assert len(folders) == 2


def test_two_fits_of_one_task_start_from_its_weights():
    _, task, first = fitted(max_epochs=3)
    recorder = Recorder()
    again = quiet(max_epochs=1, run_eagerly=True, callbacks=[recorder])
    again.fit(task, PointsData())
    assert task.global_step == STEPS and recorder.validations[0]["val_loss"] < first.validations[0]["val_loss"]
