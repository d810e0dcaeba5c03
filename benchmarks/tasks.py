"""How fast every task trains: its preset as `lightkeras fit` runs it, and with other settings of the Trainer.

Speeds count what the loss counts, without padding: all that was done in the timed stretches over all the time that they
took. "Waiting" is the share of one more stretch, under TensorFlow's profiler, in which the host waited for batches, and
in which they were copied to a GPU. A stretch is `--steps` updates within an epoch, logs included, and what happens to
come at an epoch's end. `--precisions 32,bf16-mixed` adds mixed precision, each with every `--xla`.
"""

from benchmarks import command, harness, presets, report
from benchmarks.harness import Entry
from benchmarks.presets import UNITS
from lightkeras.utils.environment import has_gpu

DEFAULTS = {"steps": 10, "preset": "sample", "tasks": ",".join(UNITS), "precisions": "32", "xla": "auto,on,off"}
BASE = "as it comes"


def entries(task: str, chosen) -> dict[str, Entry]:
    """Who takes part, by name: every precision and XLA."""
    common = {"task": task, "preset": chosen.preset, "steps": chosen.steps}
    taking_part = {}
    for name, (_, more) in command.variants(chosen.precisions, chosen.xla).items():
        changed = {key: value for key, value in more.items() if value not in ("32", "auto")}  # else as the preset says
        taking_part[name or BASE] = Entry("benchmarks.tasks:train", {**common, "arguments": changed})
    return taking_part


def train(gate, task: str, preset: str, steps: int, arguments: dict) -> None:
    """`Trainer.fit` with the preset and other `arguments`."""
    from benchmarks.peers.ours import fit

    made = presets.read(task, preset)
    trainer = {**made["trainer"], **arguments, "max_epochs": 10**6, "limit_val_batches": 0}
    fit(gate, *presets.build(task, made), **{**trainer, "steps": steps})


def measure(chosen) -> list[report.Table]:
    """A table for each task."""
    variants = command.variants(chosen.precisions, chosen.xla)
    columns = {name or BASE: {} if not name else which for name, (which, _) in variants.items()}
    tables = []
    for task in command.listed("tasks", chosen.tasks, UNITS):
        taking_part = entries(task, chosen)
        title = f"{task}, preset {chosen.preset}"
        raced = harness.race(command.select(taking_part, chosen.only), chosen.rounds, profile=True, title=title)
        tables.append(report.make_table(title, "ms a step", raced, BASE, 1e3 / chosen.steps, chosen.steps))
        for name, row in tables[-1].rows.items():
            row.facts["columns"] = columns[name] | _columns(UNITS[task], raced[name])
    return tables


def _columns(unit: str, measured: harness.Measured) -> dict[str, float]:
    columns = {f"{unit}/s": sum(measured.units) / sum(measured.seconds)}
    columns["waiting, host"] = measured.waited["host"]
    return columns | ({"waiting, GPU": measured.waited["device"]} if has_gpu() else {})


def main(arguments: list[str]) -> int:
    """Runs the benchmark; returns the exit code."""
    return command.run("tasks", __doc__, DEFAULTS, arguments, measure, rounds=5)
