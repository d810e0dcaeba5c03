"""The README's Python runs as it stands there, and what it says of commands and files is so."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

import lightkeras as lk
from lightkeras.cli.registry import COMMANDS, benchmarks, tasks
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
    for line in "\n".join(blocks("bash") + blocks("yaml")).splitlines():
        for command, name in re.findall(r"lightkeras (\w+) (\w[\w.]*)", line):
            assert command in COMMANDS
            assert name in tasks() or name in benchmarks() or name == "package.module.Classifier"


def of_shell(script: str, folder: Path, **environment) -> subprocess.CompletedProcess:
    """Runs `script` with stand-ins for `lightkeras`, `srun` and `scontrol` that print what they are given."""
    for name in ("lightkeras", "scontrol", "srun"):
        fake = folder / name
        fake.write_text(f'#!/bin/sh\necho "{name} $*"\n[ {name} = scontrol ] || echo "${{TF_CONFIG:-}}"\nexit $CODE\n')
        fake.chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "CODE": "0", **environment}
    return subprocess.run(["/bin/sh", "-euc", script], env=environment, capture_output=True, text=True)


def test_the_kubernetes_job_builds_tf_config(tmp_path):
    service, job = yaml.safe_load_all(blocks("yaml")[0])
    spec, template = job["spec"], job["spec"]["template"]["spec"]
    (container,) = template["containers"]
    name, given = job["metadata"]["name"], {entry["name"]: entry["value"] for entry in container["env"]}
    assert service["metadata"]["name"] == name == template["subdomain"] == service["spec"]["selector"]["job-name"]
    assert service["spec"]["clusterIP"] == "None"
    assert int(given["WORKERS"]) == spec["completions"] == spec["parallelism"] and given["NAME"] == name
    assert container["command"] == ["/bin/sh", "-euc"]
    for index in range(2):
        run = of_shell(container["args"][0], tmp_path, **given, JOB_COMPLETION_INDEX=str(index))
        command, config = run.stdout.splitlines()
        assert command.endswith("--trainer.strategy multi_worker --trainer.default_root_dir /runs --ckpt_path auto")
        assert json.loads(config) == {
            "cluster": {"worker": ["shakespeare-0.shakespeare:5000", "shakespeare-1.shakespeare:5000"]},
            "task": {"type": "worker", "index": index},
        }


@pytest.mark.parametrize("code", [0, 1, 143])
def test_the_slurm_script_queues_itself_again_when_it_was_stopped(tmp_path, code):
    (script,) = (block for block in blocks("bash") if "#SBATCH" in block)
    run = of_shell(f"set +e\n{script}", tmp_path, SLURM_JOB_ID="17", CODE=str(code))
    assert run.returncode == code
    assert "--trainer.default_root_dir runs/17 --ckpt_path auto" in run.stdout
    assert ("scontrol requeue 17" in run.stdout) == (code == 143)


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets_are_what_task_and_data_take(path):
    preset = yaml.safe_load(path.read_text(encoding="utf-8"))
    lk.Trainer(**preset["trainer"])
    TextGeneration(**preset.get("task", {}))
    TextData(**preset.get("data", {}))
    assert f"`{path.stem}`" in README or path.stem == "default"
