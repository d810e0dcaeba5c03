"""A trial, a question about metrics or a worker in a process of its own: a crash ends it alone, its memory is freed."""

import sys
from pathlib import Path

from lightkeras.tuning.trial_files import JOB, LOCK, LOG, RESULT, failed_result
from lightkeras.utils.files import locked, read_json, write_json
from lightkeras.utils.processes import exit_with_parent, explain_exit, run_module

NAMES = "metric_names.json"
MODULE = "lightkeras.tuning.isolated"


def run_isolated_trial(folder: Path, seconds: float | None = None) -> dict:
    """Does what `run_trial` does, in a process of its own, to which SIGINT and SIGTERM are forwarded.

    If the process crashes or is killed (for its memory), the trial has failed, with the reason.
    """
    code, received = run_module(MODULE, "trial", str(folder), str(seconds), log=folder / LOG)
    result = read_json(folder / RESULT)
    if result is not None:
        return result
    if received or code == 0:
        return {"status": "UNFINISHED", "signal": received}
    result = failed_result(explain_exit(code, folder / LOG))
    with locked(folder / LOCK):
        write_json(folder / RESULT, result)
    return result


def find_isolated_metric_names(folder: Path) -> list[str]:
    """Does what `find_metric_names` does for the job in `folder`, in a process of its own."""
    code, received = run_module(MODULE, "names", str(folder), "None", log=folder / LOG)
    if received:
        raise KeyboardInterrupt
    answer = read_json(folder / NAMES)
    if answer is None:
        why = explain_exit(code, folder / LOG)
        raise ChildProcessError(f"Expected a run of one batch to succeed. Received: {why}")
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer["names"]


def main(arguments: list[str]) -> int:
    """Runs the process `trial | names | worker FOLDER SECONDS PARENT`; returns the exit code."""
    kind, folder, seconds, parent = arguments
    exit_with_parent(int(parent))
    run = {"trial": _run_trial, "names": _write_metric_names, "worker": _run_worker}[kind]
    return run(Path(folder), None if seconds == "None" else float(seconds))


def _run_trial(folder: Path, seconds: float | None) -> int:
    from lightkeras.tuning.single import run_trial

    result = run_trial(folder, seconds)
    return 128 + result["signal"] if result.get("signal") else 0


def _write_metric_names(folder: Path, seconds: None) -> int:
    from lightkeras.tuning.single import describe_error, find_metric_names

    try:
        answer = {"names": find_metric_names(read_json(folder / JOB))}
    except Exception as error:  # of any kind: the search raises it
        answer = {"error": describe_error(error)}
    write_json(folder / NAMES, answer)
    return 0


def _run_worker(folder: Path, seconds: float | None) -> int:
    """Works on the search in a folder until its chief has no more trials."""
    from lightkeras.tuning.tuner import Tuner

    tuner = Tuner.load(folder, max_time=seconds)
    tuner.search()
    return 128 + tuner.interrupted if tuner.interrupted else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
