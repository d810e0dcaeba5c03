"""The README's Python runs as it stands there, and what it says of commands and files is so."""

import re
from pathlib import Path

import pytest
import yaml

import lightkeras as lk
from lightkeras.cli import BENCHMARKS, COMMANDS, TASKS
from tasks.text_generation import TextData, TextGeneration

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PRESETS = sorted((ROOT / "tasks/text_generation/presets").glob("*.yaml"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    names = {"__name__": "example"}
    monkeypatch.setattr(lk.TaskModule, "load_from_checkpoint", lambda run: run)  # its class lies in no module here
    exec(code, names)
    history = names["trainer"].history.history
    assert len(history["loss"]) == 5 and history["val_loss"][-1] < 0.3
    assert {path.name for path in names["task"].iterdir()} >= {
        "config.yaml",
        "metrics.csv",
        "checkpoints",
        "tensorboard",
    }


def test_its_commands_exist():
    for line in "\n".join(blocks("bash")).splitlines():
        for command, name in re.findall(r"lightkeras (\w+) (\w[\w.]*)", line):
            assert command in COMMANDS
            assert name in TASKS or name in BENCHMARKS or name == "package.module.Classifier"


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets_are_what_task_and_data_take(path):
    preset = yaml.safe_load(path.read_text(encoding="utf-8"))
    lk.Trainer(**preset["trainer"])
    TextGeneration(**preset.get("task", {}))
    TextData(**preset.get("data", {}))
    assert f"`{path.stem}`" in README or path.stem == "default"
