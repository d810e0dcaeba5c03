"""What the training loop costs: microseconds per step of a model so small that the step itself is nothing.

Two dense layers, batches of 32 from memory, Adam. A stretch is an epoch of `--steps` steps with all that comes with it:
for `Trainer.fit` its logs, checkpoint and callbacks too. "All callbacks" are the default ones and validation, early
stopping, samples and the gradients' norm. A second table is of a step of some milliseconds: three dense layers of
`--wide` units, `--wide_steps` of them a stretch. TensorFlow's progress bars and PyTorch Lightning's write to a file.
"""

import contextlib
import functools
import signal
import subprocess
import tempfile

import numpy as np

from benchmarks import command, harness, report
from benchmarks.harness import Entry
from benchmarks.peers import shapes
from lightkeras.utils.processes import module_command, module_environment

DEFAULTS = {"steps": 2000, "batch": 32, "features": 16, "width": 64, "wide": 512, "wide_steps": 300}
BASE, BARE, OURS = "Keras fit(verbose=0)", "tf.function loop", "Trainer.fit"
PLAIN = "Trainer.fit, plain Keras model"
SHOWN = "Trainer.fit, live page and notebook"
TORCH, LIGHTNING = ("torch",), ("torch", "lightning")


def entries(chosen) -> dict[str, Entry]:
    """Who takes part, by name."""
    sizes = {"batch": chosen.batch, "features": chosen.features, "width": chosen.width, "layers": 1}
    made = functools.partial(_entry, {**sizes, "steps": chosen.steps})
    return {
        BARE: made("bare"),
        BASE: made("keras_fit"),
        "Keras fit(verbose=1)": made("keras_fit", verbose=1),
        "Keras fit(verbose=2)": made("keras_fit", verbose=2),
        "Keras fit, TensorBoard": made("keras_fit", tensorboard=True),
        "Keras fit, steps_per_execution=50": made("keras_fit", steps_per_execution=50),
        OURS: made("trainer_fit"),
        "Trainer.fit, all callbacks": made("trainer_fit", everything=True),
        "Trainer.fit, steps_per_execution=1": made("trainer_fit", steps_per_execution=1),
        PLAIN: made("plain_fit"),
        f"{PLAIN}, tf.data": made("plain_fit", stream=True),
        "PyTorch": made("torch_loop", needs=TORCH),
        "Lightning": made("lightning_fit", needs=LIGHTNING),
        "Lightning, progress bar": made("lightning_fit", needs=LIGHTNING, bar=True),
        "Lightning, progress bar and logger": made("lightning_fit", needs=LIGHTNING, bar=True, logger=True),
    }


def wide_entries(chosen) -> dict[str, Entry]:
    """Who takes part in the second table; that with XLA left out is what compares with the bare loop."""
    sizes = {"batch": chosen.batch, "features": chosen.features, "width": chosen.wide, "layers": 3}
    made = functools.partial(_entry, {**sizes, "steps": chosen.wide_steps})
    ours = {OURS: made("trainer_fit"), f"{OURS}, jit_compile=False": made("trainer_fit", jit_compile=False)}
    ours[SHOWN] = made("trainer_fit", needs=("IPython",), shown=True)
    plain = {PLAIN: made("plain_fit"), f"{PLAIN}, tf.data": made("plain_fit", stream=True)}
    return {BARE: made("bare"), BASE: made("keras_fit"), **ours, **plain}


def _entry(sizes: dict, function: str, needs=(), **more) -> Entry:
    return Entry(f"benchmarks.overhead:{function}", {**sizes, **more}, needs)


def _stream(steps: int, batch: int, features: int):
    import tensorflow as tf

    rows = tf.data.Dataset.from_tensor_slices(shapes.points(steps, batch, features)).shuffle(steps * batch).repeat()
    return rows.batch(batch, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


# ---- TensorFlow and Keras


def bare(gate, steps: int, batch: int, features: int, width: int, layers: int) -> None:
    """A Python loop over a `tf.data` iterator that calls a `tf.function`."""
    import keras
    import tensorflow as tf

    from benchmarks.peers import keras as keras_peers

    network, optimizer = keras_peers.classifier(width, layers), keras.optimizers.Adam(1e-3)
    network.build((None, features))
    optimizer.build(network.trainable_variables)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            nats = tf.nn.sparse_softmax_cross_entropy_with_logits(y, network(x, training=True))
            loss = tf.reduce_mean(nats)
        optimizer.apply(tape.gradient(loss, network.trainable_variables))
        return loss

    iterator = iter(_stream(steps, batch, features))
    while True:
        gate()
        for _ in range(steps):
            step(*next(iterator))


def keras_fit(gate, steps, batch, features, width, layers, verbose=0, steps_per_execution=1, tensorboard=False) -> None:
    """Keras' own `fit()`."""
    import keras

    network = _compiled(width, layers, steps_per_execution)
    with tempfile.TemporaryDirectory() as folder:
        more = [keras.callbacks.TensorBoard(folder)] if tensorboard else []
        stream, callbacks = _stream(steps, batch, features), [_at_epochs(gate), *more]
        options = {"steps_per_epoch": steps, "epochs": 10**6, "verbose": verbose, "shuffle": False}
        network.fit(stream, callbacks=callbacks, **options)


def _compiled(width: int, layers: int, steps_per_execution: int = 1):
    import keras

    from benchmarks.peers import keras as keras_peers

    network = keras_peers.classifier(width, layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(1e-3), loss, steps_per_execution=steps_per_execution)
    return network


def _at_epochs(gate):
    import keras

    return keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: gate())


# ---- ours


def trainer_fit(
    gate, steps, batch, features, width, layers, everything: bool = False, shown: bool = False, **arguments
) -> None:
    """`Trainer.fit` as it comes: default settings, default callbacks."""
    import lightkeras as lk
    from benchmarks.peers import toy

    watchers = contextlib.ExitStack()
    callbacks = _shown(gate, watchers) if shown else [_at_epochs(gate)]
    if everything:
        callbacks += [lk.EarlyStopping("val_loss", patience=10**9)]
        arguments["log_gradient_norm"] = True
    task = (toy.SamplingClassifier if everything else toy.Classifier)(width, layers)
    data = toy.Points(steps, batch, features, val_batches=10 if everything else 0)
    with tempfile.TemporaryDirectory() as root, watchers:
        lk.Trainer(default_root_dir=root, max_epochs=10**6, callbacks=callbacks, **arguments).fit(task, data)


def _shown(gate, watchers: contextlib.ExitStack) -> list:
    """A notebook's output, and somebody who looks at the run's live page while this competitor has its turn."""
    import keras

    import lightkeras as lk

    notebook, looking = lk.callbacks.NotebookProgress(), []

    def turn(epoch, logs=None):
        for one in looking:
            one.send_signal(signal.SIGSTOP)
        gate()
        for one in looking:
            one.send_signal(signal.SIGCONT)
        if epoch == 0:
            command = module_command("benchmarks.onlooker", str(notebook.run.folder))
            looking.append(subprocess.Popen(command, env=module_environment(), stdin=subprocess.DEVNULL))
            watchers.callback(_end, looking[-1])

    return [notebook, keras.callbacks.LambdaCallback(on_epoch_begin=turn)]


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


def plain_fit(gate, steps, batch, features, width, layers, stream: bool = False) -> None:
    """`Trainer.fit` of the model that `keras_fit` trains, on arrays or on the same `tf.data` pipeline."""
    import lightkeras as lk

    data = _stream(steps, batch, features) if stream else shapes.points(steps, batch, features)
    options = {} if stream else {"batch_size": batch}
    with tempfile.TemporaryDirectory() as root:
        trainer = lk.Trainer(
            default_root_dir=root, max_epochs=10**6, callbacks=[_at_epochs(gate)], limit_train_batches=steps
        )
        trainer.fit(_compiled(width, layers), data, **options)


# ---- PyTorch


def torch_loop(gate, **settings) -> None:
    """A plain loop."""
    from benchmarks.peers import torch as torch_peers

    torch_peers.loop(gate, *_torch(**settings))


def lightning_fit(gate, bar: bool = False, logger: bool = False, **settings) -> None:
    """`lightning.Trainer.fit`."""
    from benchmarks.peers import lightning

    lightning.fit(gate, *_torch(**settings), bar=bar, logger=logger)


def _torch(steps: int, batch: int, features: int, width: int, layers: int):
    from benchmarks.peers.torch_models import Classifier

    x, y = shapes.points(steps, batch, features)
    return Classifier(features, width, layers, shapes.CLASSES), {"x": x, "y": y.astype(np.int64)}, batch, steps


def measure(chosen) -> list[report.Table]:
    """The tiny model's table and the wider one's; `--only` may leave one of them empty."""
    tables = []
    for title, unit, scale, steps, taking_part in (
        ("A tiny model's step", "us", 1e6, chosen.steps, entries(chosen)),
        ("A step of some milliseconds", "ms", 1e3, chosen.wide_steps, wide_entries(chosen)),
    ):
        raced = harness.race(command.select(taking_part, chosen.only), chosen.rounds, title=title)
        tables.append(report.make_table(title, unit, raced, BASE, scale / steps, steps))
    return tables


def main(arguments: list[str]) -> int:
    """Runs the benchmark; returns the exit code."""
    return command.run("overhead", __doc__, DEFAULTS, arguments, measure)
