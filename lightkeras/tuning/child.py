"""The child process of a search: `python -m lightkeras.tuning.child trial | names | worker FOLDER SECONDS PARENT`."""

import sys
from pathlib import Path

from lightkeras.tuning.isolated import NAMES
from lightkeras.tuning.single import describe_error, find_metric_names, run_trial
from lightkeras.tuning.trial_files import JOB
from lightkeras.tuning.tuner import Tuner
from lightkeras.utils.files import read_json, write_json
from lightkeras.utils.processes import exit_with_parent


def main(arguments: list[str]) -> int:
    """Runs the child process; returns the exit code."""
    kind, folder, seconds, parent = arguments
    exit_with_parent(int(parent))
    run = {"trial": _run_trial, "names": _write_metric_names, "worker": _run_worker}[kind]
    return run(Path(folder), None if seconds == "None" else float(seconds))


def _run_trial(folder: Path, seconds: float | None) -> int:
    result = run_trial(folder, seconds)
    return 128 + result["signal"] if result.get("signal") else 0


def _write_metric_names(folder: Path, seconds: None) -> int:
    try:
        answer = {"names": find_metric_names(read_json(folder / JOB))}
    except Exception as error:  # of any kind: the search raises it
        answer = {"error": describe_error(error)}
    write_json(folder / NAMES, answer)
    return 0


def _run_worker(folder: Path, seconds: float | None) -> int:
    """Works on the search in a folder until its chief has no more trials."""
    tuner = Tuner.load(folder, max_time=seconds)
    tuner.search()
    return 128 + tuner.interrupted if tuner.interrupted else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
