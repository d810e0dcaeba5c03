"""Plain models that cannot be trained as asked: said in a sentence before the first update."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from helpers.toys import quiet

from lightkeras.utils import internals
from lightkeras.verifier.plain_models import check_model

X, Y = np.ones((8, 3), np.float32), np.zeros((8, 1), np.float32)


def build(compiled: bool = True) -> keras.Model:
    model = keras.Sequential([keras.layers.Dense(1)])
    if compiled:
        model.compile("sgd", "mse")
    return model


def test_a_model_that_is_not_compiled():
    with pytest.raises(ValueError, match="Expected `model` to be compiled: call"):
        quiet(max_epochs=1).fit(build(compiled=False), (X, Y))


def test_a_model_that_was_built_under_no_strategy():
    with pytest.raises(ValueError, match=r"Expected `devices` to be 1, as the model was built under no strategy"):
        quiet(max_epochs=1, devices=2).fit(build(), (X, Y))


def test_workers_are_refused_with_the_reason(monkeypatch):
    monkeypatch.setattr(internals, "has_workers", lambda strategy: True)
    with pytest.raises(ValueError, match=r"of one process.*Keras' own fit fails with several workers.*As a TaskModule"):
        quiet(max_epochs=1).fit(build(), (X, Y))


@pytest.mark.parametrize("asked", [{"micro_batches": 2}, {"gradient_clip_val": 1.0}, {"log_gradient_norm": True}])
def test_updates_that_only_the_library_makes(asked):
    with pytest.raises(ValueError, match=f"Expected `{next(iter(asked))}` to be .*makes its updates itself"):
        quiet(max_epochs=1, **asked).fit(build(), (X, Y))


class Noisy(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, x):
        return self.dense(x + tf.random.normal(tf.shape(x)))


def build_noisy() -> keras.Model:
    model = Noisy()
    model.compile("sgd", "mse")
    return model


def test_hidden_state_is_named_when_the_run_starts(caplog):
    quiet(max_epochs=1).fit(build_noisy(), (X, Y))
    assert "RandomStandardNormal (test_errors.py:" in caplog.text


def test_check_names_hidden_draws_as_the_cause():
    report = check_model(build_noisy, {"data": (X, Y), "batch_size": 2})
    for name in ("hidden_state", "resume", "xla"):
        assert report[name].status == "FAIL", name
        assert "RandomStandardNormal (test_errors.py:" in report[name].note, name


def test_check_compares_no_draws_of_xla():
    def build_with_dropout():
        model = keras.Sequential([keras.layers.Dense(4), keras.layers.Dropout(0.5), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        return model

    report = check_model(build_with_dropout, {"data": (X, Y), "batch_size": 2})
    assert report.passed and report["xla"].note.startswith("not comparable: the step draws random numbers")


@pytest.mark.parametrize("y", [np.array(["a", "b"] * 4), pd.Series(pd.Categorical(["a", "b"] * 4))])
def test_targets_of_text_are_refused_with_the_way_to_number_them(y):
    model = keras.Sequential([keras.layers.Dense(2)])
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match=r"Received: text, in y\. Number it first: .*cat\.codes"):
        quiet(max_epochs=1).fit(model, (X, y))


def test_data_without_targets_for_a_loss():
    with pytest.raises(ValueError, match=r"data with targets, \(x, y\).*Received: batches without y"):
        quiet(max_epochs=1).fit(build(), X)


def test_a_column_of_categories_is_refused_with_the_way_to_number_it():
    table = pd.DataFrame({"a": X[:, 0], "c": pd.Categorical(["u", "v"] * 4)})
    with pytest.raises(ValueError, match=r"text in example 0, column 'c'\. Number such a column first: .*cat\.codes"):
        quiet(max_epochs=1).fit(build(), (table, Y))
