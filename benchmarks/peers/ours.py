"""The four tasks as `Trainer.fit` trains them, with the peers' sizes and data; only DCGAN's has dropout, as theirs."""

import tempfile

import tensorflow as tf

import lightkeras as lk
from benchmarks.peers import shapes
from lightkeras.callbacks import Compilation
from tasks.captioning import Captioning
from tasks.dcgan import DCGAN
from tasks.text_generation import TextGeneration
from tasks.translation import Translation


class Data(lk.DataModule):
    """The peers' data of a task."""

    image_shape, input_name = None, "features"

    def __init__(self, task: str, sizes: dict, batches: int):
        self.vocabulary = self.source_vocabulary = self.target_vocabulary = range(sizes.get("vocabulary", 0))
        if task == "dcgan":
            self.image_shape = (sizes["side"], sizes["side"], 1)
        if task == "captioning":
            self.input_shape, self.caption_length = (sizes["slots"], sizes["channels"]), sizes["words"] + 1

    def train_dataset(self):
        """Shuffled batches."""
        h = self.hparams
        arrays, batch = shapes.arrays(h["task"], h["sizes"], h["batches"]), h["sizes"]["batch"]
        return (
            self._photos(arrays, batch) if h["task"] == "captioning" else lk.AddressedDataset.from_arrays(arrays, batch)
        )

    def _photos(self, arrays, batch):
        features = tf.constant(shapes.features(self.hparams["sizes"]))
        photos, captions = map(tf.constant, (arrays["photo"], arrays["caption"]))

        def fetch(indices, epoch):
            return {
                "features": tf.gather(features, tf.gather(photos, indices)),
                "caption": tf.gather(captions, indices),
            }

        return lk.AddressedDataset.from_batches(fetch, len(captions), batch)


def make_task(task: str, sizes: dict) -> lk.TaskModule:
    """The task with these sizes."""
    if task == "dcgan":
        filters = {"generator_filters": sizes["filters"], "discriminator_filters": sizes["filters"]}
        return DCGAN(noise_dim=sizes["noise"], dropout=sizes["dropout"], **filters)
    widths = {"embedding_dim": sizes["embedding"], "units": sizes["units"], "dropout": 0.0}
    plain = {"tie_embeddings": False, "label_smoothing": 0.0}
    if task == "translation":
        return Translation(encoder_units=sizes["units"], bidirectional=False, **widths, **plain)
    if task == "captioning":
        return Captioning(**widths, **plain)
    return TextGeneration(num_layers=sizes["layers"], cell=sizes["cell"], embedding_dropout=0.0, **widths)


def train(gate, task: str, sizes: dict, steps: int, batches: int, **arguments) -> None:
    """`Trainer.fit`, default callbacks too; a row of the logs every `steps` updates."""
    fit(gate, make_task(task, sizes), Data(task, sizes, batches), steps, **arguments)


class AtLogs(lk.Callback):
    """Calls the gate when training begins and at every row of the logs, with the weight of the first loss since.

    The first stretch, which warms up, is as long as `compilation` takes to decide whether XLA compiles the updates.
    """

    def __init__(self, gate, compilation: Compilation | None):
        super().__init__()
        self._gate, self._compilation, self._before = gate, compilation, 0.0

    def on_train_begin(self, logs=None):
        self._gate()

    def on_log(self, record):
        self._gate.first_step()
        units = float(self.model.train_sums.values[0, 1])
        new_epoch = record["step"] % self.model.steps_per_epoch == 0
        if self._compilation is None or self._compilation.decided:
            self._gate(units - self._before)
        self._before = 0.0 if new_epoch else units


def fit(gate, task: lk.TaskModule, data: lk.DataModule, steps: int, **arguments) -> None:
    """`Trainer.fit` for ever; a stretch is `steps` updates."""
    compilation = Compilation()
    with tempfile.TemporaryDirectory() as folder:
        options = {"default_root_dir": folder, "max_epochs": 10**6, "log_every_n_steps": steps, **arguments}
        asks = options.get("jit_compile", "auto") == "auto"
        callbacks = [*([compilation] if asks else []), AtLogs(gate, compilation if asks else None)]
        lk.Trainer(callbacks=callbacks, **options).fit(task, data)
