"""What memory data on a disk takes in training: the peak of a process that trains on 0.1, 1 and 10 GB of it.

A pass in a shuffled order over rows of 16 KB: a mapped array (`np.load(file, mmap_mode="r")`), and a TFRecord file.
These are made of zeros, with holes, and take no room on the disk. A text of random characters is encoded, and a small
network trained on 1,000 batches of its windows; it takes twice its size. Pairs of sentences of random words are encoded
and trained on in the same way; they take three times their size. So are captions of random words, 50 to each photo
of 64 pixels. All files are deleted afterwards.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import command, harness, report
from benchmarks.harness import Entry

FEATURES = 4096  # of a row: 16 KB of float32
DEFAULTS = {"gigabytes": "0.1,1,10", "batch": 256}
KINDS = {
    "array on disk": ("trained", {"kind": "array"}),
    "TFRecord file": ("trained", {"kind": "records"}),
    "text": ("trained_on_text", {}),
    "translation": ("trained_on_pairs", {}),
    "captioning": ("trained_on_photos", {}),
}
BLOCK, TEXT_BATCHES = 10**8, 1000  # characters that are written at once; batches of the second stretch
WORDS = 30_000  # of the pairs of sentences and the captions
CAPTIONS = 50  # of a photo


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


def trained(gate, kind: str, gigabytes: float, batch: int, root: str) -> None:
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

    data, limit = globals()[kind](Path(root), int(gigabytes * 1e9) // (4 * FEATURES)), 10
    while True:
        gate()
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        lk.Trainer(max_epochs=1, limit_train_batches=limit, **quiet).fit(Line(), data, batch_size=batch)
        limit = 1.0


def trained_on_text(gate, gigabytes: float, batch: int, root: str) -> None:
    """Encodes a text in the first stretch, and trains on windows of it in both."""
    import numpy as np

    from tasks.text_generation import TextData, TextGeneration

    letters, draw = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz .,\n", np.uint8), np.random.default_rng(0)
    path, left = Path(root, "text.txt"), int(gigabytes * 1e9)
    with path.open("wb") as file:
        while left > 0:
            file.write(letters[draw.integers(0, len(letters), min(left, BLOCK), np.uint8)].tobytes())
            left -= BLOCK
    data = TextData(str(path), batch_size=batch)
    _train(gate, root, lambda: TextGeneration(units=8, embedding_dim=8), data)


def trained_on_pairs(gate, gigabytes: float, batch: int, root: str) -> None:
    """Encodes pairs of sentences in the first stretch, and trains on them in both."""
    from tasks.translation import Translation, TranslationData

    path = Path(root, "pairs.txt")
    with path.open("w") as file:
        for texts in _sentences(gigabytes):
            file.writelines(f"{first}\t{second}\n" for first, second in zip(texts[::2], texts[1::2], strict=True))
    data = TranslationData(str(path), vocabulary_size=1000, batch_size=batch)
    _train(gate, root, lambda: Translation(units=8, encoder_units=8, embedding_dim=8), data)


def trained_on_photos(gate, gigabytes: float, batch: int, root: str) -> None:
    """Encodes captions and photos in the first stretch, and trains on them in both."""
    import numpy as np
    from PIL import Image

    from tasks.captioning import CaptionData, Captioning

    folder, photos = Path(root, "own", "images"), 0
    folder.mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(Path(root, "photo.png"))
    with (folder.parent / "captions.csv").open("w") as file:
        for texts in _sentences(gigabytes):
            for first in range(0, len(texts), CAPTIONS):
                (folder / f"{photos}.png").symlink_to(Path(root, "photo.png"))
                file.writelines(f"{photos}.png,{text}\n" for text in texts[first : first + CAPTIONS])
                photos += 1
    data = CaptionData(str(folder.parent), "small", image_size=8, vocabulary_size=1000, batch_size=batch)
    _train(gate, root, lambda: Captioning(units=8, embedding_dim=8), data)


def _sentences(gigabytes: float):
    """Yields lists of 2,000 sentences of 24 random words, the frequent ones first in the list."""
    import numpy as np

    draw, left = np.random.default_rng(0), int(gigabytes * 1e9)
    words = np.array(["".join(draw.choice(list("abcdefghijklmnopqrstuvwxyz"), 5)) for _ in range(WORDS)])
    while left > 0:
        texts = [" ".join(row) for row in words[(WORDS * draw.random((2000, 24)) ** 3).astype(int)]]
        left -= sum(map(len, texts)) + len(texts)
        yield texts


def _train(gate, root: str, make_task: Callable, data) -> None:
    import lightkeras as lk

    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "limit_val_batches": 0}
    os.environ["KERAS_HOME"], limit = root, 10
    while True:
        gate()
        lk.Trainer(max_epochs=1, limit_train_batches=limit, **quiet).fit(make_task(), data)
        limit = TEXT_BATCHES


def _entries(chosen, kind: str) -> dict[str, Entry]:
    function, settings = KINDS[kind]
    sizes = {float(text): {**settings, "batch": chosen.batch} for text in chosen.gigabytes.split(",")}
    name = f"benchmarks.memory:{function}"
    return {f"{kind}, {size:g} GB": Entry(name, {**given, "gigabytes": size}) for size, given in sizes.items()}


def measure(chosen) -> list[report.Table]:
    """One table for each kind of data."""
    every = {kind: _entries(chosen, kind) for kind in KINDS}
    kept = command.select({name: entry for entries in every.values() for name, entry in entries.items()}, chosen.only)
    tables = []
    for kind, entries in every.items():
        rows, title = {}, f"Peak memory of training: {kind}"
        for name in [name for name in entries if name in kept]:
            with tempfile.TemporaryDirectory() as root:  # here, as a competitor is killed in the end
                entry = entries[name]._replace(settings={**entries[name].settings, "root": root})
                found = harness.race({name: entry}, chosen.rounds, title=title)[name]
            rows[name] = report.Row([found.peak_memory / 1e6], report.facts(found, 1))
            print(f"{name}: {found.peak_memory / 1e6:,.0f} MB", file=sys.stderr, flush=True)  # the next may take hours
        tables += [report.Table(title, "MB", next(iter(rows)), rows)] if rows else []
    return tables


def main(arguments: list[str]) -> int:
    """Runs the benchmark; returns the exit code."""
    return command.run("memory", __doc__, DEFAULTS, arguments, measure, rounds=1)
