"""The tasks with their presets, as the command line makes them."""

import importlib
from pathlib import Path

import yaml

from lightkeras.cli.main import TASKS
from lightkeras.utils.checks import require_choice


def read(name: str, preset: str) -> dict:
    """A task's preset: arguments of "trainer", "task" and "data"."""
    folder = Path(importlib.import_module(f"tasks.{name}").__file__).parent / "presets"
    require_choice("preset", preset, sorted(path.stem for path in folder.glob("*.yaml")))
    found = yaml.safe_load((folder / f"{preset}.yaml").read_text(encoding="utf-8"))
    arguments = {part: dict(found.get(part, {})) for part in ("trainer", "task", "data")}
    arguments["trainer"].pop("callbacks", None)
    return arguments


def make(name: str, arguments: dict):
    """The task and its data."""
    module, _, kind = TASKS[name].rpartition(".")
    task = getattr(importlib.import_module(module), kind)
    return task(**arguments["task"]), task.data_module(**arguments["data"])
