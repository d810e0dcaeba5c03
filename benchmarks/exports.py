"""Exports of the tasks in every format: size, processor time to load, difference, speed beside the task itself.

Each task is trained for `--updates` updates of `--preset`, or taken from `--run`, the folder of a run of the only task,
and exported in each of `--formats`. In each of `--rounds`, the task makes a call and the export makes the same one; the
samples are the ratios of their speeds. A SavedModel and Keras' file hold all endpoints: their size is that of all.
"""

import importlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command, presets, report

TASKS = ("text_generation", "dcgan", "translation", "captioning")
DEFAULTS = {
    "tasks": ",".join(TASKS), "preset": "sample", "updates": 50, "run": "", "formats": "saved_model,onnx,litert,keras",
}  # fmt: skip
OURS = "the task"
FILES = {"saved_model": "saved_model", "onnx": "{endpoint}.onnx", "litert": "{endpoint}.tflite", "keras": "model.keras"}
WORK = {  # what a call does, where it is more or less than the trial of the export
    "prompt": lambda prompts: prompts[:1],  # the task takes one at a time
    "length": lambda _: 500,
    "n": lambda _: 64,
    "sentences": lambda sentences: [*sentences] * 4,
}


def train(name: str, chosen, folder: str) -> str:
    """Trains a task, and returns the folder of its run."""
    import lightkeras as lk

    arguments = presets.read(name, chosen.preset)
    task, data = presets.build(name, arguments)
    limits = {"max_epochs": None, "max_steps": chosen.updates, "limit_val_batches": 0}
    quiet = {"default_root_dir": folder, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lk.Trainer(**{**arguments["trainer"], **limits, **quiet}, callbacks=[lk.callbacks.SampleWriter(10**6)])
    trainer.fit(task, data)
    return str(trainer.run_dir)


def inputs_of(endpoint) -> dict[str, Any]:
    """Returns the arguments of a call, as an example of the endpoint has them."""
    example = dict(endpoint.examples[0]) if endpoint.examples else endpoint.trials()[0]
    return {name: WORK.get(name, lambda value: value)(value) for name, value in example.items()}


def call_of_task(endpoint) -> Callable[[], Any]:
    """Returns a call of the task's own method or, of a step, of its compiled function."""
    given = inputs_of(endpoint)
    if endpoint.reference is not None:
        return lambda: endpoint.reference(**given)
    traced, arrays = endpoint.trace(), [*_as_arrays(endpoint).values()]
    return lambda: {name: value.numpy() for name, value in traced(*arrays).items()}


def time_pairs(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int) -> tuple[list[float], list[float]]:
    """Calls both in turn, `rounds` times after a call that does not count: the seconds of each call of both."""
    seconds: tuple[list[float], list[float]] = [], []
    for _ in range(rounds + 1):
        for function, kept in zip((ours, theirs), seconds, strict=True):
            began = time.perf_counter()
            function()
            kept.append(time.perf_counter() - began)
    return seconds[0][1:], seconds[1][1:]


def _as_arrays(endpoint) -> dict[str, Any]:
    import tensorflow as tf

    given = inputs_of(endpoint)
    arrays = {name: tf.constant(given[name], spec.dtype).numpy() for name, spec in endpoint.signature.items()}
    return {name: np.asarray(value) for name, value in arrays.items()}


def _size(folder: Path, form: str, endpoint: str) -> float:
    """Returns the megabytes of what a program loads."""
    if form == "saved_model":
        return sum(path.stat().st_size for path in [folder / "saved_model.pb", *(folder / "variables").iterdir()]) / 1e6
    return (folder / FILES[form].format(endpoint=endpoint)).stat().st_size / 1e6


def _measure_format(form: str, folder: Path, endpoints: dict, compared: Any, rounds: int) -> dict[str, report.Row]:
    """Returns a row for each endpoint of an export."""
    from lightkeras.export import reader

    importlib.import_module(reader.PACKAGES[form])
    names, began = [*compared.differences], time.process_time()
    opened = reader.OPENERS[form](folder, names)
    loading, rows = time.process_time() - began, {}
    for name in names:
        arrays = _as_arrays(endpoints[name])
        ours, theirs = time_pairs(call_of_task(endpoints[name]), lambda n=name, a=arrays: opened[n](a), rounds)
        columns = {
            "calls/s": 1 / statistics.median(theirs), "of the task": 1 / statistics.median(ours),
            "MB": round(_size(folder, form, name), 3), "CPU s to load": round(loading, 3),
            "largest difference": f"{compared.differences[name]:.1e}",
        }  # fmt: skip
        rows[name] = report.Row([one / other for one, other in zip(ours, theirs, strict=True)], {"columns": columns})
    return rows


def _measure_task(name: str, chosen, folder: Path) -> list[report.Table]:
    """Exports a task in every format that has endpoints, and makes a table for each endpoint."""
    task = presets.find_task(name).load_from_checkpoint(chosen.run or train(name, chosen, str(folder / "runs")))
    endpoints = task.exports()
    tables = {
        key: report.Table(
            f"{name}: {key}", "of the task's speed", OURS, {OURS: report.Row([1.0] * chosen.rounds)},
            higher_is_better=True,
        )
        for key in endpoints
    }  # fmt: skip
    for form in command.listed("formats", chosen.formats, tuple(FILES)):
        if any(endpoint.has_format(form) for endpoint in endpoints.values()):
            compared = task.export(folder / form, form)
            for key, row in _measure_format(form, folder / form, endpoints, compared, chosen.rounds).items():
                tables[key].rows[form] = row
    return [*tables.values()]


def measure(chosen) -> list[report.Table]:
    """Returns a table for each endpoint of each task."""
    tables = []
    for name in command.listed("tasks", chosen.tasks, TASKS):
        with tempfile.TemporaryDirectory() as folder:
            tables += _measure_task(name, chosen, Path(folder))
    return tables


def main(arguments: list[str]) -> int:
    """Runs the benchmark; returns the exit code."""
    return command.run("exports", __doc__, DEFAULTS, arguments, measure, rounds=25)
