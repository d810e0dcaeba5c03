"""Past updates of runs: executed again to the bit, and what is wrong in them is found by name."""

import json
import random
import re
import shutil

import keras
import numpy as np
import pytest
from helpers.promise import TASKS, data_of, write_data
from helpers.stopping import At, Killed, kill
from helpers.toys import Classifier, PointsData, quiet, weights

import lightkeras as lk
from lightkeras.cli.main import main
from lightkeras.distribution.strategies import make_strategy
from lightkeras.replaying.inspection import inspect
from lightkeras.replaying.rows import find_far

STEPS = 7


class States(lk.Callback):
    """Keeps the state after every update."""

    def __init__(self):
        super().__init__()
        self.states = []

    def on_train_begin(self, logs=None):
        self.states = [weights(self.model)]

    def on_train_batch_end(self, batch, logs=None):
        self.states.append([value.copy() for value in weights(self.model)])


def trained(task, data, root, **arguments):
    """The folder of a run of some updates, and the state before each of them."""
    states = States()
    given = {"max_steps": STEPS, "log_every_n_steps": 1, "deterministic": True, "checkpoint_every_n_steps": 3}
    trainer = quiet(root, callbacks=[states], **{**given, **arguments})
    trainer.fit(task, data)
    return trainer.run_dir, states.states


def files_of(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def assert_state(task, state):
    for ours, theirs in zip(weights(task), state, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return folder


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A run of the toy with dropout, in epochs of 5 updates."""
    root = tmp_path_factory.mktemp("toy")
    return trained(Classifier(dropout=0.3), PointsData(), root, max_steps=13)


# ---- to the bit


@pytest.mark.parametrize("name", ["text_generation", "translation", "captioning", "dcgan, alternating"])
def test_a_task_is_executed_again_to_the_bit(name, data_folder, tmp_path):
    precision = "bf16-mixed" if name == "text_generation" else "32"
    run, states = trained(TASKS[name](), data_of(name, data_folder), tmp_path, precision=precision)
    before = files_of(run)
    step = random.Random(name).randint(2, STEPS - 1)
    found = inspect(run, step, steps=2)
    assert found.compared.rows >= 2 and found.compared.first is None, str(found.compared)
    assert_state(found.moment.task, states[step - 1])
    changes = [one.change for one in found.variables]
    assert len(changes) == len(found.moment.task.trainable_variables) and max(changes) > 0
    for look in found.looks:  # the mean over the rows, by their weights, is the loss of the batch
        for loss, total in look.losses.items():
            known = look.rows.weights[loss] > 0
            of_rows = np.average(look.rows.losses[loss][known], weights=look.rows.weights[loss][known])
            assert of_rows == pytest.approx(total, rel=2e-3 if precision == "32" else 2e-2)
    assert len(found.looks) == (2 if "alternating" in name else 1)
    assert files_of(run) == before


def test_any_update_of_a_run_with_dropout(toy):
    run, states = toy
    for step in random.Random(0).sample(range(1, 14), 3):
        moment = lk.replay(run, step)
        assert_state(moment.task, states[step - 1])
        expected = PointsData()
        expected.setup("fit")
        examples = expected.train_dataset().indices(0, (step - 1) // 5)[(step - 1) % 5]
        np.testing.assert_array_equal(moment.examples, examples)
        np.testing.assert_array_equal(moment.batch["x"][examples >= 0], expected.x[examples[examples >= 0]])


def test_the_checkpoint_that_follows(toy, tmp_path):
    """The state at a checkpoint, from the one before it."""
    run = tmp_path / "run"
    shutil.copytree(toy[0], run)
    *_, earlier, last = sorted(run.glob("checkpoints/step_*"))
    saved = lk.checkpoint.load_checkpoint(last)
    shutil.rmtree(last)
    found = inspect(run, saved.step)
    assert found.moment.began == lk.checkpoint.load_checkpoint(earlier).step
    names = list(found.moment.task.state_variables())
    assert found.compared.first is None
    after = inspect(run, saved.step).moment.task
    assert list(after.state_variables()) == names
    for one in found.variables:
        name = next(name for name, v in after.state_variables().items() if v.path == one.path)
        change = saved.arrays[name].astype(float) - np.asarray(after.state_variables()[name]).astype(float)
        assert one.change == pytest.approx(np.linalg.norm(change), rel=1e-12)


@pytest.mark.parametrize("how", [{"strategy": 2}, {"micro_batches": 2}], ids=["replicas", "micro"])
def test_however_the_run_is_cut(how, tmp_path):
    given = {"strategy": make_strategy(2)} if "strategy" in how else {}
    run, states = trained(Classifier(dropout=0.3), PointsData(), tmp_path, **{**how, **given})
    moment = lk.replay(run, 3, **given)
    assert_state(moment.task, states[2])
    found = inspect(run, 5, **given)
    assert found.compared.first is None and found.compared.rows >= 2
    (look,) = found.looks
    (record,) = found.updates
    assert look.losses["loss"] == pytest.approx(record["loss"], rel=0.3)  # on one device: with other dropout
    assert [one.gradient is not None for one in found.variables] == [True] * 4


def test_a_run_that_was_killed_and_resumed(tmp_path):
    def fit(root, callbacks=()):
        trainer = quiet(root, max_steps=9, log_every_n_steps=2, deterministic=True, checkpoint_every_n_steps=3,
                        callbacks=[states := States(), *callbacks])  # fmt: skip
        trainer.fit(Classifier(dropout=0.3), PointsData(), "auto")
        return trainer.run_dir, states.states

    with pytest.raises(Killed):
        fit(tmp_path / "cut", [At(5, kill)])
    run, _ = fit(tmp_path / "cut")
    _, states = fit(tmp_path / "whole")
    assert_state(lk.replay(run, 5).task, states[4])
    found = inspect(run, 8)
    assert found.compared.first is None and found.compared.rows == 1 and found.moment.began == 6


X = np.random.default_rng(0).normal(size=(22, 3)).astype("float32")
Y = (X.sum(axis=1) > 0).astype("float32")


def build():
    keras.utils.set_random_seed(3)
    layers = [keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dropout(0.2)]
    model = keras.Sequential([*layers, keras.layers.Dense(1, activation="sigmoid")])
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy", metrics=["accuracy"])
    return model


def test_a_plain_keras_model(tmp_path):
    states = States()
    trainer = quiet(tmp_path, max_epochs=3, log_every_n_steps=1, deterministic=True, callbacks=[states])
    trainer.fit(build(), (X, Y), batch_size=8)
    run = trainer.run_dir
    moment = lk.replay(run, 5, task=build(), data=(X, Y), batch_size=8)
    assert_state(moment.task, states.states[4])
    assert moment.batch[0].shape == (8, 3)
    found = inspect(run, 6, task=build(), data=(X, Y), batch_size=8, without=[1])
    assert found.compared.first is None and len(found.examples) == 6
    (look,) = found.looks
    assert look.rows.losses["loss"].mean() == pytest.approx(look.losses["loss"], rel=1e-5)
    assert found.without is not None and found.without[1][0]["loss"] != found.updates[0]["loss"]
    with pytest.raises(lk.utils.ArgumentError, match=r"`task` to be given \(--model .*Sequential"):
        lk.replay(run, 5)
    with pytest.raises(lk.utils.ArgumentError, match=r"those of the run.*digest"):
        lk.replay(run, 5, task=build(), data=(X + 1, Y), batch_size=8)


# ---- what is seen


class Poisoned(PointsData):
    """Points of which one has a value of its own, or a label that is wrong by far."""

    def __init__(self, example: int = 11, value: float = float("nan"), shuffle: bool = True):
        super().__init__()
        self.example, self.value = example, value

    def train_dataset(self):
        x = self.x.copy()
        x[self.example, 2] = self.value
        return lk.AddressedDataset.from_batches(
            lambda indices, epoch: {"x": keras.ops.take(x, indices, axis=0),
                                    "y": keras.ops.take(self.y, indices, axis=0)}, 37, 8)  # fmt: skip


class Squared(Classifier):
    """Its loss has no bound."""

    def losses_of(self, batch, training):
        logits = self.network(batch["x"], training=training)
        return {
            "loss": keras.ops.mean(keras.ops.square(logits - keras.ops.sum(batch["x"], axis=-1, keepdims=True)), -1)
        }


def step_of(example: int) -> tuple[int, int]:
    """The update of the first epoch that has this example, and its row."""
    data = PointsData()
    data.setup("fit")
    batch, row = np.argwhere(data.train_dataset().indices(0, 0) == example)[0]
    return int(batch) + 1, int(row)


def test_a_row_with_nan_is_found(tmp_path):
    step, row = step_of(11)
    with pytest.raises(lk.NonFiniteLossError) as caught:
        trained(Classifier(), Poisoned(), tmp_path, checkpoint_every_n_steps=1)
    (run,) = (tmp_path / "classifier").iterdir()
    assert str(caught.value).endswith(f"lightkeras replay {run} --step {step}")
    found = inspect(run, step, without=[row])
    (look,) = found.looks
    assert look.rows.alone and look.rows.far() == {row: ["loss not finite", "gradient not finite"]}
    assert found.moment.examples[row] == 11 and np.isnan(found.examples[row]["x"]).any()
    assert np.isfinite(found.without[1][0]["loss"])
    assert str(look.origin) == f"NaN or infinity is in the data: entry 'x' of row {row}."
    assert [one.name for one in look.layers if one.not_finite] == ["sequential/hidden", "sequential/head"]


class Rooted(Classifier):
    """Its forward pass, or its backward pass alone, is not finite where the first number of a row is 0."""

    def __init__(self, forward: bool = True):
        super().__init__()

    def losses_of(self, batch, training):
        hidden = self.network(batch["x"], training=training)[:, 0] * batch["x"][:, 0]
        given = 1 / hidden if self.hparams["forward"] else keras.ops.sqrt(keras.ops.abs(hidden))
        return {"loss": given, "accuracy": given}


class Zero(PointsData):
    """Points of which one has a 0."""

    def setup(self, stage):
        super().setup(stage)
        self.x[11, 0] = 0.0


@pytest.mark.parametrize(("forward", "place"), [
    (True, r"forward pass: operation RealDiv, in the loss function"),
    (False, r"backward pass: operation \w+, in the gradients of sequential/"),
])  # fmt: skip
def test_the_first_operation_that_is_not_finite_is_named(forward, place, tmp_path):
    step, row = step_of(11)
    with pytest.raises(lk.NonFiniteLossError):
        trained(Rooted(forward), Zero(), tmp_path)
    (run,) = (tmp_path / "rooted").iterdir()
    (look,) = inspect(run, step).looks
    assert look.origin and re.search(place, str(look.origin))
    assert [one for one, reasons in look.rows.far().items() if "not finite" in reasons[-1]] == [row]


def test_a_row_with_a_huge_loss_is_found_and_what_would_be_without_it(tmp_path):
    step, row = step_of(11)
    run, _ = trained(Squared(), Poisoned(value=300.0), tmp_path)
    found = inspect(run, step, 2, without=[row])
    (look,) = found.looks
    ((far, reasons),) = look.rows.far().items()
    assert far == row and re.fullmatch(r"loss \S+ times the median", reasons[0])
    rows, others = found.without
    assert rows == [row] and len(others) == 2
    kept = [look.rows.losses["loss"][one] for one in range(8) if one != row and look.rows.weights["loss"][one] > 0]
    assert others[0]["loss"] == pytest.approx(np.mean(kept), rel=1e-5) and others[0]["loss"] < found.updates[0]["loss"]


def test_values_that_are_far_from_the_others():
    values = np.array([1.0, 1.1, 0.9, 1.2, 1.05, 9.0, -np.inf, np.nan])
    assert find_far(values) == {7: "not finite", 5: "8.37 times the median"}
    assert find_far(np.array([1.0, 1.0, 1.0, 1.0, 1.1])) == {}  # equal but for a little
    assert find_far(np.random.default_rng(0).normal(5, 1, 64)) == {}


def test_the_command(toy, tmp_path, capsys):
    run, _ = toy
    target = tmp_path / "saved"
    before = files_of(run)
    assert main(["replay", str(run), "--step", "8", "--steps", "2", "--without", "0", "--save", str(target)]) == 0
    told = capsys.readouterr().out
    assert "Equal to the bit: " in told and "Without row 0 of update 8" in told and "sequential/head/kernel" in told
    assert f"Saved: {target}" in told and files_of(run) == before
    with np.load(target / "inputs.npz") as inputs, np.load(target / "gradients.npz") as gradients:
        assert inputs["x"].shape == (8, 4) and "example" in inputs
        assert gradients["sequential/hidden/kernel"].shape == (4, 5)
    with np.load(target / "activations.npz") as outputs:
        assert outputs["sequential/head"].shape == (8, 2)
    assert main(["replay", str(run), "--step", "8", "--save", str(run / "inside")]) == 1
    assert "a new folder, not in that of the run" in capsys.readouterr().err


def test_op_by_op(toy):
    compiled, eager = inspect(toy[0], 12), inspect(toy[0], 12, eager=True)
    for name, value in compiled.looks[0].rows.losses.items():
        np.testing.assert_allclose(eager.looks[0].rows.losses[name], value, rtol=1e-5)


# ---- what cannot be


def test_what_cannot_be_executed_again_is_said_before(toy, tmp_path):
    run, _ = toy
    with pytest.raises(lk.utils.ArgumentError, match=r"`step` to be an update of the run .*, which made 13"):
        lk.replay(run, 14)
    with pytest.raises(lk.utils.ArgumentError, match="a positive int"):
        lk.replay(run, 0)
    with pytest.raises(lk.utils.ArgumentError, match=r"a run's folder, with its config\.yaml"):
        lk.replay(tmp_path, 1)
    with pytest.raises(lk.utils.ArgumentError, match=r"those of the run .*size: 37 then, 36 now"):
        lk.replay(run, 12, data=PointsData(36))
    with pytest.raises(lk.utils.ArgumentError, match="different rows of the batch, from 0 to 7"):
        inspect(run, 8, without=[8])


def test_a_run_without_checkpoints_begins_at_its_beginning(tmp_path):
    run, states = trained(Classifier(), PointsData(), tmp_path, enable_checkpointing=False,
                          checkpoint_every_n_steps=None)  # fmt: skip
    moment = lk.replay(run, 4)
    assert moment.began == 0
    assert_state(moment.task, states[3])


def test_a_stream_that_cannot_be_read_again(tmp_path):
    def batches():
        for _ in range(20):
            yield X[:8], Y[:8]

    trainer = quiet(tmp_path, max_steps=4, limit_train_batches=4)
    trainer.fit(build(), batches())
    with pytest.raises(lk.utils.ArgumentError, match="can be read only once"):
        lk.replay(trainer.run_dir, 2, task=build(), data=batches(), limit_train_batches=4)


def test_a_difference_is_said_with_its_reason(toy, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(toy[0], run)
    text = (run / "metrics.csv").read_text()
    loss = text.splitlines()[-1].split(",")[2] or text.splitlines()[-2].split(",")[2]
    (run / "metrics.csv").write_text(text.replace(loss, f"{float(loss) + 1e-7!r}"))
    told = [json.loads(line) for line in (run / "timeline.jsonl").read_text().splitlines()]
    told[0]["versions"]["tensorflow"] = "2.18.0"
    (run / "timeline.jsonl").write_text("".join(json.dumps(one) + "\n" for one in told))
    compared = str(inspect(run, 13).compared)
    assert "Differs by rounding" in compared and "tensorflow was 2.18.0, is " in compared
