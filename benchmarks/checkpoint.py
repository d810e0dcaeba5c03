"""What checkpoints cost: steps with and without them, beside Keras' BackupAndRestore on the same network.

Three dense layers of 4.3 million parameters, batches of 32 from memory, Adam: a whole state of 51 MB. A stretch is
`STEPS` updates with `STEPS // EVERY` saves, and these lie wholly in it: ours, which go on in a thread, have `EVERY`
updates for that, and the next one waits for them. Afterwards single saves are timed, and measured in bytes.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import command, harness, report

STEPS, EVERY, BATCH, FEATURES, WIDTH, CLASSES = 200, 50, 32, 32, 2048, 4
EPOCH = 60 * STEPS  # more stretches than a benchmark has: none of them is at an epoch's end
SAVES = 5
OURS, THEIRS = "Trainer", "BackupAndRestore"
PLAIN, KEPT = "Trainer.fit", f"Trainer.fit, saved every {EVERY} steps"
KERAS, BACKED_UP = "Keras fit", f"Keras fit, BackupAndRestore every {EVERY} steps"
COMPETITORS = {
    PLAIN: harness.Entry("benchmarks.checkpoint:trainer_fit"),
    KEPT: harness.Entry("benchmarks.checkpoint:trainer_fit_saved"),
    KERAS: harness.Entry("benchmarks.checkpoint:keras_fit"),
    BACKED_UP: harness.Entry("benchmarks.checkpoint:keras_fit_saved"),
}


def _examples(steps: int) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.random.default_rng(0)
    x = numbers.normal(size=(steps * BATCH, FEATURES)).astype(np.float32)
    return x, (x.sum(axis=1) > 0).astype(np.int32)


def _network():
    from keras import Input, Sequential, layers

    hidden = [layers.Dense(WIDTH, activation="relu") for _ in range(2)]
    return Sequential([Input((FEATURES,)), *hidden, layers.Dense(CLASSES)])


def _task_and_data(steps: int):
    import keras
    import tensorflow as tf

    import lightkeras as lk

    class Data(lk.DataModule):
        def train_dataset(self):
            x, y = _examples(steps)
            return lk.AddressedDataset.from_arrays({"x": x, "y": y}, BATCH)

    class Task(lk.TaskModule):
        def configure_model(self, data):
            self.network = _network()

        def configure_optimizers(self):
            return keras.optimizers.Adam(1e-4)

        def losses_of(self, batch, training):
            logits = self.network(batch["x"], training=training)
            nats = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["y"], logits)
            return tf.reduce_sum(nats * batch["weight"]), tf.reduce_sum(batch["weight"])

        def train_step(self, batch):
            return self.minimize(self.losses_of, batch)

    return Task(), Data()


def trainer_fit(gate, **arguments) -> None:
    """`Trainer.fit`, default callbacks but for checkpoints; a row of the logs every `STEPS` updates."""
    import lightkeras as lk

    class AtLogs(lk.Callback):
        def on_train_begin(self, logs=None):
            gate()

        def on_log(self, record):  # before the checkpoint of this update: it is the first of the next stretch
            gate()

    arguments = {"enable_checkpointing": False, **arguments}
    with tempfile.TemporaryDirectory() as root:
        trainer = lk.Trainer(
            default_root_dir=root, max_epochs=10**6, log_every_n_steps=STEPS, callbacks=[AtLogs()], **arguments
        )
        trainer.fit(*_task_and_data(EPOCH))


def trainer_fit_saved(gate) -> None:
    """The same, with checkpoints."""
    trainer_fit(gate, enable_checkpointing=True, checkpoint_every_n_steps=EVERY)


def keras_fit(gate, callbacks=()) -> None:
    """Keras' own `fit()`."""
    import keras

    network, (x, y) = _compiled(), _examples(STEPS)
    begins = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: gate())
    network.fit(x, y, batch_size=BATCH, epochs=10**6, verbose=0, callbacks=[begins, *callbacks])


def _compiled():
    import keras

    network = _network()
    network.compile(keras.optimizers.Adam(1e-4), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return network


def keras_fit_saved(gate) -> None:
    """The same, with BackupAndRestore."""
    import keras

    with tempfile.TemporaryDirectory() as folder:
        keras_fit(gate, [keras.callbacks.BackupAndRestore(folder, save_freq=EVERY)])


# ---- single saves


def _measured(save, folder: Path) -> dict:
    """Seconds of `SAVES` saves, and the bytes of one."""
    seconds = []
    for _ in range(SAVES):
        began = time.perf_counter()
        save()
        seconds.append(time.perf_counter() - began)
    written = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {"seconds": seconds, "bytes": written}


def single_saves() -> dict[str, dict]:
    """By `OURS` and `THEIRS`, what one save takes. Only the Trainer flushes it to the disk."""
    import keras

    import lightkeras as lk
    from lightkeras.utils import internals

    found = {}

    class Saves(lk.Callback):
        def on_train_batch_end(self, batch, logs=None):
            folder = Path(self.run.folder) / "measured"
            found[OURS] = _measured(lambda: self.run.save_checkpoint(folder=folder), folder)

    class Backup(keras.callbacks.BackupAndRestore):
        def on_train_batch_end(self, batch, logs=None):
            found[THEIRS] = _measured(lambda: internals.save_backup(self), Path(self.backup_dir))

    with tempfile.TemporaryDirectory() as root:
        lk.Trainer(default_root_dir=root, max_steps=1, callbacks=[Saves()]).fit(*_task_and_data(1))
        x, y = _examples(1)
        _compiled().fit(x, y, batch_size=BATCH, verbose=0, callbacks=[Backup(f"{root}/backup")])
    return found


def measure(chosen) -> list[report.Table]:
    """The steps with and without saves, in ms, and single saves, in ms and bytes."""
    raced = harness.race(command.chosen_of(COMPETITORS, chosen.only), chosen.rounds)
    title = f"A step of 4.3 M parameters, {STEPS // EVERY} saves in {STEPS}"
    steps = report.table_of(title, "ms", raced, PLAIN, 1e3 / STEPS, STEPS)
    steps.note = "\n".join(_shares(steps.rows))
    saves = single_saves()
    rows = {name: report.Row([1e3 * s for s in one["seconds"]], {"bytes": one["bytes"]}) for name, one in saves.items()}
    sizes = "; ".join(f"{name}: {one['bytes']:,} bytes" for name, one in saves.items())
    note = f"{sizes}. The Trainer's is flushed to the disk, Keras' is not"
    return [steps, report.Table("A save by itself", "ms", OURS, rows, note=note)]


def _shares(rows: dict[str, report.Row]) -> list[str]:
    """What a save costs the training, and how much of the time that is at the Trainer's default interval."""
    from lightkeras import ModelCheckpoint

    default, lines = ModelCheckpoint().every_seconds, []
    for name, base in ((KEPT, PLAIN), (BACKED_UP, KERAS)):
        if name in rows and base in rows:
            cost = (rows[name].median - rows[base].median) * EVERY
            lines.append(f"{name}: a save costs {cost:,.0f} ms; every {default:.0f} s, {cost / 1e3 / default:.3%}")
    return lines


def main(arguments: list[str]) -> int:
    """Runs the benchmark; returns the exit code."""
    return command.run("checkpoint", __doc__, {}, arguments, measure, rounds=5)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
