"""What the addressed batches cost, beside `tf.data`'s own shuffle of the same arrays; and whether cost grows evenly.

Arrays in memory, of 1, 4 and 16 times `--examples` rows. Batches a second are those of the pipeline alone. Resuming is
the time from nothing to the first batch from the middle of an epoch on: the addressed pipeline begins there, `tf.data`
makes the batches before and throws them away. The last table is `Trainer.fit` with a tiny model, an epoch a stretch.
"""

from benchmarks import command, harness, report
from benchmarks.harness import Entry
from benchmarks.peers import shapes

DEFAULTS = {"examples": 20_000, "features": 64, "batch": 64, "times": "1,4,16"}
BASE = "tf.data shuffle"
PIPELINES = {"ours, addressed": "addressed", BASE: "shuffled"}


def addressed(rows, batch: int, step: int = 0):
    """An iterator over our batches from step `step` of epoch 0 on."""
    import lightkeras as lk

    dataset = lk.AddressedDataset.from_arrays(dict(zip("xy", rows, strict=True)), batch)
    return iter(dataset.stream(seed=0, step=step))


def shuffled(rows, batch: int, step: int = 0):
    """An iterator over the batches of `shuffle` with a buffer for all examples, from step `step` on."""
    import tensorflow as tf

    examples = tf.data.Dataset.from_tensor_slices(dict(zip("xy", rows, strict=True)))
    batches = examples.shuffle(len(rows[0]), seed=0).batch(batch).repeat().skip(step)
    return iter(batches.prefetch(tf.data.AUTOTUNE))


def read(gate, pipeline: str, steps: int, batch: int, features: int) -> None:
    """Batches, `steps` a stretch."""

    iterator = globals()[pipeline](shapes.points(steps, batch, features), batch)
    while True:
        gate()
        for _ in range(steps):
            next(iterator)


def resume(gate, pipeline: str, steps: int, batch: int, features: int) -> None:
    """A new pipeline's first batch, from the middle of an epoch on."""

    rows = shapes.points(steps, batch, features)
    while True:
        gate()
        next(globals()[pipeline](rows, batch, steps // 2))


def entries(function: str, chosen, times: int) -> dict[str, Entry]:
    """Who takes part, by name."""
    common = {"steps": _steps(chosen, times), "batch": chosen.batch, "features": chosen.features}
    path = f"benchmarks.input:{function}"
    return {name: Entry(path, {**common, "pipeline": pipeline}) for name, pipeline in PIPELINES.items()}


def _steps(chosen, times: int) -> int:
    return max(2, chosen.examples * times // chosen.batch)


def measure(chosen) -> list[report.Table]:
    """Two tables for each amount of data, and one of training."""
    tables, fits, amounts = [], {}, [int(text) for text in chosen.times.split(",")]
    for times in amounts:
        steps = _steps(chosen, times)
        size = f"{steps * chosen.batch:,} examples"
        title = f"Batches, {size}"
        reading = command.select(entries("read", chosen, times), chosen.only)
        raced = harness.race(reading, chosen.rounds, title=title)
        tables.append(report.make_table(title, "batches/s", raced, BASE, steps, steps, speed=True))
        title = f"Resuming at step {steps // 2:,}, {size}"
        resuming = command.select(entries("resume", chosen, times), chosen.only)
        raced = harness.race(resuming, chosen.rounds, title=title)
        tables.append(report.make_table(title, "ms", raced, BASE, 1e3, 1))
        settings = {"steps": steps, "batch": chosen.batch, "features": chosen.features, "width": 64, "layers": 1}
        fits[f"Trainer.fit, {size}"] = Entry("benchmarks.overhead:trainer_fit", settings)
    return [*tables, _training(fits, chosen.rounds)]


def _training(fits: dict[str, Entry], rounds: int) -> report.Table:
    title = "Training, the more data"
    raced = harness.race(fits, rounds, title=title)
    rows = {}
    for name, one in raced.items():
        steps = fits[name].settings["steps"]
        rows[name] = report.Row([seconds / steps * 1e6 for seconds in one.seconds], report.facts(one, steps))
    return report.Table(title, "us a step", next(iter(rows)), rows)


def main(arguments: list[str]) -> int:
    """Runs the benchmark; returns the exit code."""
    return command.run("input", __doc__, DEFAULTS, arguments, measure, rounds=5)
