"""Child processes: their log, how they ended, signals forwarded, and a parent that ends."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from lightkeras.utils.processes import explain_exit, forward_signals, run_module, was_killed

MODULES = {
    "prints.py": "import sys; print('hello', *sys.argv[1:])",
    "fails.py": "raise ValueError('no such thing')",
    "dies.py": "import os; os.kill(os.getpid(), 9)",
    "outlives.py": (
        "import sys, time; from lightkeras.utils.processes import exit_with_parent\n"
        "exit_with_parent(int(sys.argv[-1])); print('up', flush=True); time.sleep(60)"
    ),
}


@pytest.fixture(autouse=True)
def modules(tmp_path, monkeypatch):
    for name, text in MODULES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_the_log_and_the_exit_code(tmp_path):
    log = tmp_path / "log.txt"
    assert run_module("prints", "a", log=log) == (0, None)
    assert log.read_text() == f"hello a {os.getpid()}\n"
    code, _ = run_module("fails", log=log)
    assert explain_exit(code, log) == "its process ended with exit code 1: ValueError: no such thing"
    assert not was_killed(code)
    code, _ = run_module("dies", log=log)
    assert explain_exit(code, log) == "its process was ended by SIGKILL (out of memory?)" and was_killed(code)


def test_signals_are_forwarded():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    assert forward_signals([process], process.wait) == (-signal.SIGTERM, signal.SIGTERM)


def test_signals_reach_what_is_started_meanwhile_and_end_what_has_not_started():
    processes = []

    def wait():
        processes.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        os.kill(os.getpid(), signal.SIGTERM)
        return processes[0].wait()

    assert forward_signals(processes, wait) == (-signal.SIGTERM, signal.SIGTERM)
    with pytest.raises(SystemExit, match="143"):
        forward_signals([], lambda: os.kill(os.getpid(), signal.SIGTERM))


def test_a_child_ends_with_its_parent(tmp_path):
    start = "import sys; from pathlib import Path; from lightkeras.utils.processes import start_module\n"
    start += "print(start_module('outlives', log=Path(sys.argv[1])).pid, flush=True); sys.stdin.read()"
    log, paths = tmp_path / "log.txt", os.pathsep.join([str(tmp_path), os.getcwd()])
    parent = subprocess.Popen(
        [sys.executable, "-c", start, str(log)], env={**os.environ, "PYTHONPATH": paths},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    child = int(parent.stdout.readline())
    while not log.exists() or log.read_text() != "up\n":
        time.sleep(0.05)
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 30
    while _is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_alive(child)


def _is_alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/status", encoding="utf-8") as file:
            return "State:\tZ" not in file.read()
    except FileNotFoundError:
        return False
