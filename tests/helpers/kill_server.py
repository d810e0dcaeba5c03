"""A process that has imported everything and run nothing: every training is a fork of it, without the imports.

It reads jobs from stdin, a line of JSON each, and answers each with a line: how its processes ended.
"""

import functools
import gc
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import keras

import lightkeras as lk
from helpers import toys  # noqa: F401  (the task of several workers)
from helpers.patterns import distillation
from lightkeras.callbacks.callback_list import CallbackList
from lightkeras.callbacks.limit import Limit
from lightkeras.checkpoint import archive, storage, writing
from lightkeras.cli import main as cli
from lightkeras.distribution import launch
from tasks.captioning import CaptionData, Captioning
from tasks.dcgan import DCGAN, MNISTData
from tasks.text_generation import TextData, TextGeneration
from tasks.translation import Translation, TranslationData

SETTING = {
    "max_epochs": 5, "limit_train_batches": 6, "limit_val_batches": 1, "val_check_interval": 3, "log_every_n_steps": 2,
    "checkpoint_every_n_steps": 2, "gradient_clip_val": 1.0, "deterministic": True, "jit_compile": False,
    "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0,
}  # fmt: skip
TASKS = {  # task, data, epochs between samples
    "text_generation": (
        lambda: TextGeneration(embedding_dim=6, units=8, dropout=0.3, embedding_dropout=0.2, warmup_steps=3),
        lambda: TextData("sample", seq_len=8, batch_size=4), 1,
    ),
    "dcgan": (
        lambda: DCGAN(noise_dim=4, generator_filters=2, discriminator_filters=2, dropout=0.3),
        lambda: MNISTData("sample", batch_size=4), 1,
    ),
    "translation": (
        lambda: Translation(embedding_dim=4, units=6, encoder_units=5, dropout=0.3, warmup_steps=3),
        lambda: TranslationData("sample", batch_size=4), 5,
    ),
    "captioning": (
        lambda: Captioning(embedding_dim=4, units=6, dropout=0.3, warmup_steps=3),
        lambda: CaptionData("sample", max_images=40, batch_size=4), 5,
    ),
}  # fmt: skip


def half_a_row(logger, record):
    """What a process that is killed as it writes leaves of a row."""
    with logger._path.open("a", encoding="utf-8") as file:
        file.write("1,")


def half_a_sample(writer, epoch, logs=None):
    """The same, of a picture."""
    folder = writer.run.folder / "samples"
    folder.mkdir(exist_ok=True)
    (folder / f"epoch_{epoch + 1:04d}.png").write_bytes(b"half")


POINTS = {  # where a process kills itself: as it is about to call this, after the last function, if there is one
    "update": (Limit, "on_train_batch_end", None),
    "row": (lk.callbacks.CSVLogger, "_append", half_a_row),
    "validation": (CallbackList, "on_test_batch_end", None),
    "sample": (lk.callbacks.SampleWriter, "on_epoch_end", half_a_sample),
    "epoch end": (keras.callbacks.History, "on_epoch_end", None),
    "checkpoint's bytes": (archive.HashingFile, "write", None),
    "checkpoint's flush": (storage.LocalFiles, "sync", None),
    "checkpoint's rename": (storage.LocalFiles, "commit", None),
    "after the rename": (writing, "_delete_old", None),
    "deletion of the oldest": (storage.shutil, "rmtree", None),
}


def arm(point: str, count: int, hits: str) -> None:
    """The process will kill itself as it comes to `point` for the `count`th time; a line in the file `hits` says so."""
    owner, name, leave = POINTS[point]
    real, calls = getattr(owner, name), [0]

    def counted(*args, **kwargs):
        calls[0] += 1
        if calls[0] == count:
            if leave:
                leave(*args, **kwargs)
            with open(hits, "a", encoding="utf-8") as file:
                file.write(f"{point}\n")
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    setattr(owner, name, counted)


PLAIN = "distiller"


def train(name: str, root: str) -> None:
    """Trains a task, from its last checkpoint on where there is one."""
    task, data, every = TASKS[name]
    monitor = "generator_loss" if name == "dcgan" else "loss"
    callbacks = [lk.callbacks.SampleWriter(every), lk.EarlyStopping(monitor, patience=99)]
    lk.Trainer(**SETTING, default_root_dir=root, callbacks=callbacks).fit(task(), data(), ckpt_path="auto")


def train_plain(root: str) -> None:
    """Trains a plain model: dropout, a `compute_loss`, a frozen teacher."""
    keras.utils.set_random_seed(0)
    data, setting = distillation.make_data(), {**SETTING, "gradient_clip_val": None, "steps_per_execution": 1}
    del setting["limit_train_batches"]
    pair = data.pop("x"), data.pop("y")
    lk.Trainer(**setting, default_root_dir=root).fit(distillation.build(), pair, ckpt_path="auto", **data)


def command(root: str) -> None:
    """What each process of `lightkeras launch --workers 2 fit ...` runs."""
    options = {**SETTING, "default_root_dir": root, "strategy": "multi_worker", "limit_train_batches": 1.0}
    given = [
        part for option, value in options.items() for part in (f"--trainer.{option}", json.dumps(value).strip('"'))
    ]
    code = cli.main(["fit", "helpers.toys.Classifier", "--task.dropout", "0.4", *given, "--ckpt_path", "auto"])
    if code:
        raise SystemExit(code)


def logged(path: str, work: Callable[[], None]) -> int:
    """Calls `work`, with all that it prints in the file `path`; the exit code of a process that does nothing else."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        work()
        return 0
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()


def child(job: dict, index: int, addresses: list[str]) -> int:
    """One process of a job; returns its exit code."""

    def work():
        if job["kill"] and job["kill"][0] in POINTS and index == job["victim"]:
            arm(*job["kill"], job["hits"])
        if job["workers"] > 1:
            task = {"type": "worker", "index": index}
            os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
            command(job["root"])
        else:
            (train_plain if job["task"] == PLAIN else functools.partial(train, job["task"]))(job["root"])

    return logged(job["log"], work)


def run(job: dict) -> list[int]:
    """Runs a job's processes; where one is killed, the others are too. Returns their exit codes, -9 of a killed one."""
    addresses = [f"127.0.0.1:{port}" for port in launch.free_ports(job["workers"])]
    codes = {}
    for index in range(job["workers"]):
        pid = os.fork()
        if pid == 0:
            os._exit(child(job, index, addresses))
        codes[pid] = None
    if job["kill"] and job["kill"][0] == "after":
        time.sleep(job["kill"][1])
        os.kill(pid, signal.SIGKILL)
    while None in codes.values():
        pid, status = os.waitpid(-1, 0)
        codes[pid] = os.waitstatus_to_exitcode(status)
        if codes[pid]:
            for other in (pid for pid, code in codes.items() if code is None):
                os.kill(other, signal.SIGKILL)
    return list(codes.values())


if __name__ == "__main__":
    gc.freeze()  # what the forks share stays shared, and is not searched
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)
