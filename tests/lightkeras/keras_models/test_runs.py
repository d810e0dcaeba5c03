"""Runs of plain models: another model of one process resumes, replicas, validation in the middle of an epoch."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.stopping import At, Killed, kill
from helpers.toys import quiet

from lightkeras.callbacks import NonFiniteLossError
from lightkeras.distribution.strategies import make_strategy

X = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")
Y = (X.sum(axis=1) > 0).astype("float32")


def build(optimizer=None) -> keras.Model:
    model = keras.Sequential([keras.layers.Dense(4, "tanh"), keras.layers.Dense(1, activation="sigmoid")])
    model.compile(optimizer or keras.optimizers.Adam(0.01), "binary_crossentropy", metrics=[keras.metrics.AUC()])
    return model


def test_the_next_model_of_a_process_resumes(tmp_path):
    """Keras numbers the names of optimizers, layers and metrics over the process."""
    keras.utils.set_random_seed(0)
    first, trainer = build(), quiet(tmp_path / "whole", max_epochs=2)
    trainer.fit(first, (X, Y), batch_size=8)
    keras.utils.set_random_seed(0)
    with pytest.raises(Killed):
        quiet(tmp_path / "cut", max_epochs=2, callbacks=[At(4, kill)], checkpoint_every_n_steps=2).fit(
            build(), (X, Y), batch_size=8
        )
    last = build()
    quiet(tmp_path / "cut", max_epochs=2).fit(last, (X, Y), "last", batch_size=8)
    for ours, theirs in zip(last.variables, first.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_trained_model_is_evaluated_from_its_run(tmp_path):
    trainer = quiet(tmp_path, max_epochs=1)
    trainer.fit(model := build(), (X, Y), validation_data=(X, Y), batch_size=8)
    found = trainer.validate(build(), (X, Y), ckpt_path=trainer.run_dir)
    expected = model.evaluate(X, Y, batch_size=32, verbose=0, return_dict=True)
    assert list(found.values()) == pytest.approx([expected[name] for name in sorted(expected)], rel=1e-5)


def test_validation_within_an_epoch_leaves_the_metrics_of_training():
    histories = []
    for interval in (1.0, 1):
        keras.utils.set_random_seed(0)
        trainer = quiet(max_epochs=2, val_check_interval=interval)
        history = trainer.fit(build(), (X, Y), validation_data=(X[:8], Y[:8]), batch_size=8, shuffle=False).history
        histories.append(list(history.values()))
    assert histories[0] == histories[1]


def test_replicas_train_as_under_keras_fit():
    histories, weights = [], []
    for train in ("keras", "ours"):
        keras.utils.set_random_seed(0)
        with make_strategy(2).scope():
            model = build(keras.optimizers.SGD(0.1))
        if train == "keras":
            history = model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0).history
        else:
            trainer = quiet(max_epochs=2, strategy=make_strategy(2))
            history = trainer.fit(model, (X, Y), batch_size=8, shuffle=False).history
        histories.append([history["loss"], next(v for name, v in history.items() if name.startswith("auc"))])
        weights.append([np.array(v) for v in model.trainable_variables])
    np.testing.assert_allclose(histories[1], histories[0], rtol=1e-5)
    for ours, theirs in zip(weights[1], weights[0], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_batch_that_replicas_cannot_share_equally_is_cut_unevenly():
    """Each replica counts the same, as in Keras: of 7 rows, 4 have weights of 7/8 and 3 of 7/6."""
    keras.utils.set_random_seed(0)
    weights = [7 / 8] * 4 + [7 / 6] * 3
    alone = build(keras.optimizers.SGD(0.1))
    alone.fit(X, Y, 7, epochs=2, shuffle=False, verbose=0, sample_weight=np.array([*weights * 3, 3 / 4, 3 / 4, 3 / 2]))
    keras.utils.set_random_seed(0)
    with make_strategy(2).scope():
        model = build(keras.optimizers.SGD(0.1))
    quiet(max_epochs=2, strategy=make_strategy(2)).fit(model, (X, Y), batch_size=7, shuffle=False)
    for ours, theirs in zip(model.trainable_variables, alone.trainable_variables, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_an_optimizer_that_begins_with_a_constant():
    """Keras' Nadam makes a variable of a constant of the graph in which it is built."""
    losses = []
    for train in ("keras", "ours"):
        keras.utils.set_random_seed(0)
        model = build(keras.optimizers.Nadam(0.05))
        if train == "keras":
            model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        else:
            quiet(max_epochs=2).fit(model, (X, Y), batch_size=8, shuffle=False)
        losses.append(model.history.history["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


class Averages(keras.Model):
    """Returns a number without "loss" in its name, and an array."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        x, _ = data
        with tf.GradientTape() as tape:
            parts = tf.reduce_mean(tf.square(self(x)), axis=0)
            total = tf.reduce_sum(parts)
        self.optimizer.apply(tape.gradient(total, self.trainable_variables), self.trainable_variables)
        return {"total": total, "parts": parts}


def test_the_history_keeps_arrays(tmp_path):
    model = Averages()
    model.compile(keras.optimizers.SGD(0.1))
    for epochs in (1, 2):  # resumed
        trainer = quiet(tmp_path, max_epochs=epochs, limit_val_batches=0)
        history = trainer.fit(model, (X, Y), None if epochs == 1 else "last", batch_size=8).history
    assert np.shape(history["parts"]) == (2, 2)
    np.testing.assert_allclose(np.sum(history["parts"], axis=1), history["total"], rtol=1e-6)


def test_not_a_number_ends_a_run_whose_values_have_other_names():
    model = Averages()
    model.compile(keras.optimizers.SGD(float("nan")))
    with pytest.raises(NonFiniteLossError, match=r"Received: total not finite at update 2"):
        quiet(max_epochs=1, log_every_n_steps=1).fit(model, (X, Y), batch_size=8)


@pytest.mark.parametrize("on_epoch", [False, True])
def test_swap_ema_weights_works_as_under_keras_fit(on_epoch, tmp_path):
    def train(how, root=None, kill_at=None, ckpt_path=None):
        keras.utils.set_random_seed(0)
        model, swap = build(keras.optimizers.SGD(0.5, use_ema=True)), keras.callbacks.SwapEMAWeights(on_epoch)
        if how == "keras":
            model.fit(X, Y, validation_data=(X, Y), batch_size=8, epochs=3, shuffle=False, verbose=0, callbacks=[swap])
            return model
        callbacks = [swap, At(kill_at, kill)] if kill_at else [swap]
        trainer = quiet(root, max_epochs=3, callbacks=callbacks, run_eagerly=True, jit_compile=False)
        try:
            trainer.fit(model, (X, Y), ckpt_path, validation_data=(X, Y), batch_size=8, shuffle=False)
        except Killed:
            assert kill_at
        return model

    expected, whole = train("keras"), train("ours", tmp_path / "whole")
    assert whole.history.history["val_loss"] == pytest.approx(expected.history.history["val_loss"], rel=1e-5)
    train("ours", tmp_path / "cut", 5)
    resumed = train("ours", tmp_path / "cut", ckpt_path="last")
    for ours, theirs, keras_own in zip(resumed.weights, whole.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_allclose(ours, keras_own, rtol=1e-5, atol=1e-6)


class DrawsInValidation(keras.Model):
    """Draws from one generator in training and in validation."""

    def __init__(self):
        super().__init__()
        self.dense, self.seed = keras.layers.Dense(1), keras.random.SeedGenerator(1)

    def call(self, x):
        return self.dense(x + keras.random.normal((1, 3), seed=self.seed))


def test_a_run_that_was_stopped_within_an_epoch_draws_what_the_validation_there_drew(tmp_path):
    def train(root, max_steps=6, **resumed):
        keras.utils.set_random_seed(0)
        model = DrawsInValidation()
        model.compile("sgd", "mse")
        quiet(root, max_steps=max_steps, run_eagerly=True).fit(
            model, (X, Y), batch_size=len(X) // 3, validation_data=(X, Y), **resumed
        )
        return model.get_weights()

    whole = train(tmp_path / "whole")
    train(tmp_path / "cut", max_steps=4)
    for one, other in zip(train(tmp_path / "cut", ckpt_path="last"), whole, strict=True):
        np.testing.assert_array_equal(one, other)
