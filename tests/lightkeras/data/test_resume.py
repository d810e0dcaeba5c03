"""Runs on data as it is brought, stopped and resumed: the same bits as without a stop, or a word about it."""

import logging

import numpy as np
import pytest
import tensorflow as tf
from helpers.brought_forms import EPOCHS, KEPT, STEPS, Batches, Line, Shuffling, X, Y, fit, rows, weights
from helpers.toys import quiet
from tensorflow.python.framework import config

import lightkeras as lk
from lightkeras.checkpoint import CheckpointError
from lightkeras.data.brought import as_dataset


@pytest.mark.parametrize("form", KEPT)
def test_a_resumed_run_ends_with_the_same_bits(form, tmp_path, caplog):
    data, keywords = KEPT[form](tmp_path)
    whole, _ = fit(data, tmp_path / "whole", keywords)
    task, path = None, None
    with caplog.at_level(logging.INFO, "lightkeras"):
        for stop in (2, 4, EPOCHS * STEPS):  # in the first epoch, in the second, at the end
            again, keywords = KEPT[form](tmp_path)
            task, trainer = fit(again, tmp_path / "cut", keywords, path, max_steps=stop)
            path = trainer.run_dir
    np.testing.assert_array_equal(weights(task), weights(whole))
    assert "differs" not in caplog.text
    streamed = form.startswith(("tf.data", "iterable"))
    assert ("Read past" in caplog.text) == streamed


@pytest.mark.parametrize("kind", ["equal", "drawn", "shuffled anew"])
def test_a_pass_that_differs_is_said_in_the_same_run_unless_it_is_shuffled(kind, tmp_path, caplog):
    data = rows().shuffle(21, seed=5) if kind == "shuffled anew" else rows()
    if kind == "drawn":
        data = data.map(lambda x, y: (x + tf.random.uniform(()), y))
    with caplog.at_level(logging.WARNING, "lightkeras"):
        fit(data.batch(8), tmp_path, {}, enable_checkpointing=False)
    said = "than in pass 0, and no `shuffle` is in it: something draws at random"
    assert caplog.text.count(said) == (kind == "drawn")


def test_a_shuffle_without_a_seed_is_said_at_the_start(monkeypatch):
    data = rows()
    tf.random.set_seed(None)  # that of the process would give the shuffle one
    monkeypatch.setattr(config, "is_op_determinism_enabled", lambda: False)  # an earlier test may have said so
    reading = as_dataset("data", data.shuffle(21).batch(8), None, False).reading
    assert reading.describe("").endswith(
        "A shuffle in it has no seed: a stopped run is resumed, but not to the same bits."
    )


def test_a_shuffle_without_a_seed_is_said_when_the_run_is_resumed(tmp_path, caplog):
    def data():
        return Batches(np.random.default_rng())

    _, run = fit(data(), tmp_path, {}, max_steps=2)
    with caplog.at_level(logging.WARNING, "lightkeras"):
        task, _ = fit(data(), tmp_path, {}, run.run_dir)
    assert "The Batches differs from that of the run that is resumed: pass 0 begins with another batch" in caplog.text
    assert task.global_step == EPOCHS * STEPS


def test_a_generator_resumes_from_the_start_of_an_epoch(tmp_path, caplog):
    def data():
        return (batch for _ in range(EPOCHS) for batch in Batches())

    with caplog.at_level(logging.INFO, "lightkeras"):
        whole, _ = fit(data(), tmp_path / "whole", {})
    assert "generator, streamed. A run resumes to the same bits from the start of an epoch only." in caplog.text
    _, run = fit(data(), tmp_path, {}, max_steps=STEPS + 1)
    task, _ = fit((batch for batch in [*Batches(), *Batches()]), tmp_path, {}, run.run_dir)
    np.testing.assert_array_equal(weights(task), weights(whole))


@pytest.mark.parametrize("form", ["arrays", "on disk", "TFRecords", "examples", "PyDataset", "tf.data"])
def test_other_data_is_refused_by_name(form, tmp_path):
    data, keywords = KEPT[form](tmp_path)
    _, run = fit(data, tmp_path, keywords, max_steps=2)
    other = {"tf.data": (rows().batch(9), {}), "PyDataset": (Other(), {})}
    data, keywords = other.get(form, ((X + 1, Y), {"batch_size": 8}))
    with pytest.raises(CheckpointError, match=r"data\.init_args\.data\.\w+: .* then, .* now"):
        fit(data, tmp_path, keywords, run.run_dir)


class Other(Shuffling):
    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x + 1, y


def test_the_folder_says_that_the_data_cannot_be_made_again(tmp_path):
    _, run = fit((X, Y), tmp_path, {"batch_size": 8}, max_steps=1)
    text = (run.run_dir / "config.yaml").read_text(encoding="utf-8")
    assert "class_path: lightkeras.data.brought.BroughtData" in text and "examples: 21" in text
    assert text.startswith("# Not in this file, since made in Python: the data")
    task = Line.load_from_checkpoint(run.run_dir)
    assert task.network(X).shape == (21, 1)
    with pytest.raises(
        ValueError, match="`data` to be given to `fit` again: the run's folder has only what identifies"
    ):
        quiet(max_epochs=1).fit(Line(), lk.data.brought.BroughtData({"kind": "arrays"}))
