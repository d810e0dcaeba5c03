"""Compares an export with the task, in a process that can import neither lightkeras nor Keras."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lightkeras.export import reader
from lightkeras.export.endpoints import Endpoint
from lightkeras.utils.checks import ArgumentError

TOLERANCE = 1e-5  # of numbers, relative to the larger one of 1 and the task's own
ABSENT = ("keras", "tf_keras", "lightkeras", "tasks")
BLOCKED = {
    "saved_model": ABSENT, "onnx": (*ABSENT, "tensorflow"), "litert": (*ABSENT, "tensorflow"),
    "keras": ("tf_keras", "lightkeras", "tasks"),
}  # fmt: skip


class ExportError(ArgumentError):
    """An export that does not give what the task gives, or cannot be made."""


class Compared(NamedTuple):
    """How an export did.

    Attributes:
        differences: The largest difference of each endpoint's numbers; texts are equal.
        seconds: Of loading ("load") and of one call ("ENDPOINT/NUMBER") in the other process.
    """

    differences: dict[str, float]
    seconds: dict[str, float]


def compare(folder: Path, form: str, endpoints: Mapping[str, Endpoint], imports: Sequence[str] = ()) -> Compared:
    """Calls every endpoint of an export in another process with its trials.

    Args:
        folder: The export.
        form: Its format.
        endpoints: What it was made from.
        imports: Modules that the other process must import; without any it can import neither lightkeras nor tasks.

    Raises:
        ExportError: An endpoint fails there or gives other results than the task; it is named.
    """
    trials = {name: endpoint.trials() for name, endpoint in endpoints.items()}
    inputs = {
        (name, number, argument): value
        for name, calls in trials.items()
        for number, call in enumerate(calls)
        for argument, value in call.items()
    }
    outputs, report = call_elsewhere(folder, form, inputs, imports)
    differences = {}
    for name, endpoint in endpoints.items():
        for number, expected in enumerate(endpoint.expected()):
            for output, value in expected.items():
                where = f'endpoint "{name}" (output "{output}", trial {number + 1})'
                found = _difference(outputs.get((name, number, output)), value, where)
                differences[name] = max(differences.get(name, 0.0), found)
    return Compared(differences, report["seconds"])


def call_elsewhere(folder: Path, form: str, inputs: dict, imports: Sequence[str] = ()) -> tuple[dict, dict[str, Any]]:
    """Calls the endpoints in another process: (outputs by endpoint, number of the call and name; its report)."""
    with tempfile.TemporaryDirectory() as place:
        paths = {name: str(Path(place, file)) for name, file in FILES.items()}
        reader.pack(paths["inputs"], inputs)
        job = {"folder": str(folder), "format": form, "blocked": () if imports else BLOCKED[form], **paths}
        if imports:
            job |= {"imports": [*imports], "import_paths": [os.path.abspath(path) for path in sys.path]}
        Path(place, "job.json").write_text(json.dumps(job), encoding="utf-8")
        command = [sys.executable, "-I", reader.__file__, str(Path(place, "job.json"))]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            called = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("calling ")]
            where = f'its endpoint "{called[-1]}"' if called else "it"
            said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise ExportError(f"Expected the export to run in another process. Received: {where} fails: {said}")
        report = json.loads(Path(paths["report"]).read_text(encoding="utf-8"))
        return reader.unpack(paths["outputs"]), report


FILES = {"inputs": "inputs.npz", "outputs": "outputs.npz", "report": "report.json"}


def _difference(found: Any, expected: np.ndarray, where: str) -> float:
    """Returns the largest difference of numbers; 0 for equal texts."""
    if found is None or found.shape != expected.shape:
        received = "nothing" if found is None else f"the shape {found.shape}"
        raise ExportError(f"Expected {where} of the export to have the shape {expected.shape}. Received: {received}")
    if expected.dtype.kind in "OSU":
        for one, other in zip(found.ravel(), expected.ravel(), strict=True):
            other = other if isinstance(other, bytes) else str(other).encode()
            if one != other:
                raise ExportError(
                    f"Expected {where} of the export to be the task's own {other.decode()!r}. Received: "
                    f"{one.decode(errors='replace')!r}"
                )
        return 0.0
    return _numeric_difference(found.astype(np.float64), expected, where)


def _numeric_difference(found: np.ndarray, expected: np.ndarray, where: str) -> float:
    allowed = {"u": 1.0, "i": 0.0, "b": 0.0}.get(expected.dtype.kind, TOLERANCE)  # one level of a pixel that is rounded
    expected = expected.astype(np.float64)
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))  # infinities too
    with np.errstate(invalid="ignore"):
        differences = np.where(same, 0.0, np.abs(found - expected) / np.maximum(1.0, np.abs(expected)))
    largest = float(np.max(differences, initial=0.0))
    if not largest <= allowed:
        raise ExportError(
            f"Expected {where} of the export to equal the task's own to {allowed:g}. Received: a difference of "
            f"{largest:g}"
        )
    return largest
