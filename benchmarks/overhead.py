"""What the training loop costs: microseconds per step of a model so small that the step itself is nothing.

Two dense layers, 17 kB of parameters, batches of 32 from memory, Adam. A stretch is an epoch of `STEPS` steps with all
that comes with it: for the Trainer its logs, checkpoint and callbacks too.
"""

import tempfile

import numpy as np

from benchmarks import harness

STEPS, BATCH, FEATURES, CLASSES = 2000, 32, 16, 4
EXAMPLES = STEPS * BATCH
COMPETITORS = {
    "tf.function loop": "benchmarks.overhead:bare",
    "Keras fit(verbose=0)": "benchmarks.overhead:keras_fit",
    "Keras fit, steps_per_execution=50": "benchmarks.overhead:keras_fit_50",
    "Trainer.fit, steps_per_execution=1": "benchmarks.overhead:trainer_fit_1",
    "Trainer.fit": "benchmarks.overhead:trainer_fit",
}


def _examples():
    numbers = np.random.default_rng(0)
    x = numbers.normal(size=(EXAMPLES, FEATURES)).astype(np.float32)
    return x, (x.sum(axis=1) > 0).astype(np.int32)


def _network():
    import keras

    return keras.Sequential([keras.layers.Dense(64, activation="relu"), keras.layers.Dense(CLASSES)])


def _stream():
    import tensorflow as tf

    examples = tf.data.Dataset.from_tensor_slices(_examples()).shuffle(EXAMPLES).repeat()
    return examples.batch(BATCH, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def bare(gate) -> None:
    """A Python loop over a `tf.data` iterator that calls a `tf.function`."""
    import keras
    import tensorflow as tf

    network, optimizer = _network(), keras.optimizers.Adam(1e-3)
    network.build((None, FEATURES))
    optimizer.build(network.trainable_variables)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            nats = tf.nn.sparse_softmax_cross_entropy_with_logits(y, network(x, training=True))
            loss = tf.reduce_mean(nats)
        optimizer.apply(tape.gradient(loss, network.trainable_variables))
        return loss

    iterator = iter(_stream())
    while True:
        gate()
        for _ in range(STEPS):
            step(*next(iterator))


def keras_fit(gate, steps_per_execution: int = 1) -> None:
    """Keras' own `fit()`, without a progress bar or callbacks."""
    import keras

    network = _network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile("adam", loss, steps_per_execution=steps_per_execution)
    network.fit(_stream(), steps_per_epoch=STEPS, epochs=10**6, verbose=0, callbacks=[_at_epochs(gate)])


def keras_fit_50(gate) -> None:
    """The same, 50 steps a call."""
    keras_fit(gate, steps_per_execution=50)


def _at_epochs(gate):
    import keras

    return keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: gate())


def trainer_fit(gate, **arguments) -> None:
    """`Trainer.fit` as it comes: default settings, default callbacks."""
    import tensorflow as tf

    import lightkeras as lk

    class Data(lk.DataModule):
        def train_dataset(self):
            x, y = _examples()
            return lk.AddressedDataset.from_arrays({"x": x, "y": y}, BATCH)

    class Task(lk.TaskModule):
        def configure_model(self, data):
            self.network = _network()

        def configure_optimizers(self):
            import keras

            return keras.optimizers.Adam(1e-3)

        def losses_of(self, batch, training):
            logits = self.network(batch["x"], training=training)
            nats = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["y"], logits)
            return tf.reduce_sum(nats * batch["weight"]), tf.reduce_sum(batch["weight"])

        def train_step(self, batch):
            return self.descend(self.losses_of, batch)

        def test_step(self, batch):
            return self.measure(self.losses_of, batch)

    with tempfile.TemporaryDirectory() as root:
        trainer = lk.Trainer(default_root_dir=root, max_epochs=10**6, callbacks=[_at_epochs(gate)], **arguments)
        trainer.fit(Task(), Data())


def trainer_fit_1(gate) -> None:
    """The same, one step a call."""
    trainer_fit(gate, steps_per_execution=1)


def main(arguments: list[str]) -> int:
    """Runs the benchmark; returns the exit code."""
    chosen = harness.options("overhead").parse_args(arguments)
    raced = harness.race(COMPETITORS, chosen.rounds)
    samples = {name: [seconds / STEPS * 1e6 for seconds in c.seconds] for name, c in raced.items()}
    harness.show("A tiny model's step", "us", samples, base="Keras fit(verbose=0)")
    start = {name: c.start_seconds for name, c in raced.items()}
    harness.write(chosen.out, "overhead", {"steps": STEPS, "batch": BATCH}, samples, start)
    return 0
