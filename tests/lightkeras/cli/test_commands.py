"""The command line: in this process where it can be, in one of its own where it must be."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from helpers.toys import PointsData

import lightkeras as lk
from lightkeras.cli import main as cli
from lightkeras.cli import registry

HERE = Path(__file__).parent.parent.parent / "helpers"
TOY = "helpers.toys.Classifier"
QUICK = ("--trainer.enable_model_summary", "false", "--trainer.run_eagerly", "true")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """`run(*arguments)` in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


def the_run(root="runs", task="classifier") -> Path:
    (only,) = Path(root, task).iterdir()
    return only


def error_line(found) -> str:
    """The one line that a failed command prints."""
    code, out, err = found
    assert code in (1, 2) and out == "" and err.startswith("lightkeras: error: ") and err.count("\n") == 1, found
    return err[len("lightkeras: error: ") : -1]


# ---- presets


@pytest.mark.parametrize("task", registry.tasks())
def test_the_offline_preset_trains(run, task):
    """A named preset stands alone, whatever the default one says."""
    code, out, err = run("fit", task, "--preset", "sample", "--trainer.fast_dev_run", "true", *QUICK)
    assert (code, err) == (0, "") and " val_" in out


# ---- without TensorFlow


def test_help_needs_no_tensorflow():
    script = (
        "import sys; from lightkeras.cli.main import main; code = main(['--help'])\n"
        "print(code, [name for name in ('tensorflow', 'keras', 'numpy', 'yaml') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("usage: lightkeras COMMAND TASK") and done.stdout.endswith("0 []\n")
    assert all(f"  {command}" in done.stdout for command in registry.COMMANDS) and "text_generation" in done.stdout


def test_usage(run):
    assert run() == run("-h") and run("-h")[0] == 0
    code, out, err = run("fit")
    assert (code, out) == (2, "") and err.startswith("usage: lightkeras")
    assert run("fit", "--help")[0] == 0
    assert run("--version") == (0, f"{lk.__version__}\n", "")
    for command in ("fit", "validate", "test", "predict"):
        code, out, _ = run(command, TOY, "--help")
        assert code == 0 and "--trainer.devices" in out and "--data.batch_size" in out
        assert ("--task.units" in out) == (command == "fit") and ("--out" in out) == (command == "predict")


# ---- wrong command lines


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["fitt", TOY],
            2,
            "Received: 'fitt'. Did you mean ",
        ),
        (["fit", "text_generatoin"], 2, 'Did you mean "text_generation"?'),
        (
            ["fit", "--trainer.max_epochs", "1"],
            2,
            "Expected a task, or a --config that names one as `task: {class_path: ...}`. Received: --trainer.max",
        ),
        (
            ["fit", "helpers.toys.Clasifier"],
            1,
            'Expected an importable class "package.module.Class". Received: "helpers.toys.Clasifier"',
        ),
        (
            ["fit", "helpers.toys.PointsData"],
            2,
            "Expected helpers.toys.PointsData to be a TaskModule. Received: <class 'helpers.toys.PointsData'>",
        ),
        (
            ["fit", TOY, "--trainer.max_epoch", "1"],
            2,
            'Did you mean "--trainer.max_epochs"? `lightkeras fit classifier --',
        ),
        (["fit", TOY, "--task.unit=3"], 2, 'Did you mean "--task.units"?'),
        (
            ["fit", TOY, "--trainer.max_epochs", "ten"],
            2,
            "Expected `trainer.max_epochs` to be int or None. Received: ten.",
        ),
        (["fit", TOY, "--task.units", "2.5"], 2, "Expected `task.units` to be int. Received: 2.5."),
        (
            ["fit", TOY, "--trainer.max_epochs", "0"],
            1,
            "Expected `max_epochs` to be a positive int or None. Received: max_",
        ),
        (["fit", TOY, "--trainer.precision", "bf16-mix"], 1, 'Did you mean "bf16-mixed"?'),
        (["fit", TOY, "--trainer.devices", "9"], 1, "Expected `devices` to be at most 2 (2 present: "),
        (
            ["fit", TOY, "--trainer.callbacks+=lightkeras.EarlyStoping"],
            2,
            "module 'lightkeras' has no attribute 'EarlySto",
        ),
        (["fit", TOY, "--config", "none.yaml"], 2, "none.yaml"),
        (["fit", "--config", "none.yaml"], 2, "none.yaml"),
        (["fit", "text_generation", "--preset", "sampel"], 2, 'Did you mean "sample"?'),
        (["fit", TOY, "--ckpt_path", "last"], 1, "Expected a run with a checkpoint in runs/classifier. Received: none"),
        (["test", TOY], 1, "Expected a run with a checkpoint in runs/classifier. Received: none is there"),
        (["predict", "text_generation", "--ckpt_path", "nowhere"], 1, "Received: ckpt_path='nowhere'"),
        (["predict", "text_generation", "--temperatur", "1"], 2, 'Did you mean "--temperature"?'),
        (["bench", "overhed"], 2, 'Did you mean "overhead"?'),
    ],
)
def test_a_wrong_command_is_answered_in_one_line(run, arguments, code, message):
    found = run(*arguments)
    assert found[0] == code and message in error_line(found)
    assert not Path("runs").exists()


def test_an_error_of_ours_is_a_line_and_with_debug_a_traceback(run, monkeypatch):
    monkeypatch.setattr(PointsData, "train_dataset", lk.DataModule.train_dataset)
    assert error_line(run("fit", TOY)) == "PointsData has no `train_dataset()`."
    with pytest.raises(NotImplementedError):
        run("fit", TOY, "--debug")


def test_ctrl_c_before_training_is_no_traceback(run, monkeypatch):
    def interrupted(self, stage):
        raise KeyboardInterrupt

    monkeypatch.setattr(PointsData, "setup", interrupted)
    assert run("fit", TOY) == (130, "", "lightkeras: interrupted\n")


# ---- fit, and its configuration


def test_options_reach_trainer_task_and_data(run):
    code, out, err = run(
        "fit", TOY, *QUICK, "--trainer.max_steps", 3, "--task.units=7", "--data.size", 20, "--data.batch_size", 4,
        "--trainer.max_time", "10:00:00:00", "--trainer.limit_val_batches", "0.5",
        "--trainer.val_check_interval", "10:15:00",
    )  # fmt: skip
    assert (code, err) == (0, "") and out.splitlines()[-1] == f"Run: {the_run()}"
    config = yaml.safe_load((the_run() / "config.yaml").read_text())
    assert config["task"] == {"class_path": TOY, "init_args": {"units": 7, "learning_rate": 0.05, "dropout": 0.0}}
    arguments = {"size": 20, "batch_size": 4, "shuffle": True}
    assert config["data"] == {"class_path": "helpers.toys.PointsData", "init_args": arguments}
    assert config["trainer"]["max_steps"] == 3 and config["trainer"]["max_time"] == "10:00:00:00"
    assert config["trainer"]["val_check_interval"] == "10:15:00"  # YAML alone would say 36900
    assert config["trainer"]["limit_val_batches"] == 0.5 and config["trainer"]["seed"] == 0
    assert lk.checkpoint.load_checkpoint(the_run() / "checkpoints" / "step_000000003").arrays[
        "model/0000/kernel"
    ].shape == (4, 7)


def test_print_config_is_a_config(run):
    callback = ("--trainer.callbacks+=lightkeras.EarlyStopping", "--trainer.callbacks.patience", 2)
    code, printed, _ = run("fit", TOY, "--trainer.max_steps", 2, "--task.units", 3, *callback, "--print_config")
    assert code == 0 and yaml.safe_load(printed)["task"]["init_args"]["units"] == 3
    Path("mine.yaml").write_text(printed)
    assert run("fit", TOY, "--config", "mine.yaml", "--print_config")[1] == printed
    code, _, err = run("fit", "--config", "mine.yaml", *QUICK, "--task.units", 4)  # the file names the task
    assert (code, err) == (0, "")
    config = yaml.safe_load((the_run() / "config.yaml").read_text())
    assert config["task"]["init_args"]["units"] == 4 and config["trainer"]["max_steps"] == 2
    assert config["trainer"]["callbacks"][0]["init_args"]["patience"] == 2


CALLBACKS = """
trainer:
  max_epochs: 9
  callbacks:
  - class_path: lightkeras.EarlyStopping
    init_args: {monitor: val_loss, patience: 2, min_delta: 100}
  - class_path: keras.callbacks.ReduceLROnPlateau
    init_args: {monitor: val_loss, factor: 0.5, patience: 99}
  - class_path: keras.callbacks.TerminateOnNaN
"""


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' own, of its variables
def test_callbacks_of_a_config_are_used_and_the_run_can_be_repeated(run):
    Path("stop.yaml").write_text(CALLBACKS)
    assert run("fit", TOY, *QUICK, "--config", "stop.yaml")[0] == 0
    first = the_run()
    config = yaml.safe_load((first / "config.yaml").read_text())
    paths = [callback["class_path"].rsplit(".", 1)[1] for callback in config["trainer"]["callbacks"]]
    assert paths == ["EarlyStopping", "ReduceLROnPlateau", "TerminateOnNaN"]
    assert config["trainer"]["callbacks"][1]["init_args"]["factor"] == 0.5
    assert (
        lk.checkpoint.load_checkpoint(run_last(first)).step == 15
    )  # 3 epochs: the first value, and 2 without improvement
    assert run("fit", "--config", first / "config.yaml")[0] == 0
    (again,) = set(Path("runs/classifier").iterdir()) - {first}
    assert (again / "metrics.csv").read_text() == (first / "metrics.csv").read_text()
    assert (again / "config.yaml").read_text() == (first / "config.yaml").read_text()


def run_last(run: Path) -> Path:
    return max((run / "checkpoints").iterdir())


def test_runs_never_overwrite_each_other_and_are_continued_where_asked(run):
    fit = ("fit", TOY, *QUICK, "--trainer.max_epochs")
    assert run(*fit, 1)[0] == 0 and run(*fit, 1)[0] == 0
    assert len(list(Path("runs/classifier").iterdir())) == 2
    older, newer = sorted(Path("runs/classifier").iterdir())
    assert run(*fit, 2, "--ckpt_path", "last")[0] == 0
    assert [run_last(r).name for r in (older, newer)] == ["step_000000005", "step_000000010"]
    assert run(*fit, 2, "--ckpt_path", older)[0] == 0 and run_last(older).name == "step_000000010"
    of_older = ("fit", "--config", older / "config.yaml", "--ckpt_path", "last", "--trainer.max_epochs", 3)
    assert run(*of_older)[0] == 0 and run_last(older).name == "step_000000015"
    message = error_line(run(*fit, 4, "--ckpt_path", "last", "--task.units", 9, "--trainer.seed", 3))
    assert "task.init_args.units: 5 then, 9 now; seed: 0 then, 3 now" in message
    assert run(*fit, 1, "--ckpt_path", "auto", "--trainer.default_root_dir", "new")[0] == 0
    assert run(*fit, 2, "--ckpt_path", "auto", "--trainer.default_root_dir", "new")[0] == 0
    assert run_last(the_run("new")).name == "step_000000010"


# ---- validate, test, predict


def test_a_trained_task_is_evaluated_with_its_own_data(run):
    run("fit", TOY, *QUICK, "--trainer.max_epochs", 2, "--data.size", 30, "--trainer.default_root_dir", "mine")
    history = lk.checkpoint.load_checkpoint(run_last(the_run("mine"))).state["callbacks"]["callbacks"]["History-1"][
        "history"
    ]
    root = ("--trainer.default_root_dir", "mine")
    code, out, err = run("validate", TOY, *root, "--ckpt_path", "last")
    found = dict(line.split() for line in out.splitlines())
    assert (code, err) == (0, "") and found == {
        "val_accuracy": f"{history['val_accuracy'][1]:.6f}",
        "val_loss": f"{history['val_loss'][1]:.6f}",
    }
    out = run("test", TOY, *root, "--ckpt_path", the_run("mine") / "checkpoints" / "step_000000004")[1]
    assert f"test_loss                     {history['val_loss'][0]:.6f}" in out
    Path("data.yaml").write_text("ckpt_path: last\ntrainer: {default_root_dir: mine, devices: 2}\ndata: {size: 7}\n")
    code, out, _ = run("test", TOY, "--config", "data.yaml")
    assert code == 0 and f"{history['val_loss'][1]:.6f}" not in out  # other data


def test_predictions_are_written_to_a_new_file(run):
    run("fit", TOY, *QUICK, "--trainer.max_steps", 2)
    code, out, err = run("predict", TOY, "--ckpt_path", the_run())
    assert (code, out, err) == (0, "Wrote predictions.npz: predictions (10, 2)\n", "")
    data = PointsData()
    data.setup("fit")
    task = lk.TaskModule.load_from_checkpoint(str(the_run()))
    with np.load("predictions.npz") as arrays:
        np.testing.assert_allclose(arrays["predictions"], task.network(data.x[:10]), rtol=1e-5)
    assert "Expected `--out` to be a new file. Received: --out='predictions.npz'" in error_line(run("predict", TOY))
    assert run("predict", TOY, "--out", "other.npz")[0] == 0 and Path("other.npz").exists()


# ---- tasks


OWN = """
import keras
from helpers import toys

class Twice(toys.Classifier):
    \"\"\"A task of the user's own, whose predictions are two arrays.\"\"\"

    def predict_step(self, batch):
        logits = self.network(batch["x"])
        return {"logits": logits, "choice": keras.ops.argmax(logits, -1)}
"""


def test_a_task_of_ones_own_lies_where_the_command_is_run(run):
    Path("mine.py").write_text(OWN)
    code, out, err = run("fit", "mine.Twice", *QUICK, "--trainer.max_steps", 1)
    assert (code, err) == (0, "") and the_run(task="twice").exists()
    assert run("fit", "--config", the_run(task="twice") / "config.yaml", "--trainer.fast_dev_run", "true")[0] == 0
    code, out, _ = run("predict", "mine.Twice")
    assert out == "Wrote predictions.npz: choice (10,), logits (10, 2)\n"


def test_a_task_of_an_installed_package_has_a_name(run, monkeypatch):
    point = SimpleNamespace(name="points", value="helpers.toys:Classifier", dist=None)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [point] if group == "lightkeras.tasks" else [])
    assert "points, or your own" in run("--help")[1]
    assert run("fit", "points", *QUICK, "--trainer.max_steps", 1)[0] == 0 and the_run().exists()
    assert 'Did you mean "points"?' in error_line(run("fit", "point"))


def test_text_generation_from_the_command_line(run):
    small = ("--task.embedding_dim", 4, "--task.units", 8, "--data.seq_len", 10, "--data.batch_size", 4)
    Path("text.txt").write_text("to be or not to be, that is the question; " * 12)
    fit = ("fit", "text_generation", "--preset", "sample", *small, "--data.source", "text.txt", *QUICK)
    assert run(*fit, "--trainer.max_steps", 2)[0] == 0
    there = the_run(task="text_generation")
    config = yaml.safe_load((there / "config.yaml").read_text())
    given = config["trainer"]["gradient_clip_val"], config["task"]["init_args"]["dropout"]
    assert given == (1.0, 0.1)  # of the preset
    assert (there / "samples" / "epoch_0001.txt").exists()
    code, out, err = run("predict", "text_generation", "--prompt", "to ", "--length", 9, "--num_samples", 2)
    assert (code, err) == (0, "") and [len(text) for text in out[:-1].split("\n\n---\n\n")] == [12, 12]
    assert out == run("predict", "text_generation", "--prompt", "to ", "--length", 9, "--num_samples", 2)[1]
    assert "'X'" in error_line(run("predict", "text_generation", "--prompt", "X"))
    assert "unrecognized" in error_line(run("predict", "text_generation", "--trainer.devices", 2)).lower()
    code, out, _ = run("validate", "text_generation")
    assert code == 0 and {line.split()[0] for line in out.splitlines()} == {
        "val_loss", "val_bits_per_character", "val_perplexity",
    }  # fmt: skip
    assert "has none for this" in error_line(run("test", "text_generation"))
    Path("other.txt").write_text("a text with Other characters! " * 20)
    assert error_line(run("validate", "text_generation", "--data.source", "other.txt"))
    Path("empty.txt").write_text("")
    for source, option in [("empty.txt", 10), ("missing.txt", 10), ("text.txt", 5000)]:
        assert error_line(run(*fit, "--data.source", source, "--data.seq_len", option))


# ---- a process of its own


SLOW = """
import time
from helpers import toys
import lightkeras as lk

class Slow(lk.Callback):
    def on_train_batch_end(self, batch, logs=None):
        print("update", self.model.global_step, flush=True)
        time.sleep(0.05)
"""


def test_a_signal_ends_the_command_cleanly_and_last_goes_on(run):
    """Both signals in processes that run side by side, then the runs are continued here."""
    Path("slow.py").write_text(SLOW)
    fit = ["fit", TOY, *QUICK, "--trainer.callbacks+=slow.Slow", "--trainer.default_root_dir"]
    environment = {**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent}"}
    command = [sys.executable, "-c", "import sys; from lightkeras.cli.main import main; sys.exit(main())", *fit]
    numbers = (signal.SIGINT, signal.SIGTERM)
    running = {
        number: subprocess.Popen(
            [*command, number.name], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for number in numbers
    }
    try:
        for number, process in running.items():
            assert_ends_cleanly(number, process)
    finally:
        for process in running.values():
            process.kill()
            process.communicate()
    for number in numbers:
        saved = lk.checkpoint.load_checkpoint(run_last(the_run(number.name)))
        assert saved.step >= 8 and saved.state["step"] == saved.step
        code, out, _ = run(*fit, number.name, "--ckpt_path", "last", "--trainer.max_steps", saved.step + 2)
        assert code == 0 and run_last(the_run(number.name)).name == f"step_{saved.step + 2:09d}"
        assert f"update {saved.step + 1}\n" in out and f"update {saved.step}\n" not in out


def assert_ends_cleanly(number: signal.Signals, process: subprocess.Popen) -> None:
    for line in process.stdout:
        if line.startswith("update 8"):
            process.send_signal(number)
            break
    rest = process.communicate(timeout=120)[0]
    assert process.returncode == 128 + number, rest
    assert f"Interrupted by {number.name} after update" in rest and "Traceback" not in rest


def test_a_task_is_checked_from_the_command_line(run):
    code, out, _ = run("check", TOY, "--only", "same_seed", "evaluation")
    assert code == 0 and out.count("PASS") == 2
    code, out, _ = run("check", TOY, "--only", "splits")  # its validation rows are training rows
    assert code == 1 and "FAIL" in out
    assert 'Did you mean "splits"?' in run("check", TOY, "--only", "split")[2]
