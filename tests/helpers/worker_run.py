"""Run as one of several workers: leaves what it trained in files of its own."""

import importlib.util
import json
import os
import signal
import sys
from pathlib import Path

import lightkeras as lk
from lightkeras.distribution.strategies import make_worker_strategy

STEPS = 20
WORKERS_FORMS = ("tf.data, shuffled anew", "PyDataset", "TFRecords", "examples", "iterable")


class Die(lk.Callback):
    """Kills this process in the middle of the run."""

    def on_log(self, record):
        if record["step"] == 10:
            os.kill(os.getpid(), signal.SIGKILL)


def main(out: str, root: str, *options: str) -> None:
    """Trains the toy task: its losses and weights go to `OUT-INDEX.json`.

    Args:
        out: Where the results go, without what is added.
        root: Folder for runs.
        options: "die" kills the second worker, "workers" trains over the cluster.
    """
    index = json.loads(os.environ["TF_CONFIG"])["task"]["index"] if "TF_CONFIG" in os.environ else 0
    from helpers.toys import Classifier, PointsData, Recorder

    recorder = Recorder()
    callbacks = [recorder, Die()] if "die" in options and index == 1 else [recorder]
    if importlib.util.find_spec("mlflow") and "die" not in options:
        os.environ |= {"MLFLOW_TRACKING_URI": f"file:{root}/mlruns", "MLFLOW_ALLOW_FILE_STORE": "true"}
        callbacks.append(lk.callbacks.MLflowLogger())
    trainer = lk.Trainer(
        max_steps=STEPS, gradient_clip_val=0.5, log_every_n_steps=1, default_root_dir=root, callbacks=callbacks,
        strategy="multi_worker" if "workers" in options else "auto", enable_model_summary=False,
    )  # fmt: skip
    task = Classifier()
    trainer.fit(task, PointsData())
    weights = [v.numpy().tolist() for v in task.state_variables().values()]
    forms = {} if "die" in options else train_on_forms(Path(root), trainer.strategy, index)
    result = {"losses": [r["loss"] for r in recorder.logs], "val_loss": [r["val_loss"] for r in recorder.validations]}
    with open(f"{out}-{index}.json", "w", encoding="utf-8") as file:
        json.dump({**result, "weights": weights, "forms": forms, "run_dir": str(trainer.run_dir)}, file)


def train_on_forms(folder: Path, strategy, index: int) -> dict:
    """Trains on data in each form that is brought.

    The second of two workers would validate once an hour, the first after every update.

    Args:
        folder: Where TFRecord files go.
        strategy: As in `Trainer(strategy=...)`.
        index: The number of this worker.

    Returns:
        By form: the weights, and the updates at which the task was validated.
    """
    from helpers import brought_forms
    from helpers.toys import Recorder

    folder /= f"forms-{index}"
    folder.mkdir(parents=True)
    found = {}
    for form in WORKERS_FORMS:
        data, keywords = brought_forms.KEPT[form](folder)
        validation = (brought_forms.X[:8], brought_forms.Y[:8])
        recorder = Recorder()
        task, _ = brought_forms.fit(
            data, folder, {**keywords, "validation_data": validation}, strategy=strategy, max_epochs=2,
            enable_checkpointing=False, steps_per_execution=1, callbacks=[recorder],
            val_check_interval={"seconds": 3600 if index else 1e-3},
        )  # fmt: skip
        steps = [record["step"] for record in recorder.validations]
        found[form] = {"weights": brought_forms.weights(task).tolist(), "validated": steps}
    return found


def promise(out: str, folder: str, *trainings: str) -> None:
    """Trains tasks of `promise.py` over the cluster, one after the other; each goes to `OUT-INDEX-NUMBER.npz`.

    Args:
        out: Where the results go, without what is added.
        folder: The data.
        trainings: Each as JSON: [name, cut].
    """
    make_worker_strategy()  # before TensorFlow runs anything
    from helpers import promise

    index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    for number, (name, cut) in enumerate(map(json.loads, trainings)):
        data = promise.data_of(name, Path(folder))
        rows = promise.keep_rows(data)
        run = promise.trained(name, data, strategy="multi_worker", **cut)
        promise.save(f"{out}-{index}-{number}.npz", run, rows)


if __name__ == "__main__":
    promise(*sys.argv[2:]) if sys.argv[1] == "promise" else main(*sys.argv[1:])
