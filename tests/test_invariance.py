"""The promise: one run, however you cut it. Losses of every update and final weights, 20 updates, clipping on."""

import numpy as np
import pytest
from toys import Classifier, PointsData, Recorder, quiet, weights

from tasks.text_generation import TextData, TextGeneration

STEPS = 20
TEXT = {"embedding_dim": 8, "units": 12, "dropout": 0.0, "embedding_dropout": 0.0, "warmup_steps": 5}
TASKS = {
    "toy": lambda: (Classifier(), PointsData()),
    "text_generation": lambda: (TextGeneration(**TEXT), TextData(source="{text}", seq_len=10, batch_size=8)),
    "text_generation_lstm": lambda: (
        TextGeneration(**TEXT, cell="lstm", num_layers=2),
        TextData(source="{text}", seq_len=10, batch_size=8),
    ),
}
CUTS = {
    "eager": {"run_eagerly": True},
    "xla": {"jit_compile": True},
    "10 steps a call": {"steps_per_execution": 10},
    "2 micro-batches": {"micro_batches": 2},
    "4 micro-batches": {"micro_batches": 4},
    "4 micro-batches, eager": {"micro_batches": 4, "run_eagerly": True},
    "4 micro-batches, xla": {"micro_batches": 4, "jit_compile": True},
    "2 replicas": {"devices": 2},
    "2 replicas, 2 micro-batches, 7 steps a call": {
        "devices": 2,
        "micro_batches": 2,
        "steps_per_execution": 7,
    },
}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A text whose windows fill no whole number of batches."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog, again and again; " * 9, encoding="utf-8")
    return str(path)


def trained(name: str, text: str, **cut):
    """(losses of every update, final state, validation results) of `STEPS` updates."""
    task, data = TASKS[name]()
    if getattr(data, "source", None) == "{text}":
        data = TextData(text, seq_len=10, batch_size=8)
    recorder = Recorder()
    arguments = {"max_steps": STEPS, "gradient_clip_val": 0.5, "log_every_n_steps": 1, "deterministic": True}
    arguments = {**arguments, "jit_compile": False, "steps_per_execution": 1, **cut}
    quiet(callbacks=[recorder], **arguments).fit(task, data)
    return [record["loss"] for record in recorder.logs], weights(task), recorder.validations


@pytest.fixture(scope="module")
def whole(text):
    """The uncut run of each task."""
    return {name: trained(name, text) for name in TASKS}


def test_the_last_batch_is_uneven(text):
    for name, make in TASKS.items():
        _, data = make()
        data = TextData(text, seq_len=10, batch_size=8) if name != "toy" else data
        data.setup("fit")
        train = data.train_dataset()
        assert train.size % train.batch_size and len(train) < STEPS


@pytest.mark.parametrize("name", TASKS)
def test_two_runs_are_equal_to_the_bit(name, text, whole):
    losses, state, validations = trained(name, text)
    assert losses == whole[name][0] and validations == whole[name][2]
    for ours, theirs in zip(state, whole[name][1], strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", TASKS)
def test_one_run_however_it_is_cut(name, cut, text, whole):
    losses, state, validations = trained(name, text, **CUTS[cut])
    assert len(losses) == STEPS
    np.testing.assert_allclose(losses, whole[name][0], rtol=1e-5)
    for ours, theirs in zip(state, whole[name][1], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-6)
    for ours, theirs in zip(validations, whole[name][2], strict=True):
        assert ours["val_loss"] == pytest.approx(theirs["val_loss"], rel=1e-5)
    assert losses[-1] < losses[0]
