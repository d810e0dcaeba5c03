"""Competitors in processes of their own, all alive at once, their rounds interleaved: A B C A B C ...

A competitor is a function `(gate) -> None` that trains for ever and calls `gate()` between two stretches of equal
work. The gate tells the time of each stretch and waits until it is this competitor's turn again, so that never two
run at once and all of them see the machine's good and bad minutes alike.
"""

import argparse
import datetime
import importlib
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

PACKAGES = ("lightkeras", "tensorflow", "keras", "numpy")


class Gate:
    """Times the stretches of one competitor, in its process."""

    def __init__(self):
        self._began = None

    def __call__(self) -> None:
        """Ends a stretch, waits for the next turn, begins the next stretch."""
        now = time.perf_counter()
        print(json.dumps(None if self._began is None else now - self._began), file=sys.__stdout__, flush=True)
        if not sys.stdin.readline():
            os._exit(0)  # the parent has all it wanted
        self._began = time.perf_counter()


class Competitor:
    """One competitor's process, seen from the parent."""

    def __init__(self, name: str, path: str):
        command = [sys.executable, "-m", "benchmarks.harness", path]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        began = time.perf_counter()
        self.name, self._process = name, subprocess.Popen(command, **pipes)
        self._read()
        self.start_seconds = time.perf_counter() - began
        self.seconds: list[float] = []

    def turn(self, keep: bool) -> None:
        """Lets it run one stretch; `keep` False for a warm-up."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        seconds = self._read()
        if keep:
            self.seconds.append(seconds)

    def _read(self):
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"Expected a time from {self.name}. Received: its process ended; see its error above")
        return json.loads(line)

    def stop(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait(timeout=60)


def race(competitors: dict[str, str], rounds: int, warm_up: int = 1) -> dict[str, Competitor]:
    """Runs `rounds` interleaved stretches of each competitor (name -> "module:function")."""
    running = {name: Competitor(name, path) for name, path in competitors.items()}
    for number in range(warm_up + rounds):
        for competitor in running.values():
            competitor.turn(keep=number >= warm_up)
    for competitor in running.values():
        competitor.stop()
    return running


def use_onednn(on: bool) -> None:
    """Whether TensorFlow uses oneDNN's operations in this process; called before it is imported."""
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = str(int(on))


def machine() -> dict:
    """What the figures depend on: processor, cores, versions, commit."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    return {
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions,
        "commit": commit.stdout.strip() or None,
    }


def show(title: str, unit: str, samples: dict[str, list[float]], base: str) -> None:
    """Prints medians, interquartile ranges and the ratio of each median to that of `base`."""
    table = Table(title=title, title_justify="left")
    for column in ("", f"median {unit}", "interquartile range", f"ratio to {base}"):
        table.add_column(column, justify="left" if not column else "right", no_wrap=not column)
    reference = statistics.median(samples[base])
    for name, values in samples.items():
        low, middle, high = statistics.quantiles(values, n=4)
        table.add_row(name, f"{middle:,.0f}", f"{low:,.0f} - {high:,.0f}", f"{middle / reference:.2f}")
    Console().print(table)


def write(path: Path, name: str, settings: dict, samples: dict[str, list[float]], start: dict[str, float]) -> None:
    """Writes everything that was measured as JSON."""
    report = {"benchmark": name, **machine(), "settings": settings, "start_seconds": start, "samples": samples}
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"Wrote {path}")


def options(name: str, **extra: tuple[Callable, object, str]) -> argparse.ArgumentParser:
    """A parser with the options of every benchmark."""
    parser = argparse.ArgumentParser(prog=f"lightkeras bench {name}")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each competitor, interleaved")
    parser.add_argument("--out", type=Path, default=Path(f"bench_{name}.json"), help="file for every sample")
    for option, (kind, default, text) in extra.items():
        parser.add_argument(f"--{option}", type=kind, default=default, help=text)
    return parser


def _compete(path: str) -> None:
    """The child process: runs a competitor with a gate; what it prints goes to stderr."""
    sys.stdout = sys.stderr
    module, _, function = path.partition(":")
    getattr(importlib.import_module(module), function)(Gate())


if __name__ == "__main__":
    _compete(sys.argv[1])
