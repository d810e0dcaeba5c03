"""The versions and the machine that a run depends on."""

import pathlib
import platform
import re

import keras
import numpy as np
import tensorflow as tf

from lightkeras.version import __version__


def describe_versions() -> dict[str, str]:
    """Returns the versions of the packages whose code makes an update, by name."""
    return {
        "lightkeras": __version__, "tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__,
        "python": platform.python_version(),
    }  # fmt: skip


def describe_platform() -> str:
    """Returns the system: its kernel and its C library."""
    return platform.platform(terse=True)


def describe_processor() -> str:
    """Returns the kind of the processor, as the system names it."""
    told = pathlib.Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*:\s*(.*)$", told.read_text(), re.MULTILINE) if told.exists() else None
    return named[1].strip() if named else platform.processor() or platform.machine()
