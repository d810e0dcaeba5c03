"""Makes a notebook of its percent script, and executes it.

`PYTHONPATH=tests python -m helpers.notebooks tasks/text_generation/text_generation.py` writes the notebook beside the
script, with the outputs. What programs write to stderr is left out, and pictures are made smaller. After a change of
texts, `--texts` before the scripts brings them into the notebooks without an execution.
"""

import base64
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from jupyter_client import KernelManager
from nbclient import NotebookClient
from PIL import Image

SECONDS = 3600  # of a cell
COLOURS = 64  # of a picture
ENTER = "%reset -f\nimport os\nos.chdir({folder!r})"  # in a kernel that has executed another notebook


def execute(
    script: Path, folder: Path, values: dict[str, Any] | None = None, kernel: KernelManager | None = None
) -> nbformat.NotebookNode:
    """Returns the notebook of a percent script, executed in `folder`.

    Args:
        script: The script.
        folder: The working directory of the kernel.
        values: Variables to set after the cell with the tag "parameters".
        kernel: The kernel, which is started if it is not running, and goes on. None: a new one.
    """
    notebook = jupytext.read(script)
    if values:
        (place,) = [n for n, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ())]
        code = "\n".join(f"{name} = {value!r}" for name, value in values.items())
        notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(code))
    if kernel:
        notebook.cells.insert(0, nbformat.v4.new_code_cell(ENTER.format(folder=str(folder))))
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    client = NotebookClient(notebook, km=kernel, timeout=SECONDS, resources={"metadata": {"path": str(folder)}})
    client.execute()
    if kernel:
        client.kc.stop_channels()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = tidy(cell.outputs)
    return notebook


def tidy(outputs: list) -> list:
    """Leaves out stderr, joins what was printed in pieces, and makes pictures smaller."""
    kept = []
    for one in outputs:
        if one.get("name") == "stdout" and kept and kept[-1].get("name") == "stdout":
            kept[-1].text += one.text
        elif one.get("name") != "stderr":
            kept.append(one)
        if "image/png" in one.get("data", {}):
            one.data["image/png"] = shrink(one.data["image/png"])
    return kept


def shrink(png: str) -> str:
    """Reduces the colours of a PNG file, in base64, to `COLOURS`."""
    file = io.BytesIO()
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def renew_texts(script: Path, notebook: nbformat.NotebookNode) -> None:
    """Takes the texts of the script into the notebook; raises ValueError if the code differs."""
    source = jupytext.read(script)
    code, outputs = ([cell for cell in one.cells if cell.cell_type == "code"] for one in (source, notebook))
    if [cell.source for cell in code] != [cell.source for cell in outputs]:
        raise ValueError(f"Expected the code of {script} to be that of its notebook: execute it")
    executed = iter(outputs)
    notebook.cells = [next(executed) if cell.cell_type == "code" else cell for cell in source.cells]


def main(arguments: list[str]) -> None:
    """Executes the scripts, each in a folder that is deleted then, and writes the notebooks."""
    for path in map(Path, arguments[arguments[:1] == ["--texts"] :]):
        written = path.with_suffix(".ipynb")
        if arguments[0] == "--texts":
            notebook = nbformat.read(written, as_version=4)
            renew_texts(path, notebook)
        else:
            with tempfile.TemporaryDirectory() as folder:
                notebook = execute(path, Path(folder))
        nbformat.write(notebook, written)
        print(f"Wrote {written}")


if __name__ == "__main__":
    main(sys.argv[1:])
