"""Small runs of each version of the format, kept in `tests/golden`: `python -m helpers.golden` makes those of this one.

A run of an earlier version is never made again. After a change of the format, make those of the new version beside it.
"""

import contextlib
import functools
import os
import shutil
from pathlib import Path

import keras
import numpy as np

import lightkeras as lk
from helpers import promise
from helpers.stopping import At, Killed, kill
from lightkeras.version import __version__
from tasks.dcgan import DCGAN
from tasks.text_generation import TextGeneration
from tasks.translation import Translation

FOLDER = Path(__file__).parents[1] / "golden"
STEPS, KILLED_AT, SAVED_AT = 8, 5, 4
TASKS = {
    "text_generation": functools.partial(TextGeneration, **promise.TEXT),
    "dcgan": functools.partial(DCGAN, **promise.IMAGES),
    "translation": functools.partial(Translation, **promise.SENTENCES),
}
PLAIN = "plain_model"
NAMES = (*TASKS, PLAIN)


def build_model() -> keras.Model:
    """A compiled model with dropout."""
    keras.utils.set_random_seed(0)
    layers = [keras.Input((3,)), keras.layers.Dense(4, "relu"), keras.layers.Dropout(0.2), keras.layers.Dense(1)]
    model = keras.Sequential(layers, name=PLAIN)
    model.compile("adam", "mse", metrics=["mae"])
    return model


def points() -> dict:
    """Inputs (40, 3) and targets (40,), without draws."""
    x = np.sin(np.arange(120, dtype=np.float32)).reshape(40, 3)
    return {"data": (x, x.sum(axis=1)), "batch_size": 8}


def train(name: str, root: str, ckpt_path: str | None = None, callbacks=()) -> tuple[Path, keras.Model]:
    """Trains, in the folder of the data, until the end or a kill: the run's folder and the model."""
    model = TASKS[name]() if name in TASKS else build_model()
    data = {"data": promise.data_of(name, Path())} if name in TASKS else points()
    trainer = lk.Trainer(
        default_root_dir=root, max_steps=STEPS, checkpoint_every_n_steps=SAVED_AT, log_every_n_steps=2, logger="csv",
        limit_val_batches=0, num_sanity_val_steps=0, enable_progress_bar=False, enable_model_summary=False,
        jit_compile=False, callbacks=list(callbacks),
    )  # fmt: skip
    with contextlib.suppress(Killed):
        trainer.fit(model, **data, ckpt_path=ckpt_path)
    return trainer.run_dir, model


def load(name: str, run: Path) -> keras.Model:
    """The model of the run's checkpoint."""
    if name in TASKS:
        return TASKS[name].func.load_from_checkpoint(run)
    model = build_model()
    lk.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False).validate(
        model, points()["data"], ckpt_path=run
    )
    return model


def weights(model: keras.Model) -> dict[str, np.ndarray]:
    """By number: names may change."""
    return {str(number): np.asarray(value) for number, value in enumerate(model.get_weights())}


def make(folder: Path) -> None:
    """Writes data, killed runs, the weights of their checkpoints, and those of the same runs undisturbed."""
    folder.mkdir(parents=True)
    promise.write_data(folder)
    shutil.rmtree(folder / "photos")
    (folder / "encoder.keras").unlink()
    with contextlib.chdir(folder):
        for name in NAMES:
            _, model = train(name, "whole")
            np.savez_compressed(f"{name}_end.npz", **weights(model))
            run, _ = train(name, "runs", callbacks=[At(KILLED_AT, kill)])
            shutil.move(run, name)
            np.savez_compressed(f"{name}_saved.npz", **weights(load(name, Path(name))))
            (Path(name) / "report.html").unlink(missing_ok=True)
        shutil.rmtree("whole")
        shutil.rmtree("runs")


if __name__ == "__main__":
    os.environ.pop("LIGHTKERAS_DATA", None)
    make(FOLDER / __version__)
