"""Makes a notebook of its percent script, and executes it.

`PYTHONPATH=tests python -m helpers.notebooks tasks/text_generation/text_generation.py` writes the notebook beside the
script, with the outputs. What programs write to stderr is left out.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

SECONDS = 3600  # of a cell


def execute(script: Path, folder: Path, values: dict[str, Any] | None = None) -> nbformat.NotebookNode:
    """Returns the notebook of a percent script, executed in `folder`.

    Args:
        script: The script.
        folder: The working directory of the kernel.
        values: Variables to set after the cell with the tag "parameters".
    """
    notebook = jupytext.read(script)
    if values:
        (place,) = [n for n, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ())]
        code = "\n".join(f"{name} = {value!r}" for name, value in values.items())
        notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(code))
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(folder)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    return notebook


def main(paths: list[str]) -> None:
    """Executes the scripts, each in a folder that is deleted then, and writes the notebooks."""
    for path in map(Path, paths):
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(path, Path(folder))
        nbformat.write(notebook, path.with_suffix(".ipynb"))
        print(f"Wrote {path.with_suffix('.ipynb')}")


if __name__ == "__main__":
    main(sys.argv[1:])
