"""How training scales: the speed on several devices, and the share of an even speed-up that it reaches.

A task of `peers`, every device with a batch of its own size (weak scaling), or with a share of one batch
(`--batches shared`). Without GPUs the devices are logical CPUs, which share the same cores: a demonstration that the
devices work together, never a speed-up.
"""

from benchmarks import command, flops, harness, peer_updates, report
from benchmarks.harness import Entry
from benchmarks.peers import shapes
from lightkeras.utils.checks import require_choice
from lightkeras.utils.environment import has_gpu

DEFAULTS = {"devices": "1,2", "steps": 3, "task": "text", "size": "full", "batches": "own", "precision": "32"}
NOTE = "Logical CPUs on the same cores: this shows that the devices work together, not how fast more of them would be."


def entries(counts: list[int], chosen) -> dict[str, Entry]:
    """Who takes part, by name."""
    sizes = shapes.SIZES[chosen.size][chosen.task]
    found = {}
    for count in counts:
        batch = sizes["batch"] * (count if chosen.batches == "own" else 1)
        settings = {"task": chosen.task, "sizes": {**sizes, "batch": batch}, "steps": chosen.steps}
        settings |= {"batches": shapes.batches_for(chosen.rounds, chosen.steps), "precision": chosen.precision}
        found[_name(count)] = Entry("benchmarks.scaling:train", {**settings, "devices": count})
    return found


def _name(count: int) -> str:
    return "1 device" if count == 1 else f"{count} devices"


def train(gate, devices: int, **settings) -> None:
    """`Trainer.fit` on so many devices."""
    if not has_gpu():
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
    from benchmarks.peers import ours as our_peers

    our_peers.train(gate, devices=devices, **settings)


def measure(chosen) -> list[report.Table]:
    """The table of the sweep."""
    for name, known in (("task", shapes.TASKS), ("size", shapes.SIZES), ("batches", ("own", "shared"))):
        require_choice(name, getattr(chosen, name), known)
    task, sizes = chosen.task, shapes.SIZES[chosen.size][chosen.task]
    unit, count = shapes.count_units(task, sizes)
    counts = [int(text) for text in chosen.devices.split(",")]
    title = f"{peer_updates.TITLES[task]}, on several devices"
    taking_part = command.select(entries(counts, chosen), chosen.only)
    raced = harness.race(taking_part, chosen.rounds, title=title)
    done = {name: chosen.steps * shapes.count_units(task, e.settings["sizes"])[1] for name, e in taking_part.items()}
    rows = {
        name: report.Row([done[name] / seconds for seconds in one.seconds], report.facts(one, chosen.steps))
        for name, one in raced.items()
    }
    base = next(iter(rows))
    first = taking_part[base].settings["devices"]
    for name, row in rows.items():
        share = row.median / rows[base].median * first / taking_part[name].settings["devices"]
        used = flops.used(task, sizes, row.median / count, chosen.precision != "32")
        row.facts["columns"] = {"efficiency": share, **used}
    note = "" if has_gpu() else NOTE
    return [report.Table(title, f"{unit}/s", base, rows, True, note=note)]


def main(arguments: list[str]) -> int:
    """Runs the benchmark; returns the exit code."""
    return command.run("scaling", __doc__, DEFAULTS, arguments, measure, rounds=5)
