"""Local workers: `lightkeras launch --workers 2 fit ...` starts them as torchrun does. It needs no TensorFlow."""

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

GRACE = 30.0  # seconds that a worker has to save and end before it is killed


def main(arguments: list[str]) -> int:
    """Starts the workers and waits; returns the exit code of the first that failed, or 0."""
    parser = argparse.ArgumentParser(prog="lightkeras launch", allow_abbrev=False)
    parser.add_argument("--workers", type=int, required=True, help="worker processes on this machine")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="a lightkeras command: fit TASK [options]")
    chosen = parser.parse_args(arguments)
    if chosen.workers < 1 or not chosen.command:
        parser.error(f"expected --workers 1 or more and a command. Received: {' '.join(arguments)}")
    return launch([sys.executable, "-m", "lightkeras", *with_strategy(chosen.command)], chosen.workers)


def with_strategy(command: list[str]) -> list[str]:
    """The command with `--trainer.strategy multi_worker`, unless it names a strategy."""
    named = any(part.split("=")[0] == "--trainer.strategy" for part in command)
    return command if named else [*command, "--trainer.strategy", "multi_worker"]


def launch(command: list[str], workers: int) -> int:
    """Runs `command` in so many processes that know one another by `TF_CONFIG`; every line has its worker's number.

    If one fails, the others are asked to end (SIGTERM) and, after `GRACE` seconds, killed. SIGINT and SIGTERM are
    passed on to all of them.
    """
    addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    processes = [_start(command, addresses, index) for index in range(workers)]
    readers = [threading.Thread(target=_copy, args=(index, process)) for index, process in enumerate(processes)]
    for reader in readers:
        reader.start()
    before = {number: signal.signal(number, _passing_on(processes)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return _wait(processes)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for reader in readers:
            reader.join()


def free_ports(count: int) -> list[int]:
    """So many ports of this machine that nobody uses now."""
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
    environment = {**os.environ, "TF_CONFIG": json.dumps(task), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, env=environment, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def _copy(index: int, process: subprocess.Popen) -> None:
    with process.stdout or contextlib.nullcontext(()) as lines:
        for line in lines:
            sys.stdout.write(f"[{index}] {line.decode(errors='replace')}")
            sys.stdout.flush()


def _passing_on(processes: list[subprocess.Popen]):
    def pass_on(number, frame):
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    return pass_on


def _wait(processes: list[subprocess.Popen]) -> int:
    """Waits for all of them, or for the first that fails; then ends the rest."""
    while any(process.poll() is None for process in processes):
        failed = [(index, p.returncode) for index, p in enumerate(processes) if p.poll() not in (None, 0)]
        if failed:
            index, code = failed[0]
            print(f"Worker {index} ended with exit code {code}; ending the others.", flush=True)
            _end(processes)
            return _exit_code(code)
        time.sleep(0.1)
    codes = [process.returncode for process in processes]
    return next((_exit_code(code) for code in codes if code), 0)


def _exit_code(code: int) -> int:
    """As a shell gives it: 128 + the signal that ended the process."""
    return 128 - code if code < 0 else code


def _end(processes: list[subprocess.Popen]) -> None:
    _passing_on(processes)(signal.SIGTERM, None)
    deadline = time.monotonic() + GRACE
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
