"""What a test file costs: seconds of processor time and peak memory; and how memory is given back between files."""

import ctypes
import gc
import json
import math
import os
import resource
import sys
import time
from pathlib import Path

import pytest
from tensorflow.python.framework import ops

METER: "pytest.StashKey[Meter]" = pytest.StashKey()
GROWTH = 0.25  # GiB: a collection takes half a second, so not every training is worth one


class Meter:
    """Measures from one `write` to the next."""

    def __init__(self):
        self._start()

    def _start(self) -> None:
        self._wall, self._processor = time.monotonic(), _processor_seconds()
        _reset_peak()

    def write(self, path: str | None, name: str) -> None:
        """Appends a line of JSON with the costs since the last call, and starts anew."""
        if path:
            costs = {
                "file": name,
                "wall_seconds": round(time.monotonic() - self._wall, 1),
                "processor_seconds": round(_processor_seconds() - self._processor, 1),
                "peak_gib": _status("VmHWM"),
                "left_gib": _status("VmRSS"),
            }
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(costs) + "\n")
        self._start()


def costliest(path: str, count: int = 10) -> list[str]:
    """Returns lines that name the files of `path` that cost most processor time, after one of all files."""
    files = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    files.sort(key=lambda one: -one["processor_seconds"])
    total, peak = (
        sum(one["processor_seconds"] for one in files),
        max((one["peak_gib"] or 0 for one in files), default=0),
    )
    head = f"{total:7.0f} s of {len(files)} files, at most {peak} GiB a process"
    return [head, *(f"{one['processor_seconds']:7.0f} s {one['file']}" for one in files[:count])]


class Memory:
    """Gives memory back."""

    def __init__(self):
        self._left = 0.0

    def free(self) -> None:
        """Collects what nothing refers to, once this process has grown by `GROWTH`; returns it where the system can.

        No function that was traced before may be differentiated afterwards.
        """
        if (_status("VmRSS") or math.inf) < self._left + GROWTH:
            return
        _forget_custom_gradients()
        gc.collect()
        if sys.platform == "linux":
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        self._left = _status("VmRSS") or 0.0


MEMORY = Memory()


def _forget_custom_gradients() -> None:
    """Empties TensorFlow's table of `tf.custom_gradient`s: it would keep every graph that has one for ever."""
    table = ops.gradient_registry._registry
    for name in [name for name in table if name.startswith("CustomGradient-")]:
        del table[name]


def _processor_seconds() -> float:
    """Seconds of processor time of this process and its ended children."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _reset_peak() -> None:
    if os.access("/proc/self/clear_refs", os.W_OK):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # 5: the peak begins at the present size


def _status(name: str) -> float | None:
    """Returns a size of this process in GiB, None where the system does not tell."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    sizes = [int(line.split()[1]) for line in lines if line.startswith(name + ":")]
    return round(sizes[0] / 2**20, 2) if sizes else None
