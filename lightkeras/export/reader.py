"""Reads an export in a process that can import neither lightkeras nor Keras: `python -I reader.py JOB.json`.

The job is a file of JSON: folder, format, the packages that may not be imported, an npz file of inputs and one for the
outputs. Needs the standard library, NumPy, and what the format needs: TensorFlow, onnxruntime, ai-edge-litert or Keras.
"""

import base64
import importlib
import importlib.abc
import importlib.machinery
import json
import sys
import time
from pathlib import Path

import numpy as np

REPEATS = 3  # timed calls of each trial


def pack(path, calls: dict) -> None:
    """Writes arrays by (endpoint, number of the call, name) to an npz file; bytes as base64."""
    arrays = {}
    for (endpoint, call, name), value in calls.items():
        value = np.asarray(value)
        is_text = value.dtype.kind in "OSU"
        if is_text:
            coded = [base64.b64encode(_as_bytes(one)) for one in value.ravel()]
            value = np.array(coded, "S").reshape(value.shape)
        elif value.dtype.kind not in "biuf":  # bfloat16
            value = value.astype(np.float32)
        arrays[f"{endpoint}/{call}/{name}/{'text' if is_text else 'number'}"] = value
    np.savez(path, **arrays)


def unpack(path) -> dict:
    """Reads what `pack` has written."""
    calls = {}
    with np.load(path, allow_pickle=False) as file:
        for key in file.files:
            endpoint, call, name, kind = key.split("/")
            value = file[key]
            if kind == "text":
                decoded = [base64.b64decode(one) for one in value.ravel()]
                texts = np.empty(len(decoded), object)
                texts[:] = decoded
                value = texts.reshape(value.shape)
            calls[endpoint, int(call), name] = value
    return calls


def _as_bytes(value) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


class Blocker(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Makes the import of packages fail, without hiding that they exist: TensorFlow looks for Keras' folder."""

    def __init__(self, names):
        self.names = set(names)

    def find_spec(self, fullname, path, target=None):
        """Finds the packages that are blocked."""
        if fullname.split(".")[0] not in self.names:
            return None
        spec = importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        spec.submodule_search_locations = [""]
        return spec

    def create_module(self, spec):
        """Fails."""
        raise ImportError(f"the export needs {spec.name}, which its readers do not have")

    def exec_module(self, module):
        """Is never called."""


def open_saved_model(folder: Path, names: list[str]) -> dict:
    """Returns a function for each endpoint of a SavedModel."""
    import tensorflow as tf

    model = tf.saved_model.load(str(folder))

    def caller(name):
        def call(inputs):  # it keeps the model, without which its functions lose their variables
            return {key: value.numpy() for key, value in getattr(model, name)(**inputs).items()}

        return call

    return {name: caller(name) for name in names}


def open_onnx(folder: Path, names: list[str]) -> dict:
    """Returns a function for each `NAME.onnx`."""
    import onnxruntime  # pyright: ignore[reportMissingImports]

    def caller(name):
        session = onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
        wanted = [output.name for output in session.get_outputs()]
        used = {entry.name for entry in session.get_inputs()}

        def call(inputs):
            given = {key: value for key, value in inputs.items() if key in used}
            return dict(zip(wanted, session.run(wanted, given), strict=True))

        return call

    return {name: caller(name) for name in names}


def open_litert(folder: Path, names: list[str]) -> dict:
    """Returns a function for each `NAME.tflite`."""
    from ai_edge_litert.interpreter import Interpreter  # pyright: ignore[reportMissingImports]

    def caller(name):
        runner = Interpreter(str(folder / f"{name}.tflite")).get_signature_runner(name)
        return lambda inputs: runner(**inputs)

    return {name: caller(name) for name in names}


def open_keras(folder: Path, names: list[str]) -> dict:
    """Returns a function for each endpoint of the task in `model.keras`, or `serve` of a plain model."""
    import keras

    model = keras.saving.load_model(folder / "model.keras", compile=False)

    def serve(**inputs):
        values = [*inputs.values()]  # the file may not keep their names
        found = model(values[0] if len(values) == 1 else values, training=False)
        return {f"output_{number}": value for number, value in enumerate(keras.tree.flatten(found))}

    def caller(function):
        def call(inputs):
            given = {name: keras.ops.convert_to_tensor(value) for name, value in inputs.items()}
            return {key: value.numpy() for key, value in function(**given).items()}

        return call

    if hasattr(model, "exports"):
        endpoints = model.exports()
        return {name: caller(endpoints[name].trace()) for name in names}
    return {"serve": caller(serve)}


OPENERS = {"saved_model": open_saved_model, "onnx": open_onnx, "litert": open_litert, "keras": open_keras}
PACKAGES = {
    "saved_model": "tensorflow",
    "onnx": "onnxruntime",
    "litert": "ai_edge_litert.interpreter",
    "keras": "keras",
}


def main(path: str) -> None:
    """Does the job: writes every output, and prints the seconds of loading and of each call."""
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    sys.meta_path.insert(0, Blocker(job["blocked"]))
    sys.path += job.get("import_paths", [])
    for name in [PACKAGES[job["format"]], *job.get("imports", [])]:
        importlib.import_module(name)  # not timed
    calls = {}
    for (endpoint, call, name), value in unpack(job["inputs"]).items():
        calls.setdefault((endpoint, call), {})[name] = value
    began = time.perf_counter()
    functions = OPENERS[job["format"]](Path(job["folder"]), list(dict.fromkeys(endpoint for endpoint, _ in calls)))
    seconds, outputs = {"load": time.perf_counter() - began}, {}
    for (endpoint, call), inputs in calls.items():
        print(f"calling {endpoint}", flush=True)
        found = functions[endpoint](inputs)
        outputs |= {(endpoint, call, name): value for name, value in found.items()}
        began = time.perf_counter()
        for _ in range(REPEATS):
            functions[endpoint](inputs)
        seconds[f"{endpoint}/{call}"] = (time.perf_counter() - began) / REPEATS
    pack(job["outputs"], outputs)
    Path(job["report"]).write_text(json.dumps({"seconds": seconds}), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
