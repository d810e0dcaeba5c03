"""A trial in a process of its own: its memory is given back, and a crash ends the trial alone."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from lightkeras.utils.files import JOB, LOG, RESULT, failed_result, locked, read_json, write_json

NAMES = "metric_names.json"
MODULE = "lightkeras.tuning.isolated"


def run_isolated(folder: Path, seconds: float | None = None) -> dict:
    """What `run_trial` does, in a process of its own. SIGINT and SIGTERM are passed on to it.

    A process that is killed, for its memory, or crashes, leaves a trial that has failed, with the reason.
    """
    code, received = call(MODULE, "trial", str(folder), str(seconds), log=folder / LOG)
    result = read_json(folder / RESULT)
    if result is not None:
        return result
    if received or code == 0:
        return {"status": "UNFINISHED", "signal": received}
    result = failed_result(reason(code, folder / LOG))
    with locked(folder, True, "the trial"):
        write_json(folder / RESULT, result)
    return result


def isolated_names(folder: Path) -> list[str]:
    """What `metric_names` gives for the job in `folder`, in a process of its own."""
    code, received = call(MODULE, "names", str(folder), "None", log=folder / LOG)
    if received:
        raise KeyboardInterrupt
    names = read_json(folder / NAMES)
    if names is None:
        raise ChildProcessError(f"Expected a run of one batch to succeed. Received: {reason(code, folder / LOG)}")
    if "error" in names:
        raise ValueError(names["error"])
    return names["names"]


def call(module: str, *arguments: str, log: Path) -> tuple[int, int | None]:
    """Runs `module`, which gets this process' id as its last argument; the exit code, and the signal passed on, if any.

    Args:
        module: A module that can be imported, with `main`.
        arguments: Its arguments.
        log: What it prints goes to the end of this file.
    """
    command = [sys.executable, "-m", module, *arguments, str(os.getpid())]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    with log.open("ab") as file:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                                   start_new_session=True)  # fmt: skip
        return passing_signals([process], process.wait)


def passing_signals(processes: list[subprocess.Popen], wait: Callable[[], int]) -> tuple[int, int | None]:
    """Calls `wait` while SIGINT and SIGTERM go to the processes; what it returns, and the signal received, if any."""
    received = []

    def pass_on(number, frame):
        received.append(number)
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    if threading.current_thread() is not threading.main_thread():
        return wait(), None
    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return wait(), received[0] if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def killed_by(code: int) -> bool:
    """Whether an exit code is that of a process which the system ended, as it does for memory."""
    return code in (-signal.SIGKILL, -signal.SIGABRT, -signal.SIGSEGV)


def reason(code: int, log: Path) -> str:
    """Why a process ended: the signal that killed it, or the last line that it wrote."""
    if code < 0:
        more = " (out of memory?)" if -code == signal.SIGKILL else ""
        return f"its process was ended by {signal.Signals(-code).name}{more}"
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "it wrote nothing")
    return f"its process ended with exit code {code}: {last.strip()}"[:500]


def end_with_parent(parent: int) -> None:
    """Ends this process as soon as its parent is gone: a search that is killed leaves nobody who writes its trials."""

    def watch():
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(arguments: list[str]) -> int:
    """The process of a trial: `trial | names FOLDER SECONDS PARENT`."""
    what, folder, seconds, parent = arguments
    end_with_parent(int(parent))
    from lightkeras.tuning.single import metric_names, reason_of, run_trial

    if what == "trial":
        result = run_trial(Path(folder), None if seconds == "None" else float(seconds))
        return 128 + result["signal"] if result.get("signal") else 0
    try:
        found = {"names": metric_names(read_json(Path(folder) / JOB))}
    except Exception as error:  # of whatever kind: the search tells it
        found = {"error": reason_of(error)}
    write_json(Path(folder) / NAMES, found)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
