"""`export`: from a task to a folder that other programs read."""

import contextlib
import copy
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from lightkeras.distribution.replicas import num_replicas
from lightkeras.export import card, check, converting, folders, keras_file, saved_model
from lightkeras.export.check import Compared, ExportError
from lightkeras.export.endpoints import Endpoint
from lightkeras.utils import internals
from lightkeras.utils.checks import require, require_choice
from lightkeras.version import __version__

WRITERS = {"saved_model": saved_model.write, "onnx": converting.write_onnx, "litert": converting.write_litert}
FORMATS = (*WRITERS, "keras")


def export(model: Any, folder: str | os.PathLike, format: str = "saved_model") -> Compared:
    """Exports a trained task, and compares the export with it in a process without lightkeras and Keras.

    Args:
        model: A task with `exports()`; or a `keras.Model` that is built, which has one endpoint, `serve`.
        folder: A new folder. It appears when it is complete and compared.
        format: One of `FORMATS`.

    Returns:
        Differences and seconds, by endpoint.

    Raises:
        ExportError: An endpoint cannot be written, or gives other results than the task.
        FileExistsError: The folder exists.
        ImportError: The packages of the format are not installed; the line that installs them is named.
        ValueError: Unknown format, or a task without `exports()`.
    """
    return export_with(model, folder, format, getattr(model, "read_run_facts", dict)())


def require_format(name: str, form: Any) -> None:
    """Rejects what is none of `FORMATS` as the argument `name`, and one whose packages are not installed."""
    require_choice(name, form, FORMATS)
    converting.require_extra(form)


def export_with(model: Any, folder: str | os.PathLike, form: str, run: Mapping[str, Any]) -> Compared:
    """Does `export`, for a model of the run with these facts: "step", "metrics" and "data"."""
    require_format("format", form)
    path = folders.new_folder(folder)
    with _on_one_device(model) as model, folders.written_whole(path) as partial:
        every = find_endpoints(model)
        tables = _find_tables(model)
        endpoints = {
            name: dataclasses.replace(endpoint, tracked=(*endpoint.tracked, *tables))
            for name, endpoint in every.items()
            if endpoint.has_format(form)
        }
        expected = f"one of those with an endpoint: {', '.join(_formats_of(every))}"
        require(bool(endpoints), "format", expected, form)
        return _write(model, endpoints, partial, form, run)


def _find_tables(model: Any) -> list[Any]:
    """Returns the lookup tables of layers such as `StringLookup`, which are no variables."""
    layers = internals.flatten_layers(model) if isinstance(model, keras.Model) else []
    kept = [value for layer in layers for value in vars(layer).values()]
    return [value for value in kept if isinstance(value, tf.saved_model.experimental.TrackableResource)]


def _formats_of(endpoints: Mapping[str, Endpoint]) -> list[str]:
    return [form for form in FORMATS if any(endpoint.has_format(form) for endpoint in endpoints.values())]


def _write(model: Any, endpoints: Mapping[str, Endpoint], folder: Path, form: str, run: Mapping[str, Any]) -> Compared:
    imports = keras_file.write(folder, model) if form == "keras" else []
    if form in WRITERS:
        WRITERS[form](folder, endpoints)
    if data := getattr(model, "data", None):
        folders.write_vocabulary(folder, data)
    example = card.write_example(folder, form, endpoints, imports)
    facts = {
        "name": internals.to_snake_case(type(model).__name__), "version": __version__, "format": form,
        "endpoints": card.describe_endpoints(endpoints), "run": run, "imports": imports,
    }  # fmt: skip
    card.write_readme(folder, facts, example)
    compared = check.compare(folder, form, endpoints, imports)
    facts["compared"] = {"differences": compared.differences}
    folders.write_card(folder, facts)
    return compared


@contextlib.contextmanager
def _on_one_device(model: Any):
    """Gives the model with the weights that are judged: averages; a copy on one device, if it has several."""
    if not hasattr(model, "averaged_weights"):
        yield model
        return
    with model.averaged_weights():
        yield copy.deepcopy(model) if num_replicas(model.distribute_strategy) > 1 else model


def find_endpoints(model: Any) -> dict[str, Endpoint]:
    """Returns the endpoints of a task by name; of a `keras.Model`, `serve`.

    Raises:
        ValueError: A task that is not built, or without `exports()`; a model of unknown inputs.
    """
    named = type(model).__name__
    require(getattr(model, "built", False), "task", "built: trained, or loaded from a checkpoint", named)
    if not hasattr(model, "exports"):
        return {"serve": _serve(model)}
    endpoints = model.exports()
    expected = "a method that returns a `lk.export.Endpoint` for each name"
    correct = isinstance(endpoints, dict) and endpoints and all(isinstance(e, Endpoint) for e in endpoints.values())
    require(bool(correct), f"{named}.exports()", expected, endpoints)
    return endpoints


def _serve(model: Any) -> Endpoint:
    known = isinstance(model, keras.Model) and bool(getattr(model, "inputs", None))
    require(known, "model", "a task, or a functional or sequential `keras.Model`", model)
    names = [tensor.name for tensor in model.inputs]
    signature = {
        name: tf.TensorSpec(tensor.shape, tensor.dtype) for name, tensor in zip(names, model.inputs, strict=True)
    }

    def serve(**inputs):
        values = [inputs[name] for name in names]
        outputs = keras.tree.flatten(model(values[0] if len(values) == 1 else values, training=False))
        return {f"output_{number}": value for number, value in enumerate(outputs)}

    return Endpoint(serve, signature)


__all__ = ["FORMATS", "ExportError", "export", "find_endpoints"]
