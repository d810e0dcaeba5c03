"""The tasks that the promise is held to, as small as they can be, and one training of each."""

import json
from itertools import product
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_digits

import lightkeras as lk
from helpers.toys import Classifier, PointsData
from lightkeras.verifier.comparison import difference, metrics_difference, state_difference
from lightkeras.verifier.short_run import ShortRun, train
from tasks.captioning import CaptionData, Captioning
from tasks.captioning.scenes import make_scenes
from tasks.dcgan import DCGAN, MNISTData
from tasks.text_generation import TextData, TextGeneration
from tasks.translation import Translation, TranslationData

STEPS = 10
TEXT = {"embedding_dim": 8, "units": 12, "dropout": 0.0, "embedding_dropout": 0.0, "warmup_steps": 5}
IMAGES = {
    "noise_dim": 6, "generator_filters": 3, "discriminator_filters": 3, "dropout": 0.0,
    "generator_learning_rate": 1e-3, "discriminator_learning_rate": 1e-3,
}  # fmt: skip
PHOTOS = {"embedding_dim": 6, "units": 8, "dropout": 0.0, "warmup_steps": 5, "attention_regularization": 0.5}
SENTENCES = {"embedding_dim": 6, "units": 8, "encoder_units": 5, "dropout": 0.0, "warmup_steps": 5}


class WithoutScores(Translation):
    """Translates nothing in validation: greedy decoding of an untrained network tells little, and takes its time."""

    score_names = ()
    monitor = ("val_loss", "min")


class WithoutCaptions(Captioning):
    """Captions nothing in validation, likewise."""

    score_names = ()
    monitor = ("val_loss", "min")


class WithoutBatchStatistics(DCGAN):
    """Normalises by the moving averages in training too, so an image does not depend on the others of its batch."""

    def adversarial_losses(self, batch, training):
        return super().adversarial_losses(batch, training=False)


TASKS = {
    "toy": lambda: Classifier(),
    "text_generation": lambda: TextGeneration(**TEXT),
    "text_generation, lstm": lambda: TextGeneration(**TEXT, cell="lstm", num_layers=2),
    "translation": lambda: WithoutScores(**SENTENCES),
    "captioning": lambda: WithoutCaptions(**PHOTOS),
    "dcgan": lambda: DCGAN(**IMAGES),
    "dcgan, alternating": lambda: DCGAN(**IMAGES, critic_steps=1),
}
WITH_BATCH_NORM = ("dcgan", "dcgan, alternating")
WITHOUT_BATCH_STATISTICS = {
    "dcgan without batch statistics": lambda: WithoutBatchStatistics(**IMAGES),
    "dcgan without batch statistics, alternating": lambda: WithoutBatchStatistics(**IMAGES, critic_steps=1),
}
SCORED = {  # of several workers only: it takes its time
    "translation, scored": lambda: Translation(**SENTENCES),
    "captioning, scored": lambda: Captioning(**PHOTOS),
}


def write_data(folder: Path) -> None:
    """Writes a text, pairs of sentences, images and photos that fill no whole number of batches."""
    sentence = "the quick brown fox jumps over the lazy dog, again and again; "
    (folder / "text.txt").write_text(sentence * 9, encoding="utf-8")
    (folder / "pairs.tsv").write_text("\n".join(_pairs()), encoding="utf-8")
    images = np.round(load_digits().images[:45] * (255 / 16)).astype(np.uint8)
    np.savez(folder / "digits.npz", x_train=images[:41], x_test=images[41:])
    _write_photos(folder)


def _write_photos(folder: Path) -> None:
    """Scenes as photos of a user's own, with captions of different lengths, and a frozen network of random weights."""
    (folder / "photos" / "images").mkdir(parents=True)
    rows = []
    for number, scene in enumerate(make_scenes(20)):
        Image.fromarray(scene.draw(32)).save(folder / "photos" / "images" / f"{number}.png")
        rows += [f"{number}.png,{text}" for text in scene.captions()[: 1 + number % 3]]
    (folder / "photos" / "captions.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    keras.utils.set_random_seed(0)
    keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(5, 4, 4)]).save(folder / "encoder.keras")


def _pairs() -> list[str]:
    """Sentences of 1 and of 6 words with others of 6 and of 1, so that tokens are spread unevenly over the rows."""
    first, second = (["".join(letters) for letters in product(consonants, "aei")] for consonants in ("bdfgk", "lmnpr"))
    shorts, longs = first * 3, [" ".join(second[(i + j) % 15] for j in range(6)) for i in range(15)]
    pairs = [(f"{word}{'stz'[i // 15]}", longs[i % 15] + " stz"[i // 15 + 1]) for i, word in enumerate(shorts)]
    return ["\t".join(pair if i % 2 else pair[::-1]) for i, pair in enumerate(pairs)]


def data_of(name: str, folder: Path) -> lk.DataModule:
    """The data of a task, in batches of 8."""
    if name == "toy":
        return PointsData()
    if name.startswith("text"):
        return TextData(str(folder / "text.txt"), seq_len=10, batch_size=8)
    if name.startswith("translation"):
        return TranslationData(
            str(folder / "pairs.tsv"), batch_size=8, min_count=1, val_fraction=0.1, test_fraction=0.05
        )
    if name.startswith("captioning"):
        return CaptionData(
            str(folder / "photos"), str(folder / "encoder.keras"), image_size=16, features_dir=str(folder / "features"),
            batch_size=8, val_fraction=0.1, test_fraction=0.1,
        )  # fmt: skip
    return MNISTData(str(folder / "digits.npz"), batch_size=8, val_fraction=0.1)


def trained(name: str, data: lk.DataModule, **cut) -> ShortRun:
    """`STEPS` updates of a task."""
    # several updates in a call end where something is logged, so these are not logged one by one
    logged = STEPS if cut.get("steps_per_execution", 1) > 1 else 1
    known = {"max_steps": STEPS, "gradient_clip_val": 0.5, "log_every_n_steps": logged, "deterministic": True}
    make = {**TASKS, **WITHOUT_BATCH_STATISTICS, **SCORED}[name]
    return train(make(), data, **known, **cut)


def assert_same(run: ShortRun, whole: ShortRun) -> None:
    """All that is left of two trainings is the same, to float rounding."""
    if run.calls == whole.calls:
        assert len(run.records) == STEPS
        assert max(metrics_difference(run.records, whole.records)) <= 1e-5
    assert max(difference(run.epochs[name], whole.epochs[name]) for name in whole.epochs) <= 1e-5
    assert max(metrics_difference(run.validations, whole.validations)) <= 1e-5
    assert run.state.keys() == whole.state.keys()
    assert max(state_difference(run, whole, floor=0.2).values()) <= 1e-5  # rtol 1e-5, atol 2e-6
    for name, value in whole.state.items():  # Adam's second moments are all below that atol
        np.testing.assert_allclose(run.state[name], value, rtol=0, atol=2e-5 * np.abs(value).max(), err_msg=name)


# ---- in other processes


def keep_rows(data: lk.DataModule) -> list[np.ndarray]:
    """The rows of every batch that training reads, from now on: a list that grows."""
    rows, make = [], data.train_dataset

    def keep(indices):
        rows.append(indices.copy())
        return indices

    def kept(indices, *others):
        return tf.ensure_shape(tf.numpy_function(keep, [indices], tf.int64), indices.shape), *others

    def train_dataset():
        dataset = make()
        load = dataset.load
        dataset.load = lambda table: load(table.map(kept))
        return dataset

    data.train_dataset = train_dataset
    return rows


def save(path: str, run: ShortRun, rows: list[np.ndarray]) -> None:
    """Writes a training and the rows that it read."""
    told = json.dumps([run.records, run.validations, run.epochs, run.calls])
    np.savez(path, told=told, rows=np.stack(rows), **run.state)


def load(path: str) -> tuple[ShortRun, np.ndarray]:
    """What `save` wrote."""
    with np.load(path) as file:
        state = {name: file[name] for name in file.files}
    told, rows = json.loads(str(state.pop("told"))), state.pop("rows")
    records, validations, epochs, calls = told
    return ShortRun(None, None, records, validations, epochs, state, calls), rows
