"""The learning-rate range test, and the largest batch that fits."""

import keras
import numpy as np
import pytest
from helpers.small import Small, in_order, linear, points, squares
from helpers.toys import Classifier, PointsData
from helpers.tuning_toys import TooLarge

import lightkeras as lk
from lightkeras.cli import main as cli
from lightkeras.tuning import batch_size_finder, lr_finder


def test_the_suggestion_is_where_the_loss_falls_fastest():
    rates = list(np.logspace(-6, 0, 101))
    smoothed = [1.0 - 0.5 / (1 + np.exp(-4 * (np.log10(rate) + 3))) for rate in rates]  # steepest at 1e-3
    assert lr_finder.suggest_lr(rates, smoothed) == pytest.approx(1e-3)
    assert lr_finder.suggest_lr(rates, list(np.linspace(0, 1, 101))) is None
    assert lr_finder.suggest_lr(rates[:2], [1.0, 0.5]) is None


class Line(lk.DataModule):
    """Points of a linear function."""

    def train_dataset(self):
        return in_order(points(32), 8)


def two_losses(task, batch, training):
    total, weight = squares(task, batch, training)
    return {"first_loss": (total, weight), "second_loss": (total, weight)}


def make_two_optimizers() -> lk.TaskModule:
    """Makes a task with two named optimizers of one layer."""

    class Two(Small):
        def optimizer_variables(self, name):
            return self.network.trainable_variables

    return Two(linear(), two_losses, lambda: {"first": keras.optimizers.SGD(0.0), "second": keras.optimizers.SGD(0.0)})


def test_the_loss_falls_then_diverges():
    found = lk.find_lr(Classifier(units=16), PointsData(), max_lr=1e4, steps=60)
    assert found.optimizer == "loss" and len(found.rates) == len(found.losses) == len(found.smoothed)
    np.testing.assert_allclose(found.rates[:2], [1e-6, 1e-6 * 1e10 ** (1 / 59)], rtol=1e-4)
    assert 1e-4 < found.suggestion < 10
    assert min(found.smoothed) < 0.9 * found.smoothed[0]


def test_a_named_optimizer_alone(tmp_path):
    found = lk.find_lr(make_two_optimizers(), Line(), optimizer="second", min_lr=1e-4, max_lr=10.0, steps=40)
    assert found.optimizer == "second" and len(found.rates) < 40  # it diverged before the last update
    assert found.losses[8] < found.losses[0]  # of the same batch
    found.plot(str(tmp_path / "plot.png"))
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(FileExistsError, match="a new file"):
        found.plot(str(tmp_path / "plot.png"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_lr": 1.0, "max_lr": 0.1}, "min_lr"),
        ({"steps": 2}, "steps"),
        ({"optimizer": "third"}, "first', 'second"),
        ({}, "one of first, second"),
    ],
)
def test_wrong_range_tests(arguments, message):
    with pytest.raises(ValueError, match=message):
        lk.find_lr(make_two_optimizers(), Line(), **arguments)


# ---- batch sizes


def sizes(task_class, **arguments) -> tuple[int, list[tuple[int, bool]]]:
    """Returns the largest size, and every size tried."""
    tried = []
    arguments = {"isolate": False, "trainer": {"run_eagerly": True}, **arguments}
    largest = lk.find_batch_size(task_class, tried=lambda one: tried.append((one.batch_size, one.fits)), **arguments)
    return largest, tried


def test_doubled_then_halved():
    largest, tried = sizes(TooLarge, data={"size": 200}, start=4)
    assert tried == [(4, True), (8, True), (16, True), (32, False), (24, False), (20, True), (22, False)]
    assert largest == 20


def test_multiples_of_replicas_and_micro_batches():
    """2 replicas with 2 micro-batches each; the size is that of all together."""
    trainer = {"devices": 2, "micro_batches": 2, "jit_compile": False}
    largest, tried = sizes(TooLarge, task={"most": 70}, data={"size": 400}, start=30, trainer=trainer, refine=2)
    assert tried == [(28, True), (56, True), (112, False), (84, False), (68, True)] and largest == 68


def test_all_of_the_data_and_the_most():
    assert sizes(Classifier, data={"size": 30}, start=8)[1] == [(8, True), (16, True), (32, True)]
    assert sizes(Classifier, data={"size": 300}, start=8, most=20) == (16, [(8, True), (16, True)])


def test_not_even_one(monkeypatch):
    monkeypatch.setattr(
        batch_size_finder, "_try_size", lambda job, size: batch_size_finder.Try(size, False, None, False)
    )
    with pytest.raises(MemoryError, match="a batch of 1 to fit"):
        lk.find_batch_size(Classifier, isolate=False)


def test_the_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["find_lr", "helpers.toys.Classifier", "--steps", "30", "--max_lr", "10"]) == 0
    assert "Suggested learning rate of loss: " in capsys.readouterr().out and (tmp_path / "find_lr.png").exists()
    arguments = ["find_batch_size", "helpers.toys.Classifier", "--start", "32", "--data.size", "40"]
    assert cli.main(arguments) == 0  # each size in a process of its own
    assert "batch_size 64: fits" in (out := capsys.readouterr().out) and out.endswith("that fits: 64\n")
