"""The promise: one run, however you cut it. Losses of every update and final weights, 20 updates, clipping on."""

import pytest
from toys import Classifier, PointsData

from lightkeras.trial import Trial, difference, metrics_difference, state_difference, train
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


def trained(name: str, text: str, **cut) -> Trial:
    """`STEPS` updates of a task."""
    task, data = TASKS[name]()
    if getattr(data, "source", None) == "{text}":
        data = TextData(text, seq_len=10, batch_size=8)
    # several updates in a call end where something is logged, so these are not logged one by one
    logged = STEPS if cut.get("steps_per_execution", 1) > 1 else 1
    return train(
        task, data, max_steps=STEPS, gradient_clip_val=0.5, log_every_n_steps=logged, deterministic=True, **cut
    )


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
    again = trained(name, text)
    assert (again.records, again.validations) == (whole[name].records, whole[name].validations)
    assert max(state_difference(again, whole[name]).values()) == 0


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", TASKS)
def test_one_run_however_it_is_cut(name, cut, text, whole):
    run, of_whole = trained(name, text, **CUTS[cut]), whole[name]
    if "steps_per_execution" in CUTS[cut]:
        assert run.calls < STEPS
    else:
        assert len(run.losses) == run.calls == STEPS
        assert difference(run.losses, of_whole.losses) <= 1e-5
    assert difference(run.epochs["loss"], of_whole.epochs["loss"]) <= 1e-5
    assert max(state_difference(run, of_whole, floor=0.2).values()) <= 1e-5  # rtol 1e-5, atol 2e-6
    assert max(metrics_difference(run.validations, of_whole.validations)) <= 1e-5
    assert run.epochs["loss"][-1] < run.epochs["loss"][0]
