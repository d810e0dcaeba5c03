"""Several workers on this machine: started, watched, and equal to one process."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import lightkeras as lk
from lightkeras.distribution import launch, rendezvous

HERE = Path(__file__).parent.parent.parent / "helpers"
SAY = "import os, json; print('I am', json.loads(os.environ['TF_CONFIG'])['task']['index'])"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_output_is_prefixed_and_every_worker_knows_the_others(capfd):
    code = "import os; print(os.environ['TF_CONFIG'])"
    assert launch.launch(python(code), 2) == 0
    lines = sorted(capfd.readouterr().out.splitlines())
    assert [line[:4] for line in lines] == ["[0] ", "[1] "]
    first, second = (json.loads(line[4:]) for line in lines)
    assert first["cluster"] == second["cluster"] and len(set(first["cluster"]["worker"])) == 2
    assert [c["task"] for c in (first, second)] == [{"type": "worker", "index": i} for i in range(2)]


def test_one_fails_all_stop_and_its_code_is_kept(capfd):
    code = f"{SAY}; import sys, time; i = json.loads(os.environ['TF_CONFIG'])['task']['index']"
    began = time.monotonic()
    assert launch.launch(python(f"{code}; sys.exit(7) if i else time.sleep(600)"), 2) == 7
    assert time.monotonic() - began < 60
    assert "Worker 1 ended with exit code 7" in capfd.readouterr().out


def test_a_worker_that_does_not_end_is_killed(monkeypatch, tmp_path):
    monkeypatch.setattr(launch, "EXIT_SECONDS", 0.5)
    monkeypatch.chdir(tmp_path)
    stubborn = """import json, os, pathlib, signal, sys, time
if json.loads(os.environ['TF_CONFIG'])['task']['index'] == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pathlib.Path('ready').touch()
    time.sleep(600)
while not pathlib.Path('ready').exists():
    time.sleep(0.01)
sys.exit(3)"""
    assert launch.launch(python(stubborn), 2) == 3


def test_a_killed_worker_counts_as_in_a_shell():
    code = "import json, os, time; i = json.loads(os.environ['TF_CONFIG'])['task']['index']"
    assert launch.launch(python(f"{code}; os.kill(os.getpid(), 9) if i else time.sleep(600)"), 2) == 137


def test_signals_are_passed_on():
    worker = python("import time; print('started', flush=True); time.sleep(600)")
    code = f"from lightkeras.distribution import launch; import sys; sys.exit(launch.launch({worker!r}, 2))"
    with subprocess.Popen(python(code), stdout=subprocess.PIPE, text=True) as process:
        assert {process.stdout.readline() for _ in range(2)} == {"[0] started\n", "[1] started\n"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143


def test_the_strategy_is_added_unless_named():
    assert launch.add_strategy(["fit", "x"]) == ["fit", "x", "--trainer.strategy", "multi_worker"]
    assert launch.add_strategy(["fit", "--trainer.strategy=auto"]) == ["fit", "--trainer.strategy=auto"]


@pytest.mark.parametrize("arguments", [["--workers", "0", "fit"], ["--workers", "2"], ["fit"]])
def test_wrong_arguments_end_with_2(arguments):
    with pytest.raises(SystemExit) as error:
        launch.main(arguments)
    assert error.value.code == 2


# ---- training


def worker_run(out, root, *options) -> list[str]:
    return [sys.executable, str(HERE / "worker_run.py"), str(out), str(root), *options]


def result(path) -> dict:
    return json.loads(Path(path).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(one process, worker 0, worker 1, folder)."""
    folder = tmp_path_factory.mktemp("workers")
    subprocess.run(worker_run(folder / "one", folder / "one_runs"), check=True)
    assert launch.launch(worker_run(folder / "two", folder / "two_runs", "workers"), 2) == 0
    return result(folder / "one-0.json"), result(folder / "two-0.json"), result(folder / "two-1.json"), folder


def test_two_workers_train_as_one_process(trained):
    one, first, second, _ = trained
    assert len(one["losses"]) == 20 and first["losses"] == second["losses"]
    for worker in (first, second):
        np.testing.assert_allclose(worker["losses"], one["losses"], rtol=1e-5)
        np.testing.assert_allclose(worker["val_loss"], one["val_loss"], rtol=1e-5)
        for ours, theirs in zip(worker["weights"], one["weights"], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-6)


def test_two_workers_read_what_is_brought_as_one_process(trained):
    one, first, second, _ = trained
    assert len(one["forms"]) == 5 and first["forms"] == second["forms"]
    for form, expected in one["forms"].items():
        found = first["forms"][form]
        np.testing.assert_allclose(found["weights"], expected["weights"], rtol=1e-5, atol=2e-6, err_msg=form)
        assert found["validated"] == [1, 2, 3, 4, 5, 6], form  # as the first worker's time says


def test_the_chief_alone_writes(trained):
    _, first, second, folder = trained
    assert second["run_dir"] == "None"
    (run,) = (folder / "two_runs" / "classifier").iterdir()
    assert str(run) == first["run_dir"] and (run / "metrics.csv").exists()
    one = next((folder / "one_runs" / "classifier").iterdir())
    assert len((run / "metrics.csv").read_text().splitlines()) == len((one / "metrics.csv").read_text().splitlines())


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="the extra mlflow is not installed")
def test_the_chief_alone_has_a_tracker_run(trained):
    """Of two workers, one run with every update once; MLflow's files hold a line "time value step" for each."""
    (found,) = trained[-1].glob("two_runs/mlruns/*/*/metrics/loss")
    assert [int(line.split()[2]) for line in found.read_text().splitlines()] == list(range(1, 21))


def test_a_dead_worker_ends_the_others_with_an_error(tmp_path, capfd):
    began = time.monotonic()
    assert launch.launch(worker_run(tmp_path / "out", tmp_path / "runs", "workers", "die"), 2) == 137
    assert time.monotonic() - began < 200
    assert not list(tmp_path.glob("out-*.json"))


def test_a_port_in_use_is_named(tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        config = {"cluster": {"worker": [address, "127.0.0.1:1"]}, "task": {"type": "worker", "index": 0}}
        run = subprocess.run(
            worker_run(tmp_path / "out", tmp_path, "workers"),
            env={**os.environ, "TF_CONFIG": json.dumps(config)}, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    assert run.returncode and f"({address}) to be free" in run.stderr


@pytest.mark.parametrize(
    "config", [{}, {"cluster": {"worker": ["127.0.0.1:1"]}, "task": {"type": "worker", "index": 1}}]
)
def test_a_wrong_cluster_is_rejected_by_the_trainer(config, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    with pytest.raises(ValueError, match="TF_CONFIG"):
        lk.Trainer(strategy="multi_worker")


def test_no_cluster_is_rejected_by_the_trainer(monkeypatch):
    for name in ("TF_CONFIG", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="lightkeras launch"):
        lk.Trainer(strategy="multi_worker")


def test_the_trainer_waits_for_nobody(monkeypatch):
    """The workers meet in `fit`."""
    config = {"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    monkeypatch.setattr(rendezvous, "meet", lambda *arguments: pytest.fail("met in the constructor"))
    lk.Trainer(strategy="multi_worker")
