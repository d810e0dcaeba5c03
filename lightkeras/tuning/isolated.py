"""A trial, a question about metrics or a worker in a process of its own: a crash ends it alone, its memory is freed."""

from pathlib import Path

from lightkeras.tuning.trial_files import LOCK, LOG, RESULT, failed_result
from lightkeras.utils.checks import ArgumentError, lightkeras_error
from lightkeras.utils.files import locked, read_json, write_json
from lightkeras.utils.processes import explain_exit, run_module

NAMES = "metric_names.json"
MODULE = "lightkeras.tuning.child"


def run_isolated_trial(folder: Path, seconds: float | None, environment: dict[str, str]) -> dict:
    """Does what `run_trial` does, in a process of its own, to which SIGINT and SIGTERM are forwarded.

    If the process crashes or is killed (for its memory), the trial has failed, with the reason.
    """
    code, received = run_module(MODULE, "trial", str(folder), str(seconds), log=folder / LOG, environment=environment)
    result = read_json(folder / RESULT)
    if result is not None:
        return result
    if received or code == 0:
        return {"status": "UNFINISHED", "signal": received}
    result = failed_result(explain_exit(code, folder / LOG))
    with locked(folder / LOCK):
        write_json(folder / RESULT, result)
    return result


def find_isolated_metric_names(folder: Path, environment: dict[str, str]) -> list[str]:
    """Does what `find_metric_names` does for the job in `folder`, in a process of its own."""
    code, received = run_module(MODULE, "names", str(folder), "None", log=folder / LOG, environment=environment)
    if received:
        raise KeyboardInterrupt
    answer = read_json(folder / NAMES)
    if answer is None:
        why = explain_exit(code, folder / LOG)
        raise lightkeras_error(ChildProcessError)(f"Expected a run of one batch to succeed. Received: {why}")
    if "error" in answer:
        raise ArgumentError(answer["error"])
    return answer["names"]
