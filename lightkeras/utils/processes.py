"""Child processes: modules run in a process of their own, signals forwarded to them, and why they ended."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path


def module_command(module: str, *arguments: str) -> list[str]:
    """Returns the command `python -m module`, without the current folder as the first to be searched for modules."""
    return [sys.executable, "-P", "-m", module, *arguments]


def module_environment() -> dict[str, str]:
    """Returns the environment in which a child searches for modules in the folders of this process, in their order."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}


def run_module(
    module: str, *arguments: str, log: Path, environment: dict[str, str] | None = None
) -> tuple[int, int | None]:
    """Runs `python -m module`; returns the exit code, and the signal that was forwarded to it, if any.

    Args:
        module: A module that can be imported.
        arguments: Its arguments; the id of this process is appended to them (see `exit_with_parent`).
        log: The module's output is appended to this file.
        environment: More environment variables.
    """
    process = start_module(module, *arguments, log=log, environment=environment)
    return forward_signals([process], process.wait)


def start_module(
    module: str, *arguments: str, log: Path, environment: dict[str, str] | None = None
) -> subprocess.Popen:
    """Starts `python -m module` as `run_module` does; returns at once."""
    command = module_command(module, *arguments, str(os.getpid()))
    variables = {**module_environment(), **(environment or {})}
    with log.open("ab") as file:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": file}
        return subprocess.Popen(command, env=variables, start_new_session=True, **pipes)


def forward_signals(processes: list[subprocess.Popen], wait: Callable[[], int]) -> tuple[int, int | None]:
    """Calls `wait` and forwards SIGINT and SIGTERM to the processes meanwhile, those too that `wait` adds to the list.

    Returns:
        The result of `wait`, and the first signal received, or None.

    Raises:
        SystemExit: A signal came before there was a process.
    """
    received = []

    def forward(number, frame):
        received.append(number)
        if not processes:
            raise SystemExit(128 + number)
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    if threading.current_thread() is not threading.main_thread():
        return wait(), None
    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return wait(), received[0] if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def was_killed(code: int) -> bool:
    """Returns whether an exit code says that the system killed the process, as it does for memory."""
    return code in (-signal.SIGKILL, -signal.SIGABRT, -signal.SIGSEGV)


def explain_exit(code: int, log: Path) -> str:
    """Returns why a process ended: the signal that killed it, or the last line that it wrote."""
    if code < 0:
        hint = " (out of memory?)" if -code == signal.SIGKILL else ""
        return f"its process was ended by {signal.Signals(-code).name}{hint}"
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "it wrote nothing")
    return f"its process ended with exit code {code}: {last.strip()}"[:500]


def exit_with_parent(parent: int) -> None:
    """Ends this process as soon as its parent has ended, so that no child outlives a killed parent."""

    def watch():
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
