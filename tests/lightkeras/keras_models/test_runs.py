"""Runs of plain models: another model of one process resumes, replicas, validation in the middle of an epoch."""

import keras
import numpy as np
import pytest
from helpers.stopping import At, Killed, kill
from helpers.toys import quiet

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
