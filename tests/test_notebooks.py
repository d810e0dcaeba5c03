"""The notebooks: executed at toy size, and the outputs that are committed."""

import re
from pathlib import Path

import jupytext
import nbformat
import pytest
from helpers.notebooks import execute, renew_texts, tidy
from helpers.source_tree import ROOT, SCRIPT
from jupyter_client import KernelManager

TOY = {
    "captioning": {"source": "sample", "scenes": 80, "epochs": 1, "scene_epochs": 1, "units": 4},
    "dcgan": {"source": "sample", "epochs": 1, "filters": 4},
    "text_generation": {"source": "sample", "epochs": 1, "units": 4},
    "translation": {"source": "sample", "epochs": 1, "units": 4},
    "plain_keras_model": {"epochs": 2, "units": 4},
}
SCRIPTS = [path for folder in ("tasks", "lightkeras") for path in sorted((ROOT / folder).rglob("*.py"))]
SCRIPTS = [path for path in SCRIPTS if path.read_text(encoding="utf-8").startswith(SCRIPT)]


RESULTS = {  # what the last cells print, whatever the training was
    "dcgan": (r"stopped after 7 updates, resumed, 12 in the end\n(\d+) of \1 arrays",),
    "translation": (r"After 8 updates, none of \d+ arrays of weights differs by more than \de-0[789]",),
    "plain_keras_model": (r"(\d+) of \1 arrays of weights are equal to the last bit",),
}


def texts(notebook) -> str:
    """All outputs that are texts."""
    outputs = [one for cell in notebook.cells if cell.cell_type == "code" for one in cell.outputs]
    return "\n".join(str(one.get("text") or one.get("data", {}).get("text/plain", "")) for one in outputs)


@pytest.fixture(scope="module")
def kernel():
    """One kernel for all notebooks: TensorFlow is imported once."""
    manager = KernelManager(kernel_name="python3")
    yield manager
    manager.shutdown_kernel(now=True)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_runs(script, tmp_path, monkeypatch, kernel):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    said = texts(execute(script, tmp_path, TOY[script.stem], kernel))
    assert re.search(r"epoch +1/\d+  \d:\d\d  \w+ [\d.]+  \w+ [\d.]+ ", said) and "Ended by max_epochs=" in said
    assert list(tmp_path.glob("runs/*/*/checkpoints/*"))
    for sentence in RESULTS.get(script.stem, ()):
        assert re.search(sentence, said)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_what_is_committed_is_the_script_with_its_outputs(script):
    written: Path = script.with_suffix(".ipynb")
    committed, source = nbformat.read(written, as_version=4), jupytext.read(script)
    assert [(cell.cell_type, cell.source) for cell in committed.cells] == [
        (cell.cell_type, cell.source) for cell in source.cells
    ]
    kinds = [kind for cell in committed.cells if cell.cell_type == "code" for one in cell.outputs
             for kind in one.get("data", {})]  # fmt: skip
    assert {"image/png", "image/jpeg"} & {*kinds} and "text/html" in kinds and "Ended by " in texts(committed)
    whole = written.read_text(encoding="utf-8")
    assert not re.search(r"/(?:home|tmp|work|opt|root)/|WARNING|Warning", whole) and len(whole) < 600_000


def test_every_notebook_has_a_script():
    notebooks = [path for folder in ("tasks", "lightkeras") for path in (ROOT / folder).rglob("*.ipynb")]
    assert {path.with_suffix(".py") for path in notebooks} == set(SCRIPTS) == {*SCRIPTS} and set(TOY) == {
        path.stem for path in SCRIPTS
    }


def test_texts_are_renewed_and_outputs_kept(tmp_path):
    script = tmp_path / "one.py"
    script.write_text("# %% [markdown]\n# # New text\n\n# %%\nx = 1\n", encoding="utf-8")
    code = nbformat.v4.new_code_cell("x = 1", outputs=[nbformat.v4.new_output("stream", text="kept")])
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Old"), code])
    renew_texts(script, notebook)
    assert [cell.source for cell in notebook.cells] == ["# New text", "x = 1"] and notebook.cells[1].outputs[
        0
    ].text == "kept"
    notebook.cells[1].source = "x = 2"
    with pytest.raises(ValueError, match="execute it"):
        renew_texts(script, notebook)


def test_what_was_printed_in_pieces_is_joined_without_stderr():
    pieces = [("stdout", "a"), ("stderr", "noise"), ("stdout", "b")]
    joined = tidy([nbformat.v4.new_output("stream", name=name, text=text) for name, text in pieces])
    assert [(one.name, one.text) for one in joined] == [("stdout", "ab")]
