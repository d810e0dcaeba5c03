"""The notebooks: executed at toy size, and the outputs that are committed."""

import re
from pathlib import Path

import jupytext
import nbformat
import pytest
from helpers.notebooks import execute
from helpers.source_tree import ROOT, SCRIPT

TOY = {
    "text_generation": {"source": "sample", "epochs": 1, "units": 4},
    "plain_keras_model": {"epochs": 2, "units": 4},
}
SCRIPTS = [path for folder in ("tasks", "lightkeras") for path in sorted((ROOT / folder).rglob("*.py"))]
SCRIPTS = [path for path in SCRIPTS if path.read_text(encoding="utf-8").startswith(SCRIPT)]


def texts(notebook) -> str:
    """All outputs that are texts."""
    outputs = [one for cell in notebook.cells if cell.cell_type == "code" for one in cell.outputs]
    return "\n".join(str(one.get("text") or one.get("data", {}).get("text/plain", "")) for one in outputs)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_runs(script, tmp_path, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    said = texts(execute(script, tmp_path, TOY[script.stem]))
    assert re.search(r"epoch +1/\d+  \d:\d\d  loss \S+  val_loss \S+ \(best\)", said) and "Ended by max_epochs=" in said
    assert list(tmp_path.glob("runs/*/*/checkpoints/*"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_what_is_committed_is_the_script_with_its_outputs(script):
    written: Path = script.with_suffix(".ipynb")
    committed, source = nbformat.read(written, as_version=4), jupytext.read(script)
    assert [(cell.cell_type, cell.source) for cell in committed.cells] == [
        (cell.cell_type, cell.source) for cell in source.cells
    ]
    kinds = [kind for cell in committed.cells if cell.cell_type == "code" for one in cell.outputs
             for kind in one.get("data", {})]  # fmt: skip
    assert "image/png" in kinds and "text/html" in kinds and "Ended by " in texts(committed)
    assert not re.search(r"/(?:home|tmp|work|opt|root)/", written.read_text(encoding="utf-8"))


def test_every_notebook_has_a_script():
    notebooks = [path for folder in ("tasks", "lightkeras") for path in (ROOT / folder).rglob("*.ipynb")]
    assert {path.with_suffix(".py") for path in notebooks} == set(SCRIPTS) == {*SCRIPTS} and set(TOY) == {
        path.stem for path in SCRIPTS
    }
