"""Like kill_server.py, for searches: each is a fork of this process, which has imported everything and run nothing."""

import gc
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from helpers import kill_server, toys
from lightkeras.tuning import Tuner, oracles, single
from lightkeras.utils import files

SPACE = {"task.units": {"int": [2, 8]}, "task.learning_rate": {"float": [1e-3, 1e-1, "log"]}}
TRAINER = {"deterministic": True, "num_sanity_val_steps": 0, "checkpoint_every_n_steps": 2, "run_eagerly": True}
SEARCHES = {
    "hyperband": {"trainer": {**TRAINER, "max_epochs": 2}, "factor": 2},
    "bayesian": {"trainer": {**TRAINER, "max_epochs": 1}, "initial_points": 2, "max_trials": 4},
    "grid": {"trainer": {**TRAINER, "max_epochs": 1}, "max_trials": 4},
}


def half_a_copy(earlier, folder, name):
    """Leaves the half copy of an earlier trial's run."""
    (folder / ".copy" / "half").mkdir(parents=True)


kill_server.POINTS |= {
    "file of the search": (files.os, "replace", None),
    "oracle": (oracles, "write_json", None),
    "result": (single, "write_json", None),
    "after the result": (oracles.PersistentOracle, "end_trial", None),
    "half a copy": (single, "_copy_run", half_a_copy),
}


def search(algorithm: str, folder: str) -> None:
    """Starts or resumes a search."""
    Tuner(
        toys.Classifier, SPACE, folder=folder, algorithm=algorithm, task={"dropout": 0.3}, **SEARCHES[algorithm]
    ).search()


def child(job: dict) -> int:
    """One process; returns its exit code."""

    def work():
        if job["kill"]:
            kill_server.arm(*job["kill"], job["hits"])
        search(job["algorithm"], job["folder"])

    return kill_server.logged(job["log"], work)


if __name__ == "__main__":
    gc.freeze()  # what the forks share stays shared, and is not searched
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os._exit(child(json.loads(line)))
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]), flush=True)
