"""How training scales: the speed on several devices, and the share of an even speed-up that it reaches.

The text task of `peers`, every device with a batch of its own size (weak scaling), or with a share of one batch
(`--batches shared`). Without GPUs the devices are logical CPUs, which share the same cores: a demonstration that the
devices work together, never a speed-up.
"""

from benchmarks import command, flops, harness, report, shapes
from benchmarks.harness import Entry
from lightkeras.quiet import has_gpu

DEFAULTS = {"devices": "1,2", "steps": 3, "size": "full", "batches": "own", "precision": "32"}
NOTE = "Logical CPUs on the same cores: this shows that the devices work together, not how fast more of them would be."


def entries(counts: list[int], chosen) -> dict[str, Entry]:
    """Who takes part, by name."""
    sizes = shapes.SIZES[chosen.size]["text"]
    found = {}
    for count in counts:
        batch = sizes["batch"] * (count if chosen.batches == "own" else 1)
        settings = {"task": "text", "sizes": {**sizes, "batch": batch}, "steps": chosen.steps}
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
    from benchmarks import our_peers

    our_peers.train(gate, devices=devices, **settings)


def measure(chosen) -> list[report.Table]:
    """The table of the sweep."""
    command.listed("size", chosen.size, shapes.SIZES)
    command.listed("batches", chosen.batches, ("own", "shared"))
    counts = [int(text) for text in chosen.devices.split(",")]
    taking_part = command.chosen_of(entries(counts, chosen), chosen.only)
    raced = harness.race(taking_part, chosen.rounds)
    characters = {
        name: chosen.steps * shapes.units_of("text", e.settings["sizes"])[1] for name, e in taking_part.items()
    }
    rows = {
        name: report.Row([characters[name] / seconds for seconds in one.seconds], report.facts_of(one, chosen.steps))
        for name, one in raced.items()
    }
    base, sizes = next(iter(rows)), shapes.SIZES[chosen.size]["text"]
    first = taking_part[base].settings["devices"]
    for name, row in rows.items():
        share = row.median / rows[base].median * first / taking_part[name].settings["devices"]
        updates = row.median / shapes.units_of("text", sizes)[1]
        row.facts["columns"] = {"efficiency": share, **flops.used("text", sizes, updates, chosen.precision != "32")}
    note = "" if has_gpu() else NOTE
    return [report.Table("Text generation on several devices", "characters/s", base, rows, True, note=note)]


def main(arguments: list[str]) -> int:
    """Runs the benchmark; returns the exit code."""
    return command.run("scaling", __doc__, DEFAULTS, arguments, measure, rounds=5)
