"""Exports of the tasks in every format: size, time to load, time of a call beside the task itself, largest difference.

Each task is trained for `--updates` updates of `--preset`, or taken from `--run`, the folder of a run of the only task,
and exported in each of `--formats`. A process for the task and one for each format take turns. In its turn, each calls
every endpoint for `--seconds` or longer. A SavedModel and Keras' file hold all endpoints: their size is that of all.
"""

import importlib
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import command, harness, presets, report
from benchmarks.harness import Entry

TASKS = ("text_generation", "dcgan", "translation", "captioning")
DEFAULTS = {
    "tasks": ",".join(TASKS), "preset": "sample", "updates": 50, "run": "", "formats": "saved_model,onnx,litert,keras",
    "seconds": 0.5,
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


def load(name: str, run: str):
    """Loads the task of a run."""
    return presets.find_task(name).load_from_checkpoint(run)


def time_calls(functions: dict[str, Any], seconds: float) -> dict[str, float]:
    """Returns the seconds of one call of each function, called again until `seconds` have passed."""
    found = {}
    for name, function in functions.items():
        began, calls = time.perf_counter(), 0
        while calls < 3 or time.perf_counter() - began < seconds:
            function()
            calls += 1
        found[name] = (time.perf_counter() - began) / calls
    return found


def ours(gate, name: str, run: str, seconds: float) -> None:
    """The task itself: its own methods or, for steps, its compiled functions."""
    import tensorflow as tf

    functions = {}
    for key, endpoint in load(name, run).exports().items():
        given = inputs_of(endpoint)
        if endpoint.reference is None:
            traced, tensors = (
                endpoint.trace(),
                [tf.constant(given[one], spec.dtype) for one, spec in endpoint.signature.items()],
            )
            functions[key] = lambda traced=traced, tensors=tensors: traced(*tensors)
        else:
            functions[key] = lambda endpoint=endpoint, given=given: endpoint.reference(**given)
    _take_part(gate, functions, seconds, 0.0)


def exported(gate, folder: str, form: str, inputs: str, imports: list[str], seconds: float) -> None:
    """An export, read as its README says."""
    from lightkeras.export import reader

    for module in [reader.PACKAGES[form], *imports]:
        importlib.import_module(module)
    given: dict[str, dict[str, Any]] = {}
    for (endpoint, _, argument), value in reader.unpack(inputs).items():
        given.setdefault(endpoint, {})[argument] = value
    began = time.perf_counter()
    opened = reader.OPENERS[form](Path(folder), list(given))
    loading = time.perf_counter() - began
    functions = {key: lambda key=key: opened[key](given[key]) for key in opened}
    _take_part(gate, functions, seconds, loading)


def _take_part(gate, functions: dict[str, Any], seconds: float, loading: float) -> None:
    for function in functions.values():
        function()
    gate()
    while True:
        gate(told={**time_calls(functions, seconds), "load": loading})


def _export(task, chosen, folder: Path) -> dict[str, tuple[Path, Any, dict]]:
    """Exports a task in every format that has endpoints: folder, comparison and facts, by format."""
    import lightkeras as lk

    every, found = task.exports().values(), {}
    for form in command.listed("formats", chosen.formats, tuple(FILES)):
        if any(endpoint.has_format(form) for endpoint in every):
            compared = task.export(folder / form, form)
            found[form] = folder / form, compared, lk.export.read_export(folder / form)
    return found


def _size(folder: Path, form: str, endpoint: str) -> float:
    """Returns the megabytes of what a program loads."""
    if form == "saved_model":
        return sum(path.stat().st_size for path in [folder / "saved_model.pb", *(folder / "variables").iterdir()]) / 1e6
    return (folder / FILES[form].format(endpoint=endpoint)).stat().st_size / 1e6


def _measure_task(name: str, chosen, folder: Path) -> list[report.Table]:
    from lightkeras.export import reader

    run = chosen.run or train(name, chosen, str(folder / "runs"))
    task = load(name, run)
    exports, endpoints = _export(task, chosen, folder), task.exports()
    entries = {OURS: Entry("benchmarks.exports:ours", {"name": name, "run": run, "seconds": chosen.seconds})}
    for form, (path, compared, card) in exports.items():
        given = {
            (key, 0, argument): value
            for key in compared.differences
            for argument, value in _as_arrays(endpoints[key]).items()
        }
        inputs = str(folder / f"{form}.npz")
        reader.pack(inputs, given)
        settings = {"folder": str(path), "form": form, "inputs": inputs, "imports": card["imports"]}
        entries[form] = Entry("benchmarks.exports:exported", {**settings, "seconds": chosen.seconds})
    raced = harness.race(entries, chosen.rounds, title=f"Exports of {name}")
    return [_table(name, key, raced, exports) for key in endpoints]


def _as_arrays(endpoint) -> dict[str, Any]:
    import tensorflow as tf

    given = inputs_of(endpoint)
    return {name: tf.constant(given[name], spec.dtype).numpy() for name, spec in endpoint.signature.items()}


def _table(name: str, endpoint: str, raced: dict[str, harness.Measured], exports: dict) -> report.Table:
    rows = {}
    for form, measured in raced.items():
        if endpoint not in measured.told[0]:
            continue
        columns = {}
        if form in exports:
            path, compared, _ = exports[form]
            difference = compared.differences[endpoint]
            columns = {
                "MB": round(_size(path, form, endpoint), 3), "s to load": round(measured.told[0]["load"], 3),
                "largest difference": float(f"{difference:.1e}"),
            }  # fmt: skip
        samples = [1 / told[endpoint] for told in measured.told]
        rows[form] = report.Row(samples, {**report.facts(measured, 1), "columns": columns})
    return report.Table(f"{name}: {endpoint}", "calls/s", OURS, rows, higher_is_better=True)


def measure(chosen) -> list[report.Table]:
    """Returns a table for each endpoint of each task."""
    tables = []
    for name in command.listed("tasks", chosen.tasks, TASKS):
        with tempfile.TemporaryDirectory() as folder:
            tables += _measure_task(name, chosen, Path(folder))
    return tables


def main(arguments: list[str]) -> int:
    """Runs the benchmark; returns the exit code."""
    return command.run("exports", __doc__, DEFAULTS, arguments, measure)
