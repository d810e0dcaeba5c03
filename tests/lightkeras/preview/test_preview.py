"""`lightkeras show`: what a run will be."""

import io
import re

import keras
import numpy as np
import pytest
from helpers.toys import Classifier, PointsData
from rich.console import Console

import lightkeras as lk
from lightkeras.cli.main import main
from lightkeras.preview import pictures, timing
from lightkeras.preview.examples import draw_example
from lightkeras.preview.preview import Split

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras', of variables


@pytest.fixture(autouse=True)
def few_updates(monkeypatch):
    monkeypatch.setattr(timing, "ENOUGH", 0.05)


class Described(PointsData):
    def show_example(self, example):
        return f"class {example['y']} at {example['x'].round(1)}"


def test_a_task():
    task = Classifier()
    shown = lk.show(task, Described(), max_epochs=4, check_val_every_n_epoch=2, limit_train_batches=3, run_eagerly=True)
    assert shown.title == "Classifier on Described"
    assert shown.splits == [Split("train", 37, 8, 5), Split("validation", 10, 4, 3), Split("test", 10, 4, 3)]
    assert shown.spec == {"weight": "float32 (8,)", "x": "float32 (8, 4)", "y": "int32 (8,)"}
    assert all(re.match(r"class [01] at \[", example) for example in shown.examples) and len(shown.examples) == 3
    assert [one.parameters for one in shown.weights] == [4 * 5 + 5, 5 * 2 + 2] and shown.parameters == 37
    assert shown.weights[0].shapes == "kernel (4, 5), bias (5,)"
    assert (shown.steps_per_epoch, shown.total_steps, shown.validations) == (3, 12, 2)
    first, update, validation = shown.timing
    assert 0 < update < first and validation > 0
    assert shown.seconds == pytest.approx(first + 12 * update + 2 * validation)
    assert not task.built
    assert "  train: 37 examples, 5 batches of 8" in str(shown).splitlines() and str(shown).isascii()


def test_a_plain_model_stays_as_it_is():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    x, before = np.ones((20, 4), np.float32), model.get_weights()
    shown = lk.show(model, (x, x[:, :1]), batch_size=5, max_steps=9)
    assert shown.splits == [Split("train", 20, 5, 4)] and shown.validations == 0
    assert shown.costs[0] == "An update: 80 FLOP in products" and shown.costs[1].startswith("Memory: weights 20 ")
    assert (shown.total_steps, shown.parameters) == (9, 5) and shown.examples[0]["y"].shape == (1,)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    assert int(model.optimizer.iterations) == 0


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["show", "helpers.toys.Classifier", "--trainer.max_epochs", "2", "--trainer.run_eagerly", "true"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.isprintable() and len(line) <= 60 and line == line.rstrip() for line in lines)
    for line in ("  train: 37 examples, 5 batches of 8", "  x: float32 (8, 4)", "  10 updates, 5 an epoch"):
        assert line in lines, lines
    assert any(re.fullmatch(r"  About 0:\d\d in all, without samples and checkpoints", one) for one in lines)
    assert not list(tmp_path.iterdir())


# ---- drawing


def drawn(shown, width=20, **console) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None, **console)
    return [str(line) for line in draw_example(shown, console, width)]


def test_values_as_people_read_them():
    assert drawn({"x": np.arange(10.0) / 4, "y": np.int32(3)}, 60) == [
        "x: float64 (10,): 0 0.25 0.5 0.75 1 1.25 1.5 1.75 ...", "y: 3",
    ]  # fmt: skip
    assert drawn([b"caf\xc3\xa9", np.array("a\x1b[31mb", object)]) == ["café", r"a\x1b[31mb"]
    assert drawn("one two three four five six") == ["one two three four", "five six"]
    assert drawn("\n".join("abcdefgh")) == [*"abcdef", "..."]
    assert drawn({"text": "a\nb"}) == ["text:", "a", "b"]


def test_pictures_as_characters():
    ramp = np.tile(np.linspace(0, 255, 10).round().astype(np.uint8), (8, 1))  # dark on the left
    assert drawn(ramp, 40) == [" .:-=+*#%@"] * 4
    assert drawn(ramp[..., None] / 255.0, 40) == [" .:-=+*#%@"] * 4
    assert drawn(np.zeros((16, 100, 3), np.uint8), 50) == [""] * 3  # 40 columns, 6 rows of pixels
    assert not pictures.is_picture(np.zeros((7, 100))) and not pictures.is_picture(np.zeros((9, 9), np.int32))


def test_pictures_in_colours():
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[0], picture[1] = (255, 0, 0), (0, 0, 255)
    line = pictures.draw_colours(pictures.to_pixels(picture)).split("\n")[0]
    assert str(line) == "▀" * 8 and str(line.spans[0].style) == "#ff0000 on #0000ff"
