"""Data as it is under `Trainer.fit`, beside the same data under Keras' `fit`: a `PyDataset`, and `tf.data`.

A tiny model, batches of 32 rows of 64 numbers. A stretch is an epoch of `--steps` batches. Each item of the PyDataset
that waits takes `--milliseconds`.
"""

from benchmarks import command, harness, report
from benchmarks.harness import Entry

DEFAULTS = {"steps": 200, "milliseconds": 5.0}
ROWS, FEATURES = 32, 64
EPOCHS = 10**6
KINDS = {
    "PyDataset, 1 worker": ("items", 1, False),
    "PyDataset that waits, 4 workers": ("items", 4, True),
    "tf.data": ("pipeline", 0, False),
}


def _data(kind: str, workers: int, steps: int, wait: float):
    """The batches (x, y)."""
    import time

    import keras
    import numpy as np
    import tensorflow as tf

    x = np.random.default_rng(0).normal(size=(steps * ROWS, FEATURES)).astype(np.float32)
    if kind == "pipeline":
        return tf.data.Dataset.from_tensor_slices((x, x[:, 0])).shuffle(1000, seed=1).batch(ROWS)

    class Items(keras.utils.PyDataset):
        def __len__(self):
            return steps

        def __getitem__(self, index):
            time.sleep(wait)
            rows = x[index * ROWS : (index + 1) * ROWS]
            return rows, rows[:, 0]

    return Items(workers=workers)


def trainer_fit(gate, **source) -> None:
    """`Trainer.fit`, an epoch a stretch."""
    import keras
    import tensorflow as tf

    import lightkeras as lk

    class Network(lk.TaskModule):
        def configure_model(self, data):
            self.network = keras.Sequential([keras.layers.Dense(64, "relu"), keras.layers.Dense(1)])

        def configure_optimizers(self):
            return keras.optimizers.SGD(0.01)

        def squares(self, batch, training):
            x, y, _ = batch
            return tf.square(self.network(x, training=training)[:, 0] - y)

        def train_step(self, batch):
            return self.minimize(self.squares, batch)

    class Stretch(lk.Callback):
        accepts_many_steps = True

        def on_epoch_begin(self, epoch, logs=None):
            gate()

    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    lk.Trainer(max_epochs=EPOCHS, callbacks=[Stretch()], **quiet).fit(Network(), _data(**source))


def keras_fit(gate, **source) -> None:
    """Keras' `fit`, an epoch a stretch."""
    import keras

    model = keras.Sequential([keras.layers.Dense(64, "relu"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    begin = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: gate())
    model.fit(_data(**source), epochs=EPOCHS, verbose=0, callbacks=[begin])


def measure(chosen) -> list[report.Table]:
    """A table for each kind of data."""
    tables = []
    for title, (kind, workers, waits) in KINDS.items():
        wait = chosen.milliseconds / 1e3 if waits else 0.0
        settings = {"kind": kind, "workers": workers, "steps": chosen.steps, "wait": wait}
        entries = {name: Entry(f"benchmarks.sources:{function}", settings) for name, function in FITS.items()}
        raced = harness.race(command.select(entries, chosen.only), chosen.rounds, title=title)
        tables.append(report.make_table(title, "ms a batch", raced, "Keras fit", 1e3 / chosen.steps, 1))
    return tables


FITS = {"Trainer.fit": "trainer_fit", "Keras fit": "keras_fit"}


def main(arguments: list[str]) -> int:
    """Runs the benchmark; returns the exit code."""
    return command.run("sources", __doc__, DEFAULTS, arguments, measure, rounds=5)
