"""The display of a run in a notebook's cell."""

import base64
import re
import sys
from types import ModuleType, SimpleNamespace

import pytest
from helpers.toys import Classifier, PointsData, quiet
from PIL import Image

import lightkeras as lk
from lightkeras.callbacks import defaults
from lightkeras.callbacks.notebook_progress import draw_curves, draw_sample, in_notebook, thin

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras', of variables


class Cell:
    """Takes the place of IPython: keeps what is displayed."""

    def __init__(self, monkeypatch, kernel=True):
        self.shown = []
        shell = SimpleNamespace(config={"IPKernelApp": {}} if kernel else {})
        ipython, displays = ModuleType("IPython"), ModuleType("IPython.display")
        ipython.get_ipython, displays.display = lambda: shell, self.display
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        monkeypatch.setitem(sys.modules, "IPython.display", displays)

    def display(self, bundle, raw, display_id):
        assert raw and display_id
        self.shown.append(bundle)
        return SimpleNamespace(update=lambda bundle, raw: self.shown.append(bundle))


class Writes(Classifier):
    def write_samples(self, folder, name):
        (folder / f"{name}.txt").write_text("a <b> & ש\n", encoding="utf-8")


def test_a_run_in_a_cell(root, monkeypatch, capsys):
    cell = Cell(monkeypatch)
    trainer = quiet(root, max_epochs=2, enable_progress_bar=True, run_eagerly=True, log_every_n_steps=2)
    trainer.fit(Writes(), PointsData())
    first, last = cell.shown[0], cell.shown[-1]
    assert "epoch 1/2" in first["text/plain"] and "polyline" not in first["text/html"]
    lines = last["text/plain"].splitlines()
    assert len(lines) == 2 and all(re.match(r"epoch [12]/2  \d:\d\d  loss .*\(best\)", line) for line in lines)
    assert last["text/html"].count("<polyline") == 3 and "val_loss" in last["text/html"]
    assert "epoch_0002" in last["text/html"] and "a &lt;b&gt; &amp; ש" in last["text/html"]
    assert any("epoch_0001" in one["text/html"] and "epoch 2/2" in one["text/plain"] for one in cell.shown)
    assert capsys.readouterr().out.startswith("Ended by max_epochs=2; best val_loss ")


def test_it_is_chosen_in_a_notebook_alone(monkeypatch):
    assert not in_notebook() and type(defaults.make_progress()) is lk.callbacks.ProgressBar
    Cell(monkeypatch, kernel=False)  # IPython in a terminal
    assert not in_notebook()
    Cell(monkeypatch)
    assert type(defaults.make_progress()) is lk.callbacks.NotebookProgress


def test_curves_say_what_they_show():
    svg = draw_curves({"loss": [(0, 2.0), (10, 1.0)], "<x>": [(5, 3.0), (10, 1.5)]})
    assert 'points="0.0,70.0 560.0,140.0"' in svg and 'points="280.0,0.0 560.0,105.0"' in svg
    assert "&lt;x&gt; 1.5" in svg and "<x>" not in svg and "1 to 3, updates 0 to 10" in svg
    assert draw_curves({}) == "" and 'points="0.0,140.0 0.0,140.0"' in draw_curves({"flat": [(3, 1.0), (3, 1.0)]})
    assert thin([(n, 0.0) for n in range(10)], 4) == [(0, 0.0), (3, 0.0), (6, 0.0), (9, 0.0)]


def test_samples_are_texts_or_pictures(tmp_path):
    Image.new("L", (2, 2)).save(picture := tmp_path / "epoch_0003.png")
    assert base64.b64encode(picture.read_bytes()).decode() in draw_sample(picture)
    (text := tmp_path / "epoch_0004.txt").write_text("<script>", encoding="utf-8")
    assert "&lt;script&gt;" in draw_sample(text) and "<script>" not in draw_sample(text)
