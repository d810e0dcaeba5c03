"""Competitors in processes of their own, all alive at once, their rounds interleaved: A B C A B C ...

A competitor is a function `(gate, **settings) -> None` that works for ever and calls `gate()` between two stretches of
equal work. The gate tells the time of each stretch and waits until it is this competitor's turn again, so that never
two run at once and all of them see the machine's good and bad minutes alike.

The first stretch, in which TensorFlow traces and compiles, is timed apart. Every process counts the graphs that it
traces and the programs that XLA compiles for it, before and within the timed stretches, and tells its peak memory.
"""

import contextlib
import dataclasses
import datetime
import importlib
import importlib.util
import json
import math
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import waiting
from lightkeras.utils.checks import lightkeras_error
from lightkeras.utils.processes import module_command, module_environment

_COMPILED = re.compile(r"Compiled \S+ \d+ times, compile time")
_LOGS = {"TF_CPP_MIN_LOG_LEVEL": "0", "TF_CPP_VMODULE": "device_compilation_profiler=1"}  # XLA's compilations
_PACKAGES = {"IPython": "IPython", "torch": "PyTorch", "lightning": "PyTorch Lightning"}
_SHOWN = 30  # lines of a failed process


class Entry(NamedTuple):
    """What a competitor runs.

    Attributes:
        function: "module:function".
        settings: Its keyword arguments; JSON values.
        needs: Packages of the extra `bench`.
        onednn: Whether TensorFlow uses oneDNN's operations.
    """

    function: str
    settings: dict[str, Any] = {}
    needs: tuple[str, ...] = ()
    onednn: bool = True


@dataclasses.dataclass
class Measured:
    """What was measured of one competitor.

    Attributes:
        seconds: Of every timed stretch.
        units: What every timed stretch told the gate, or None.
        told: What else it told the gate.
        start_seconds: From the process' start until it was ready to train.
        first_seconds: Of the first stretch.
        first_step_seconds: From the first stretch's start to the end of its first step, where the competitor told it.
        peak_memory: Bytes in host memory, the most until the end.
        peak_device_memory: Bytes in a GPU's, or None.
        graphs, timed_graphs: Traced in the warm-up, and within the timed stretches.
        compilations, timed_compilations: By XLA, alike.
        waited: Shares of one more stretch, by the profiler, `{"host": ..., "device": ...}`; or None.
    """

    seconds: list[float] = dataclasses.field(default_factory=list)
    units: list[float | None] = dataclasses.field(default_factory=list)
    told: list[Any] = dataclasses.field(default_factory=list)
    start_seconds: float = 0.0
    first_seconds: float = 0.0
    peak_memory: int = 0
    peak_device_memory: int | None = None
    graphs: int = 0
    timed_graphs: int = 0
    compilations: int = 0
    timed_compilations: int = 0
    waited: dict[str, float] | None = None
    first_step_seconds: float | None = None


class Gate:
    """Times the stretches of one competitor, in its process."""

    def __init__(self):
        self._began, self._profile, self._first = None, None, None
        self._graphs = _Graphs()

    def first_step(self) -> None:
        """Says, within a stretch that begins with more than warming up, that the first step (or few) is made."""
        if self._first is None:
            self._first = time.perf_counter() - self._began

    def __call__(self, units: float | None = None, told: Any = None) -> None:
        """Ends a stretch, waits for the next turn, begins the next stretch.

        Args:
            units: What was done in it (tokens, images), where stretches differ.
            told: Whatever else is to be known of it; JSON values.
        """
        now = time.perf_counter()
        report = {"seconds": None if self._began is None else now - self._began, "units": units, "told": told}
        report["first_step"] = self._first
        if self._profile:
            report["waited"], self._profile = self._profile.shares(report["seconds"]), None
        report |= {"memory": _peak_memory(), "device_memory": _peak_device_memory(), "graphs": self._graphs.count}
        print(json.dumps(report), file=sys.__stdout__, flush=True)
        command = sys.stdin.readline()
        if not command:
            os._exit(0)  # the parent has all it wanted
        self._graphs.watch()
        if command.strip() == "profile":
            self._profile = waiting.Profile()
        self._began = time.perf_counter()


class _Graphs:
    """Counts the graphs that TensorFlow traces in this process: functions, and the parts of loops in them."""

    def __init__(self):
        self.count, self._watching = 0, False

    def watch(self) -> None:
        """Counts from here on, if TensorFlow is there."""
        if self._watching or "tensorflow" not in sys.modules:
            return
        from lightkeras.utils.internals import graph_class  # TensorFlow is imported already

        graph, self._watching = graph_class(), True
        make = graph.__init__

        def counted(instance, *args, **kwargs):
            self.count += 1
            make(instance, *args, **kwargs)

        graph.__init__ = counted


def _peak_memory() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _peak_device_memory() -> int | None:
    torch, tensorflow = sys.modules.get("torch"), sys.modules.get("tensorflow")
    if torch and torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    if tensorflow and tensorflow.config.list_logical_devices("GPU"):
        return tensorflow.config.experimental.get_memory_info("GPU:0")["peak"]
    return None


class Competitor:
    """One competitor's process, seen from the parent."""

    def __init__(self, name: str, entry: Entry, log: Path):
        command = module_command("benchmarks.harness", entry.function, json.dumps(entry.settings))
        environment = {**module_environment(), **_LOGS, "TF_ENABLE_ONEDNN_OPTS": str(int(entry.onednn))}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        began = time.perf_counter()
        self.name, self.measured, self._log, self._graphs, self._compiled = name, Measured(), log, 0, 0
        with log.open("w") as errors:
            self._process = subprocess.Popen(command, **pipes, stderr=errors, env=environment)
        try:
            self._read()
        except BaseException:
            self.stop()
            raise
        self.measured.start_seconds = time.perf_counter() - began

    def warm_up(self) -> None:
        """Lets it run a stretch that does not count; the first one is kept apart."""
        told = self._turn("run")
        self.measured.first_seconds = self.measured.first_seconds or told["seconds"]
        self.measured.first_step_seconds = told["first_step"]
        self.measured.graphs, self.measured.compilations = self._graphs, self._compiled

    def turn(self) -> None:
        """Lets it run one stretch."""
        told, measured = self._turn("run"), self.measured
        measured.seconds.append(told["seconds"])
        measured.units.append(told["units"])
        measured.told.append(told["told"])
        measured.timed_graphs = self._graphs - measured.graphs
        measured.timed_compilations = self._compiled - measured.compilations

    def profile(self) -> None:
        """Lets it run one more stretch under TensorFlow's profiler."""
        self.measured.waited = self._turn("profile")["waited"]

    def _turn(self, command: str) -> dict:
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            shown = "".join(f"\n  {line}" for line in self._log.read_text(errors="replace").splitlines()[-_SHOWN:])
            raise lightkeras_error(RuntimeError)(
                f"Expected a time from {self.name}. Received: its process ended, after these lines:{shown}"
            )
        told = json.loads(line)
        self.measured.peak_memory, self.measured.peak_device_memory = told["memory"], told["device_memory"]
        self._graphs, self._compiled = told["graphs"], len(_COMPILED.findall(self._log.read_text(errors="replace")))
        return told

    def stop(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def check_packages(entries: dict[str, Entry]) -> None:
    """Rejects competitors whose packages are not installed.

    Raises:
        ModuleNotFoundError: It names them, and the extra that has them.
    """
    for package in sorted({package for entry in entries.values() for package in entry.needs}):
        if importlib.util.find_spec(package) is None:
            names = ", ".join(name for name, entry in entries.items() if package in entry.needs)
            raise lightkeras_error(ModuleNotFoundError)(
                f"Expected {_PACKAGES[package]} for {names}: pip install 'lightkeras[bench]', or leave them out with "
                f"--only. Received: no module {package!r}"
            )


def race(
    competitors: dict[str, Any], rounds: int, warm_up: int = 1, profile: bool = False, title: str = ""
) -> dict[str, Measured]:
    """Runs interleaved stretches of each competitor, and tells on stderr which one runs.

    Args:
        competitors: An `Entry` for every name, or its `function` alone.
        rounds: Timed stretches of each.
        warm_up: Stretches of each before.
        profile: Whether one more stretch of each is profiled: the share of it spent waiting for input.
        title: What they do, for the lines on stderr.
    """
    entries = {name: one if isinstance(one, Entry) else Entry(one) for name, one in competitors.items()}
    check_packages(entries)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running = []
        for number, (name, entry) in enumerate(entries.items(), 1):
            _tell(title, f"starting {number} of {len(entries)}: {name}")
            running.append(Competitor(name, entry, folder / f"{number}.txt"))
            stack.callback(running[-1].stop)
        turns = [(f"warming up: {one.name}", one, one.warm_up) for _ in range(warm_up) for one in running]
        turns += [
            (f"round {at} of {rounds}: {one.name}", one, one.turn) for at in range(1, rounds + 1) for one in running
        ]
        turns += [(f"profiling: {one.name}", one, one.profile) for _ in range(profile) for one in running]
        _take_turns(title, turns)
    return {competitor.name: competitor.measured for competitor in running}


def _take_turns(title: str, turns: list[tuple[str, Competitor, Any]]) -> None:
    """Runs the turns; the time left is known once each competitor had a turn, and is that of its last turn each."""
    seconds: dict[str, float] = {}
    for at, (label, competitor, run) in enumerate(turns):
        left = sum(seconds.get(later.name, math.nan) for _, later, _ in turns[at:])
        _tell(title, label + ("" if math.isnan(left) else f", {datetime.timedelta(seconds=round(left))} left"))
        began = time.perf_counter()
        run()
        seconds[competitor.name] = time.perf_counter() - began


def _tell(title: str, line: str) -> None:
    print(f"{title}: {line}" if title else line, file=sys.stderr, flush=True)


def _compete(path: str, settings: str) -> None:
    """The child process: runs a competitor with a gate; what it prints goes to stderr."""
    sys.stdout = sys.stderr
    module, _, function = path.partition(":")
    getattr(importlib.import_module(module), function)(Gate(), **json.loads(settings))


if __name__ == "__main__":
    _compete(*sys.argv[1:])
