"""Writes what was seen of an update to a folder: arrays, and the pictures of the batch."""

import os
import pathlib
from typing import Any

import numpy as np

from lightkeras.data.batches import named_entries
from lightkeras.replaying.drawing import order_of_rows, write_inspection
from lightkeras.replaying.grid import pictures_of, save_grid
from lightkeras.replaying.inspection import Inspection
from lightkeras.utils.checks import require


def require_new_folder(folder: str | os.PathLike, run: str | os.PathLike) -> pathlib.Path:
    """Returns the path of a folder that may be made.

    Raises:
        ValueError: It exists, or lies in the run's folder, in which a replay writes nothing.
    """
    path = pathlib.Path(os.path.expanduser(folder))
    inside = pathlib.Path(os.fspath(run)).resolve() in path.resolve().parents
    require(not path.exists() and not inside, "save", "a new folder, not in that of the run", os.fspath(folder))
    return path


def save(inspection: Inspection, folder: pathlib.Path) -> None:
    """Writes all of it: the text, the arrays, and a picture where the data shows pictures.

    There are `inputs.npz`, and for each update in the step `gradients.npz`, `activations.npz` and `rows.npz`, with a
    number where there are several. Entries are named as in the batch, and by the paths of variables and layers.
    """
    folder.mkdir(parents=True)
    moment = inspection.moment
    inputs: dict[str, Any] = {name: np.asarray(one) for name, one in named_entries(moment.batch).items()}
    numbers = {} if moment.examples is None else {"example": moment.examples}
    _write(folder / "inputs.npz", {**inputs, **numbers})
    for number, look in enumerate(inspection.looks, 1):
        behind = "" if len(inspection.looks) == 1 else f"_{number}"
        _write(folder / f"gradients{behind}.npz", look.gradients)
        _write(folder / f"activations{behind}.npz", look.activations)
        rows = look.rows
        named = {"losses": rows.losses, "gradient_norms": rows.norms, "weights": rows.weights}
        arrays = {f"{what}/{name}": values for what, of in named.items() for name, values in of.items()}
        _write(folder / f"rows{behind}.npz", arrays)
    (folder / "update.txt").write_text(write_inspection(inspection) + "\n", encoding="utf-8")
    pictures = {row: some[0] for row, shown in enumerate(inspection.examples) if (some := pictures_of(shown))}
    if pictures:
        far = set(order_of_rows(inspection.looks[0])[1]) if inspection.looks else set()
        save_grid(folder / "rows.png", pictures, far)


def _write(path: pathlib.Path, arrays: dict[str, Any]) -> None:
    np.savez(path, **arrays)
