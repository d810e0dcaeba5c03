"""The promise: one run, however you cut it. Metrics of every update and the final state, 10 updates, clipping on."""

import functools
import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from helpers import costs, promise
from helpers.promise import STEPS, TASKS, WITH_BATCH_NORM, assert_same, data_of, trained

from lightkeras.distribution import launch
from lightkeras.training.step import loss_name
from lightkeras.verifier.comparison import difference, state_difference

CUTS = {
    "eager": {"run_eagerly": True},
    "xla": {"jit_compile": True},
    "5 steps a call": {"steps_per_execution": 5},
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
LARGE = ("text_generation, lstm", "translation", "captioning")  # graphs that take long to trace
OF_SMALL = (  # cuts that the small tasks are put to; of the large ones the others run the same code
    "2 micro-batches",  # 4 micro-batches
    "4 micro-batches, eager",  # eager; parts are added up one by one by 2 replicas with 2 micro-batches too
    "4 micro-batches, xla",  # 4 micro-batches; xla; both together in captioning
    "2 replicas",  # 2 replicas, 2 micro-batches, 7 steps a call
)
ROWS = [
    *((name, cut) for name in TASKS if name not in (*WITH_BATCH_NORM, *LARGE) for cut in CUTS),
    *((name, cut) for name in LARGE for cut in CUTS if cut not in OF_SMALL),
    ("captioning", "4 micro-batches, xla"),
    *((name, cut) for name in WITH_BATCH_NORM for cut in CUTS if "micro_batches" not in CUTS[cut]),
    *((name, "4 micro-batches") for name in promise.WITHOUT_BATCH_STATISTICS),
]
OF_WORKERS = [
    ("toy", {}), ("text_generation", {}), ("dcgan", {}), ("dcgan, alternating", {}), ("dcgan", {"micro_batches": 2}),
    ("translation, scored", {}), ("captioning, scored", {}),
]  # fmt: skip


class Kept(NamedTuple):
    """What is compared of a `ShortRun`."""

    records: list
    validations: list
    epochs: dict
    state: dict
    calls: int
    losses: list


each_training = pytest.mark.parametrize(
    "number", range(len(OF_WORKERS)), ids=[" ".join([name, *cut]) for name, cut in OF_WORKERS]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The tasks' data."""
    made = tmp_path_factory.mktemp("data")
    promise.write_data(made)
    return made


@pytest.fixture(autouse=True)
def memory():
    """A training is not kept in memory after its test."""
    yield
    costs.MEMORY.free()


@pytest.fixture(scope="module")
def uncut(folder):
    """`uncut(task, micro_batches)`: the training that the cuts are compared with."""

    def of_task(name, micro_batches=1):
        run = trained(name, data_of(name, folder), micro_batches=micro_batches)
        return Kept(run.records, run.validations, run.epochs, run.state, run.calls, run.losses)  # without its graphs

    return functools.cache(of_task)


@pytest.mark.parametrize("name", TASKS)
def test_the_last_batch_is_uneven(name, folder):
    data = data_of(name, folder)
    data.prepare_data()
    data.setup("fit")
    train = data.train_dataset()
    assert train.size % train.batch_size and len(train) < STEPS


@pytest.mark.parametrize("name", TASKS)
def test_two_runs_are_equal_to_the_bit(name, folder, uncut):
    whole, again = uncut(name), trained(name, data_of(name, folder))
    assert (again.records, again.validations) == (whole.records, whole.validations)
    assert max(state_difference(again, whole).values()) == 0


@pytest.mark.parametrize(("name", "cut"), ROWS)
def test_one_run_however_it_is_cut(name, cut, folder, uncut):
    run = trained(name, data_of(name, folder), **CUTS[cut])
    assert (run.calls < STEPS) == ("steps_per_execution" in CUTS[cut])
    assert_same(run, uncut(name))
    losses = run.epochs[loss_name(list(run.task.optimizers)[-1])]  # of a GAN, the discriminator's
    assert losses[-1] < losses[0]


# ---- the exception: batch norm sees one micro-batch


@pytest.mark.parametrize("name", WITH_BATCH_NORM)
def test_batch_norm_sees_one_micro_batch(name, uncut):
    assert difference(uncut(name, 2).losses, uncut(name).losses) > 1e-3


@pytest.mark.parametrize("name", WITH_BATCH_NORM)
@pytest.mark.parametrize("cut", [{"devices": 2}, {"jit_compile": True}], ids=["2 replicas", "xla"])
def test_micro_batches_of_batch_norm_are_one_run_too(name, cut, folder, uncut):
    run = trained(name, data_of(name, folder), micro_batches=2, **cut)
    assert_same(run, uncut(name, 2))


# ---- workers


@pytest.fixture(scope="module")
def of_workers(folder):
    """For each of `OF_WORKERS`, (training, rows read) of both workers; two processes train them all."""
    program, out = Path(__file__).parent / "helpers" / "worker_run.py", folder / "out"
    trainings = [json.dumps(training) for training in OF_WORKERS]
    assert launch.launch([sys.executable, str(program), "promise", str(out), str(folder), *trainings], 2) == 0
    return [[promise.load(f"{out}-{worker}-{number}.npz") for worker in range(2)] for number in range(len(OF_WORKERS))]


@each_training
def test_two_workers_are_one_process(number, of_workers, uncut):
    name, cut = OF_WORKERS[number]
    (first, _), (second, _) = of_workers[number]
    assert_same(first, uncut(name, **cut))
    assert (first.records, first.validations) == (second.records, second.validations)
    assert max(state_difference(first, second).values()) == 0


@each_training
def test_a_worker_reads_its_rows_alone(number, of_workers, folder):
    name, cut = OF_WORKERS[number]
    data = data_of(name, folder)
    data.prepare_data()
    data.setup("fit")
    train = data.train_dataset()
    table = np.concatenate([train.indices(seed=0, epoch=epoch) for epoch in range(STEPS)])[:STEPS]
    parts = table.reshape(STEPS, cut.get("micro_batches", 1), 2, -1)  # (steps, micro-batches, workers, rows)
    for worker, (_, read) in enumerate(of_workers[number]):
        rows = np.maximum(read[:STEPS], -1)  # grouped batches pad with the content of an example: -1 - example
        np.testing.assert_array_equal(rows, parts[:, :, worker].reshape(STEPS, -1))
