"""Workers on this machine: `lightkeras launch --workers 2 fit ...` starts them as torchrun does, without TensorFlow."""

import argparse
import contextlib
import json
import socket
import subprocess
import sys
import threading
import time

from lightkeras.utils.messages import logger
from lightkeras.utils.processes import forward_signals, module_command, module_environment

EXIT_SECONDS = 30.0  # for a worker to save and exit, before it is killed


def main(arguments: list[str]) -> int:
    """Runs the command `lightkeras launch`; returns the exit code of the first worker that failed, or 0."""
    parser = argparse.ArgumentParser(prog="lightkeras launch", allow_abbrev=False)
    parser.add_argument("--workers", type=int, required=True, help="number of worker processes on this machine")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="a lightkeras command: fit TASK [options]")
    options = parser.parse_args(arguments)
    if options.workers < 1 or not options.command:
        parser.error(f"expected --workers 1 or more and a command. Received: {' '.join(arguments)}")
    return launch(module_command("lightkeras", *add_strategy(options.command)), options.workers)


def add_strategy(command: list[str]) -> list[str]:
    """Adds `--trainer.strategy multi_worker` to a command that names no strategy."""
    named = any(part.split("=")[0] == "--trainer.strategy" for part in command)
    return command if named else [*command, "--trainer.strategy", "multi_worker"]


def launch(command: list[str], workers: int) -> int:
    """Runs `command` in `workers` processes, which find each other by `TF_CONFIG`.

    Each line that they write starts with the worker's index. If a worker fails, the others get SIGTERM and, after
    `EXIT_SECONDS`, are killed. SIGINT and SIGTERM are forwarded to all workers.

    Returns:
        The exit code of the first worker that failed, or 0.
    """
    addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    processes: list[subprocess.Popen] = []
    readers: list[threading.Thread] = []

    def run() -> int:
        for index in range(workers):
            processes.append(_start(command, addresses, index))
            readers.append(threading.Thread(target=_copy_lines, args=(index, processes[index])))
            readers[index].start()
        return _wait(processes)

    try:
        return forward_signals(processes, run)[0]
    finally:
        for reader in readers:
            reader.join()


def free_ports(count: int) -> list[int]:
    """Finds `count` free local ports."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _start(command: list[str], addresses: list[str], index: int) -> subprocess.Popen:
    task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    environment = {**module_environment(), "TF_CONFIG": json.dumps(task), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, env=environment, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def _copy_lines(index: int, process: subprocess.Popen) -> None:
    with process.stdout or contextlib.nullcontext(()) as lines:
        for line in lines:
            sys.stdout.write(f"[{index}] {line.decode(errors='replace')}")
            sys.stdout.flush()


def _wait(processes: list[subprocess.Popen]) -> int:
    """Waits for all workers, or for the first that fails; then ends the others."""
    while any(process.poll() is None for process in processes):
        failed = [(index, p.returncode) for index, p in enumerate(processes) if p.poll() not in (None, 0)]
        if failed:
            index, code = failed[0]
            logger.info("Worker %d ended with exit code %d; ending the others.", index, code)
            _end(processes)
            return _to_shell_code(code)
        time.sleep(0.1)
    codes = [process.returncode for process in processes]
    return next((_to_shell_code(code) for code in codes if code), 0)


def _to_shell_code(code: int) -> int:
    """Converts Python's exit code of a process to that of a shell: 128 + the signal that ended it."""
    return 128 - code if code < 0 else code


def _end(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + EXIT_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
