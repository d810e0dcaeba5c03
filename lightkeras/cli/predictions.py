"""Predictions as a file."""

from pathlib import Path
from typing import Any

import keras
import numpy as np


def save_predictions(outputs: Any, path: Path) -> None:
    """Writes the arrays to an npz file, each under its path in the structure."""
    found = keras.tree.flatten_with_path(outputs)
    named = {"/".join(map(str, place)) or "predictions": rows for place, rows in found}
    with path.open("wb") as file:
        np.savez(file, **named)
    print(f"Wrote {path}: " + ", ".join(f"{name} {rows.shape}" for name, rows in named.items()))
