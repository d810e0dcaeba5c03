"""What memory data on a disk takes in training: the peak of a process that trains on 0.1, 1 and 10 GB of it.

A pass in a shuffled order over rows of 16 KB: a mapped array (`np.load(file, mmap_mode="r")`), and a TFRecord file.
The files are made of zeros, with holes: they take no room on the disk. They are deleted afterwards.
"""

import tempfile
from pathlib import Path

from benchmarks import command, harness, report
from benchmarks.harness import Entry

FEATURES = 4096  # of a row: 16 KB of float32
DEFAULTS = {"gigabytes": "0.1,1,10", "batch": 256}
KINDS = {"array on disk": "array", "TFRecord file": "records"}


def array(folder: Path, rows: int):
    """An array (rows, FEATURES) of zeros in a file, mapped."""
    import numpy as np

    path = folder / "x.npy"
    np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, FEATURES))
    return np.load(path, mmap_mode="r")


def records(folder: Path, rows: int):
    """A TFRecord file of `rows` records of zeros."""
    import tensorflow as tf

    import lightkeras as lk

    one, many = folder / "one", folder / "x.tfrecord"
    with tf.io.TFRecordWriter(str(one)) as writer:
        writer.write(bytes(4 * FEATURES))
    content = one.read_bytes()
    header, footer = content[:12], content[-4:]
    with many.open("wb") as file:
        for row in range(rows):
            file.seek(row * len(content))
            file.write(header)
            file.seek(row * len(content) + len(content) - 4)
            file.write(footer)

    def parse(record):
        return tf.ensure_shape(tf.io.decode_raw(record, tf.float32), (FEATURES,))

    return lk.data.TFRecords(many, parse)


def trained(gate, kind: str, gigabytes: float, batch: int) -> None:
    """Passes over the data, one a stretch; the first stretch is of ten batches."""
    import keras
    import tensorflow as tf

    import lightkeras as lk

    class Line(lk.TaskModule):
        def configure_model(self, data):
            self.network = keras.layers.Dense(1)

        def configure_optimizers(self):
            return keras.optimizers.SGD(0.01)

        def losses_of(self, parts, training):
            return tf.square(self.network(parts[0])[:, 0] - 1)

        def train_step(self, parts):
            return self.minimize(self.losses_of, parts)

    with tempfile.TemporaryDirectory() as folder:
        data, limit = globals()[kind](Path(folder), int(gigabytes * 1e9) // (4 * FEATURES)), 10
        while True:
            gate()
            quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
            lk.Trainer(max_epochs=1, limit_train_batches=limit, **quiet).fit(Line(), data, batch_size=batch)
            limit = 1.0


def measure(chosen) -> list[report.Table]:
    """One table for each kind of data."""
    tables = []
    for kind, function in KINDS.items():
        sizes = [float(text) for text in chosen.gigabytes.split(",")]
        settings = {"kind": function, "batch": chosen.batch}
        entries = {
            f"{kind}, {size:g} GB": Entry("benchmarks.memory:trained", {**settings, "gigabytes": size})
            for size in sizes
        }
        entries = command.select(entries, chosen.only) if chosen.only else entries
        title = f"Peak memory of training: {kind}"
        rows = {}
        for name, entry in entries.items():
            found = harness.race({name: entry}, chosen.rounds, title=title)[name]
            rows[name] = report.Row([found.peak_memory / 1e6], report.facts(found, 1))
        tables.append(report.Table(title, "MB", next(iter(rows)), rows))
    return tables


def main(arguments: list[str]) -> int:
    """Runs the benchmark; returns the exit code."""
    return command.run("memory", __doc__, DEFAULTS, arguments, measure, rounds=1)
