"""The pages: every command and every block of Python runs, every link leads somewhere.

A new page, command or block is found by itself. A command that cannot run here is marked in its page by a comment,
`# run whole on DATE: MACHINE`.
"""

import functools
import inspect
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import helpers.page_runner as runner
import pytest
import yaml
from helpers.pages import ROOT, anchors, blocks, commands, links, pages, text_of

import lightkeras as lk
from lightkeras.configuration import Configuration
from tasks.captioning import Captioning
from tasks.dcgan import DCGAN
from tasks.text_generation import TextData, TextGeneration
from tasks.translation import Translation

TASKS = (Captioning, DCGAN, TextGeneration, Translation)
DISTRIBUTION = Path("lightkeras/distribution/README.md")
NOT_RUN = (".", "python3", "ruff")  # of the set-up
DONE: set[str] = set()


def test_the_tests_that_the_table_names_exist():
    file, missing = "", []
    for path, name in re.findall(r"`((?:[\w/]+\.py)?)::(test_\w+)`", (ROOT / "tests/README.md").read_text()):
        file = path or file
        place = ROOT / "tests" / ("" if file.startswith("tasks/") else "lightkeras") / file
        if f"def {name}(" not in place.read_text(encoding="utf-8"):
            missing.append(f"{file}::{name}")
    assert not missing


def ids(page: Path) -> str:
    return str(page)


@pytest.fixture(scope="module", autouse=True)
def no_samples():
    """Runs write no samples: compiling the search takes longer than the rest, and the tasks' tests look at samples."""
    with pytest.MonkeyPatch.context() as patch:
        for task_class in TASKS:
            patch.setattr(task_class, "write_samples", lambda *arguments: None)
            patch.setattr(task_class, "report_sections", lambda task: [])
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory, no_samples):
    """A folder with a run of every task."""
    folder = tmp_path_factory.mktemp("runs")
    runner.make_runs(folder)
    return folder


@pytest.fixture
def workspace(runs, tmp_path, monkeypatch):
    """The folder in which a page's commands run: runs, photos, texts, and the top page's classifier.py."""
    monkeypatch.setenv("KERAS_HOME", str(runs))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(runs / "runs", tmp_path / "runs")
    runner.make_files(tmp_path)
    runner.forget_modules()
    yield tmp_path
    runner.forget_modules()


@pytest.mark.parametrize("page", [page for page in pages() if commands(page)], ids=ids)
def test_the_commands_run(page, workspace):
    for command in commands(page):
        if command.words[0] not in NOT_RUN:
            runner.run(command, DONE)


@pytest.mark.parametrize("page", [page for page in pages() if blocks(page, "python")], ids=ids)
def test_the_python_runs(page, workspace):
    names = {"__name__": "page"}
    for code in blocks(page, "python"):
        if not runner.named(code):  # a file of its own
            exec(compile(code, str(page), "exec"), names)
    if page == Path("README.md"):
        history = names["trainer"].history.history
        assert len(history["loss"]) == 5 and history["val_loss"][-1] < 0.3
        files = {path.name for path in names["trainer"].run_dir.iterdir()}
        assert files >= {"config.yaml", "metrics.csv", "checkpoints", "tensorboard"}
        assert names["task"].hparams["units"] == 64


@pytest.mark.parametrize("page", pages(), ids=ids)
def test_every_block_has_a_known_language_and_every_link_leads_somewhere(page):
    known = {code for language in ("bash", "python", "yaml", "") for code in blocks(page, language)}
    assert text_of(page).count("\n```") == 2 * len(known)
    for code in blocks(page, ""):
        assert "lightkeras " not in code  # a command needs its language, to be found
    for target in links(page):
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), f"{page}: {target}"
        assert not anchor or anchor in anchors(path.relative_to(ROOT)), f"{page}: {target}"


def test_every_folder_s_page_is_linked_from_the_top():
    linked = {(ROOT / target.partition("#")[0]).resolve() for target in links(Path("README.md"))}
    assert {ROOT / page for page in pages() if page.name == "README.md"} <= {*linked, ROOT / "README.md"}


def test_configurations_are_read():
    (code,) = blocks(Path("lightkeras/callbacks/README.md"), "yaml")
    objects = Configuration(TextGeneration, TextData).build(yaml.safe_load(code))
    assert objects.trainer.callbacks[0].patience == 3


@pytest.mark.parametrize("page", [page for page in pages() if page.name != "CHANGELOG.md"], ids=ids)
def test_the_names_exist(page):
    """`lk.NAME`, arguments of the Trainer, options, and files of the project; the changelog has old names too."""
    text = text_of(page)
    for name in re.findall(r"\blk\.((?:\w+\.)*\w+)", text):
        functools.reduce(getattr, name.split("."), lk)
    parts = {"trainer": [lk.Trainer], "task": TASKS, "data": [task_class.data_module for task_class in TASKS]}
    for part, option in re.findall(r"(?<![\w.])(?:--)?(trainer|task|data)\.(\w+)(?=[ `:=])(?<!\.py)", text):
        owners = [one for one in parts[part] if option in inspect.signature(one).parameters]
        assert owners or hasattr(lk.Trainer if part == "trainer" else lk.TaskModule, option), f"{part}.{option}"
    for option in re.findall(r"\bTrainer\((\w+)=", text):
        assert option in inspect.signature(lk.Trainer).parameters, option
    for name in re.findall(r"`((?:lightkeras|tasks|benchmarks|tests)/[\w./]+)`", text):
        assert (ROOT / name).exists(), name


# ---- several machines


def of_shell(script: str, folder: Path, **environment) -> subprocess.CompletedProcess:
    """Runs `script` with stand-ins for `lightkeras`, `srun` and `scontrol` that print what they are given."""
    for name in ("lightkeras", "scontrol", "srun"):
        fake = folder / name
        fake.write_text(f'#!/bin/sh\necho "{name} $*"\n[ {name} = scontrol ] || echo "${{TF_CONFIG:-}}"\nexit $CODE\n')
        fake.chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "CODE": "0", **environment}
    return subprocess.run(["/bin/sh", "-euc", script], env=environment, capture_output=True, text=True)


def test_the_kubernetes_job_builds_tf_config(tmp_path):
    service, job = yaml.safe_load_all(blocks(DISTRIBUTION, "yaml")[0])
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
    (script,) = (block for block in blocks(DISTRIBUTION, "bash") if "#SBATCH" in block)
    run = of_shell(f"set +e\n{script}", tmp_path, SLURM_JOB_ID="17", CODE=str(code))
    assert run.returncode == code
    assert "--trainer.default_root_dir runs/17 --ckpt_path auto" in run.stdout
    assert ("scontrol requeue 17" in run.stdout) == (code == 143)
