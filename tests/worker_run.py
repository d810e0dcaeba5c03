"""Run as one of several workers: trains the toy task and leaves its losses and weights in a file of its own."""

import json
import os
import signal
import sys

import lightkeras as lk

STEPS = 20


class Die(lk.Callback):
    """Kills this process in the middle of the run."""

    def on_log(self, record):
        if record["step"] == 10:
            os.kill(os.getpid(), signal.SIGKILL)


def main(out: str, root: str, *options: str) -> None:
    """`options`: "die" kills the second worker, "workers" trains over the cluster."""
    index = json.loads(os.environ["TF_CONFIG"])["task"]["index"] if "TF_CONFIG" in os.environ else 0
    from toys import Classifier, PointsData, Recorder

    recorder = Recorder()
    callbacks = [recorder, Die()] if "die" in options and index == 1 else [recorder]
    trainer = lk.Trainer(
        max_steps=STEPS, gradient_clip_val=0.5, log_every_n_steps=1, default_root_dir=root, callbacks=callbacks,
        strategy="multi_worker" if "workers" in options else "auto", enable_model_summary=False,
    )  # fmt: skip
    task = Classifier()
    trainer.fit(task, PointsData())
    weights = [v.numpy().tolist() for v in task.state_variables().values()]
    result = {"losses": [r["loss"] for r in recorder.logs], "val_loss": [r["val_loss"] for r in recorder.validations]}
    with open(f"{out}-{index}.json", "w", encoding="utf-8") as file:
        json.dump({**result, "weights": weights, "run_dir": str(trainer.run_dir)}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
