"""What lies in the folder where a command runs: the user's own modules, never in place of ours."""

import os
import subprocess
import sys

import pytest

from lightkeras.cli.main import main

HIDING = "raise SystemExit('this module of the user is executed')\n"
OWN = """
from helpers import toys

class MyTask(toys.Classifier):
    pass
"""
BARE = """
import keras
from helpers import toys
import lightkeras as lk

class Data(lk.DataModule):
    def train_dataset(self):
        data = toys.PointsData()
        data.setup("fit")
        return data.train_dataset()

class Bare(lk.TaskModule):
    data_module = Data

    def configure_model(self, data):
        self.network = keras.layers.Dense(2)

    configure_optimizers = lambda self: keras.optimizers.SGD(0.1)
    losses_of = toys.Classifier.losses_of

    def train_step(self, batch):
        return self.minimize(self.losses_of, batch)
"""
COMMANDS = {  # the console script does not put the current folder into `sys.path`
    "script": [sys.executable, "-P", "-c", "import sys; from lightkeras.cli.main import main; sys.exit(main())"],
    "module": [sys.executable, "-m", "lightkeras"],
    "launch": [sys.executable, "-m", "lightkeras", "launch", "--workers", "1"],
}
PATHS = [path for path in sys.path if path]


@pytest.fixture
def folder(tmp_path):
    """A folder with modules of the user's named as packages of ours, and with a task of the user's own."""
    (tmp_path / "tasks.py").write_text(HIDING)
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__init__.py").write_text(HIDING)
    (tmp_path / "mymodule.py").write_text(OWN)
    return tmp_path


def run(folder, command, *arguments, paths=PATHS):
    """Runs a command in the folder."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    return subprocess.run(
        [*COMMANDS[command], *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_ours_are_used_beside_modules_of_the_same_names(folder, command):
    done = run(folder, command, "bench", "overhead", "--help")
    assert done.returncode == 0 and "usage: lightkeras bench overhead" in done.stdout, done.stderr


def test_so_they_are_where_pythonpath_names_the_folder(folder):
    done = run(folder, "script", "bench", "overhead", "--help", paths=[folder, *PATHS])
    assert done.returncode == 0 and "usage: lightkeras bench overhead" in done.stdout, done.stderr


def test_a_benchmarks_competitors_are_ours(folder):
    quick = ("--only", "tf.function loop", "--rounds", "1", "--steps", "2", "--wide_steps", "2")
    done = run(folder, "module", "bench", "overhead", *quick)
    assert done.returncode == 0 and (folder / "bench_overhead.json").exists(), done.stderr


def test_a_module_of_the_users_own_is_found(folder):
    """By `python -m`, and so by the worker that `launch` starts; the console script finds one in test_commands.py."""
    done = run(folder, "launch", "fit", "mymodule.MyTask", "--print_config")
    assert done.returncode == 0 and "class_path: mymodule.MyTask" in done.stdout, done.stdout


def test_a_class_in_a_module_that_ours_hides_is_named(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    expected = "lightkeras: error: Expected a class of your own in a module that is not named 'tasks'"
    assert main(["fit", "tasks.MyTask"]) == 2 and capsys.readouterr().err.startswith(expected)


def test_a_trial_in_a_process_of_its_own_finds_both(folder):
    search = ("--space", "{task.units: {int: [2, 3]}}", "--folder", "search", "--max_trials", "1", "--isolate", "true")
    quick = ("--trainer.max_epochs", "1", "--trainer.run_eagerly", "true", "--trainer.logger", "false")
    done = run(folder, "module", "tune", "mymodule.MyTask", *search, *quick)
    assert done.returncode == 0 and "Best: trial 0000" in done.stdout, done.stdout + done.stderr


def test_a_task_without_arguments_is_trained_and_continued(folder):
    """Neither class has a constructor, so neither has a group of options."""
    (folder / "bare.py").write_text(BARE)
    short = ("--trainer.enable_model_summary", "false", "--trainer.max_steps")
    done = run(folder, "script", "fit", "bare.Bare", *short, "1")
    assert done.returncode == 0, done.stderr
    (config,) = folder.glob("runs/bare/*/config.yaml")
    again = ("fit", "--config", str(config), "--ckpt_path", "last", *short, "2")
    refused = run(folder, "script", *again)
    assert refused.returncode == 1 and "--trust bare" in refused.stderr and "Traceback" not in refused.stderr
    done = run(folder, "script", *again, "--trust", "bare")
    assert done.returncode == 0 and "Run: " in done.stdout, done.stderr
